"""The nouns of cachelayer, frozen. Only data lives here: no I/O, no clock, no decision.

The words are those of docs/architecture.md; one word has one meaning in code, CLI, docs and JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

Headers = tuple[tuple[str, str], ...]
"""Header fields in wire order, names as they were spelled; compare names case-insensitively."""

Operation = Literal["image", "text", "embedding"]
Pricing = Literal["exact", "estimated", "unpriced"]
Normalize = Literal["prompt", "exact", "loose"]


class Outcome(StrEnum):
    """How a request ended. Exactly one per request."""

    HIT = "HIT"
    """Answered from a stored entry without waiting for a flight."""
    MISS = "MISS"
    """Started a flight that was answered, whatever the status."""
    COALESCED = "COALESCED"
    """Answered by somebody else's flight, in this process or another."""
    STALE = "STALE"
    """Answered by an expired entry because the provider failed."""
    BYPASS = "BYPASS"
    """Not looked up."""
    ERROR = "ERROR"
    """No good answer: the forward raised or was cut off, or the joined flight failed."""


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Request:
    """One HTTP request as a client library is about to send it. Its repr shows no value that may be a secret.

    method: the verb, in any case (``post`` is ``POST``: google-genai spells it in lower case).
    url: absolute, with its query.
    headers: a mapping, or pairs when a name repeats.
    body: the bytes to be sent; a str is taken as UTF-8.
    """

    method: str
    url: str
    headers: Headers
    body: bytes

    def __init__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | str = b"",
    ) -> None:
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        object.__setattr__(self, "method", method.upper())
        object.__setattr__(self, "url", str(url))
        object.__setattr__(self, "headers", tuple((str(name), str(value)) for name, value in pairs))
        object.__setattr__(self, "body", body.encode() if isinstance(body, str) else bytes(body))

    def __repr__(self) -> str:
        # Requests end up in logs and tracebacks; credentials stand in headers, query, userinfo, and who knows where in
        # the body.
        scheme, mark, rest = self.url.partition("://")
        place = (rest if mark else scheme).partition("?")[0].rpartition("@")[2]
        return f"Request({self.method} {place}, {len(self.headers)} headers, {len(self.body)} bytes)"

    def header(self, name: str) -> str | None:
        """The first value of a header, None when it is absent."""
        return first_header(self.headers, name)


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """A whole answer: status, headers, and the DECODED body (no content-encoding), byte for byte."""

    status: int
    headers: Headers
    body: bytes

    def __repr__(self) -> str:
        return f"Answer({self.status}, {len(self.headers)} headers, {len(self.body)} bytes)"

    def header(self, name: str) -> str | None:
        """The first value of a header, None when it is absent."""
        return first_header(self.headers, name)


def first_header(headers: Headers, name: str) -> str | None:
    wanted = name.lower()
    return next((value for key, value in headers if key.lower() == wanted), None)


@dataclass(frozen=True, slots=True)
class KeyRules:
    """What the user's settings say about keys. Part of no key themselves; their effects are."""

    namespace: str = "default"
    normalize: Normalize = "prompt"
    pools: tuple[tuple[str, ...], ...] = ()
    """Groups of scopes whose entries are looked up for each other's requests; a first member may be ``name:NAME``."""
    ignore: tuple[str, ...] = ()
    """``header:NAME``, ``query:NAME`` and ``body:dotted.path``: left out of the key at the user's word."""
    max_body: int = 512_000_000
    """Bytes; a larger request body is forwarded without being read."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a recognised request asks for, and the key under which its answer is kept."""

    key: str
    """64 hex digits: BLAKE3-256 of the canonical request under the key-spec version."""
    canonical: bytes
    """The canonical request, count taken out: JSON, sorted keys, UTF-8 (docs/key-spec.md)."""
    dialect: str
    operation: Operation
    model: str
    scope: str
    """Where the answer comes from: host[:port][/prefix][/locations/L]."""
    host: str
    """host[:port] as in the URL (core/host.py): what prices and reports go by."""
    namespace: str
    count: int
    """Images asked for (n, candidateCount)."""
    stream: bool
    never_cached: str | None
    """Why this request is never cached (``stateful``, ``reference-unknown``), None when it may be."""
    size: str | None = None
    """The size as asked for (``1024x1024``, ``2K``), None when omitted. For prices, logs and reports."""
    quality: str | None = None
    tier: str | None = None
    """The service tier as asked for, lower case; None when omitted. It changes the price, not the key."""
    references: int = 0
    """Number of reference images in the request, masks included."""
    normalized: tuple[str, ...] = ()
    """The normalisation steps that changed the prompt: of ``nfc``, ``crlf``, ``strip``, ``collapse``."""
    home: str | None = None
    """The vendor whose own host was asked (``google``), so that its list price is what is charged; None elsewhere."""
    elsewhere: tuple[str, ...] = ()
    """The keys under which other members of a pool would have the answer, in the order in which they are asked."""


@dataclass(frozen=True, slots=True)
class Unkeyed:
    """A request that gets no key, and why (``unrecognised``, ``malformed``, ``body-too-large``, ...)."""

    reason: str
    dialect: str | None = None
    host: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens an answer was billed for, as its usage block says. None: the block does not say.

    The kinds are disjoint: text_* excludes image_* and other_*, whatever the provider's sums do. A kind is known where
    the block names it; text and image are 0 where the named kinds account for the whole. What text, image and other
    leave of a total is of no known kind: a remainder is never put down as one.
    """

    text_in: int | None = None
    image_in: int | None = None
    cached_in: int | None = None
    """Input tokens read from the provider's own cache; they are part of total_in and of their kind."""
    text_out: int | None = None
    """Text and thinking tokens. None where thinking tokens alone are named."""
    image_out: int | None = None
    total_out: int | None = None
    """All output tokens, known even where the split into kinds is not."""
    total_in: int | None = None
    detailed: bool = False
    """Whether the block itself told image output from other output."""
    tier: str | None = None
    """The service tier the answer names, lower case (``standard``, ``flex``, ``batch``, ``on_demand_flex``, ...)."""
    other_in: int | None = None
    """Audio, video, documents: kinds without a field of their own. None where the block names none."""
    other_out: int | None = None
    cached_text_in: int | None = None
    """cached_in by kind, likewise."""
    cached_image_in: int | None = None
    cached_other_in: int | None = None
    overfull: bool = False
    """Whether the block names more tokens by kind than it says there are: no figure of it can be believed."""
    adds_up: bool = True
    """Whether the block's total of everything, where it has one, is the sum of its input and output."""


@dataclass(frozen=True, slots=True)
class Span:
    """A base64 string inside an answer's body: body[start:end], without its quotation marks.

    Its decoded bytes encode back to exactly body[start:end], so that it can be kept as a blob.
    """

    start: int
    end: int
    mime: str
    """By its content; as the answer names it where that is no known image, else ``application/octet-stream``."""
    image: bool
    """One of the images that were paid for (not a thought's draft, not a signature)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a dialect makes of an answer: good or why not, what was billed, where its images lie."""

    refusal: str | None
    """None: good, may be stored. Else the reason: ``status-429``, ``blocked``, ``truncated``, ``no-image``,
    ``incomplete``, ``not-an-image``, ``image-url``."""
    images: int = 0
    """Images that were delivered whole, in an answer that is not good too: they were paid for."""
    usage: Usage | None = None
    spans: tuple[Span, ...] = ()
    """In body order, none overlapping; only strings of 1 KB and more are worth a blob."""
    size: str | None = None
    """The size the answer names, when it does."""
    quality: str | None = None
    model: str | None = None
    """The model the answer names: what the asked alias stood for."""
    cost: Decimal | None = None
    """USD, exactly as the answer itself says it: between 0 and 1,000,000. None when it does not say."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one forwarded request cost."""

    usd: Decimal | None
    """None exactly when pricing is ``unpriced``: unknown is never 0."""
    pricing: Pricing
    reason: str
    """Where the figure comes from, or why there is none: one short phrase."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What one forwarded request cost, and what must be known to say what its answer saves another who asks the same:
    he may have asked elsewhere, or in another tier."""

    cost: Cost | None
    """None: nothing was billed."""
    listed: Cost | None
    """The list price on that day, as if the host charged it; None where that is ``cost``."""
    scope: str
    """Where it was paid, and the host of it."""
    host: str
    images: int
    size: str | None
    """As the answer names it, else as asked for."""
    tier: str | None
    """The service tier, likewise."""
    asked_tier: str | None


@dataclass(frozen=True, slots=True)
class Pass:
    """A request that is not looked up, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done for one request: settings resolved once. The flow asks the plan, and never a setting. In seconds."""

    ttl: float | None
    hedge_after: float
    finish_timeout: float


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the ledger: how one request ended. No prompt text, no credential.

    Times are unix seconds, durations seconds, money USD.
    """

    outcome: Outcome
    at: float
    namespace: str
    operation: str = ""
    """"" when no dialect recognised the request."""
    model: str = ""
    size: str | None = None
    """As asked for; None when it was omitted."""
    host: str = ""
    key: str | None = None
    reason: str | None = None
    """Why it was not cached or not stored."""
    status: int | None = None
    upstream: int = 0
    """Requests forwarded to the provider by this one."""
    spent: Cost | None = None
    """What those cost; None when nothing was forwarded, or nothing was billed (the forward failed)."""
    saved: Cost | None = None
    """What the answer would have cost this caller; only on HIT and COALESCED."""
    images: int = 0
    """Images in the answer that was handed over."""
    wait: float = 0.0
    """From the caller's ask to his answer."""
    latency: float | None = None
    """How long the provider took for the answer that was handed over, when it was first made."""
    broken: int = 0
    """Entries found damaged on the way."""
    normalized: tuple[str, ...] = ()
    tags: tuple[str, ...] = field(default=())
    call: str | None = None
    """The id under which the ledger knows that its forward was begun; None when it does not."""


Json = Any
"""A parsed JSON value. Any, because every use narrows it at once."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that the runtime goes by."""

    keys: KeyRules
    operations: tuple[Operation, ...]
    ttl: float | None
    finish_timeout: float
    hedge_after: float
    drain_timeout: float
