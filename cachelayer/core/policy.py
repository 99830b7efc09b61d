"""Pure decisions: what is looked up, what is fresh, which headers an answer keeps. The flow orders them."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl, urlsplit

from blake3 import blake3

from cachelayer.core import credentials
from cachelayer.core.canon import KEY_VERSION
from cachelayer.core.entry import Entry
from cachelayer.core.model import Asked, Cost, Headers, Outcome, Request, Unkeyed
from cachelayer.core.money import digits
from cachelayer.core.reasons import Reason

HANDOVER_WAIT = 1.0
"""Seconds that an answer waits for its entry to be committed (DESIGN section 3, rule 5)."""

CLOCK_LEEWAY = 60.0
"""Seconds by which an entry may be younger than now: clocks are set right by this much while a program runs."""

# An entry answers other callers, over other connections, later: it keeps neither what belonged to one caller or one
# connection nor what was true only then. content-encoding, content-length and the digests describe bytes that are not
# kept. Whose account it was (openai-organization comes back with every answer), and credentials that a gateway echoes,
# are no later caller's business and are not written down.
_DROPPED = credentials.HEADERS | frozenset(
    {
        "set-cookie",
        "set-cookie2",
        "retry-after",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "proxy-authentication-info",
        "www-authenticate",
        "authentication-info",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "alt-svc",
        "content-encoding",
        "content-length",
        "content-md5",
        "content-digest",
        "repr-digest",
        "digest",
        "age",
    }
)
_WHAT_NEXT = frozenset({"retry-after", "www-authenticate"})
_DROPPED_PREFIXES = ("x-ratelimit-", "ratelimit", "x-rate-limit-", "anthropic-ratelimit-", "x-cachelayer")


def bypass_reason(asked: Asked | Unkeyed, operations: Collection[str]) -> str | None:
    """Why a request is not looked up, None when it is."""
    if isinstance(asked, Unkeyed):
        return asked.reason
    if asked.operation not in operations:
        return Reason.OPERATION_OFF
    if asked.never_cached is not None:
        return asked.never_cached
    # Streams are recognised and keyed apart, but their answers are not stored yet.
    return Reason.STREAM if asked.stream else None


def is_servable(entry: Entry, asked: Asked, key: str | None = None) -> bool:
    """Whether an entry says of itself that it answers this request under the key that was looked up (his own: None)."""
    return entry.key == (key or asked.key) and entry.namespace == asked.namespace and entry.spec == KEY_VERSION


def is_fresh(entry: Entry, now: float, ttl: float | None) -> bool:
    """Whether an entry may still be served: neither its own expiry nor today's ttl (seconds) has passed.

    The age of an entry from the future is unknown: a clock was wrong, then or now. Where age counts, it is too old.
    """
    if entry.created > now + CLOCK_LEEWAY and not (entry.expires is None and ttl is None):
        return False
    if entry.expires is not None and now >= entry.expires:
        return False
    return ttl is None or now < entry.created + ttl


def credential_of(request: Request) -> bytes:
    """A digest that is equal for requests with the same credentials. Held in memory only, never written."""
    parts = [f"{name.lower()}:{value}" for name, value in request.headers if credentials.is_header(name)]
    url = urlsplit(request.url)
    query = parse_qsl(url.query, keep_blank_values=True)
    parts += [f"?{name}:{value}" for name, value in query if credentials.is_parameter(name)]
    user, at, _ = url.netloc.rpartition("@")
    parts += [f"@{user}"] if at else []
    # Each digest has one length, so that no value can spell two.
    digests = (blake3(part.encode("utf-8", "surrogatepass")).digest() for part in parts)
    return blake3(b"".join(sorted(digests))).digest()


def kept_headers(headers: Headers, *, failed: bool = False) -> Headers:
    """The headers of an answer that an entry keeps and a joiner gets.

    failed: of an answer that is shared because it failed; it also says what to do next.
    """
    return tuple(
        (name, value)
        for name, value in headers
        if (name.lower() not in _DROPPED and not name.lower().startswith(_DROPPED_PREFIXES))
        or (failed and name.lower() in _WHAT_NEXT)
    )


def answer_headers(
    outcome: Outcome,
    *,
    key: str | None = None,
    age: float | None = None,
    saved: Cost | None = None,
    reason: str | None = None,
) -> Headers:
    """The headers that cachelayer adds to an answer (DESIGN section 7)."""
    added = [("x-cachelayer", outcome.value)]
    if key is not None:
        added.append(("x-cachelayer-key", key))
    if age is not None:
        added.append(("age", str(max(0, int(age)))))
    if saved is not None and saved.usd is not None:
        added.append(("x-cachelayer-saved-usd", digits(saved.usd)))
    if reason is not None:
        added.append(("x-cachelayer-reason", reason))
    return tuple(added)
