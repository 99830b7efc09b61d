"""From what a dialect understood to the canonical form and the key. What may live here: what a dialect hands over,
and the form all of them share (docs/key-spec.md); no wire format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cachelayer.core.canon import key_of, number, serialize
from cachelayer.core.host import written_host
from cachelayer.core.jsonspan import Malformed, parse
from cachelayer.core.model import Asked, Json, KeyRules, Operation, Request
from cachelayer.core.scope import places
from cachelayer.dialects.wire.envelope import header_form, query_form
from cachelayer.dialects.wire.folding import Node, without
from cachelayer.dialects.wire.media import request_taker

_MOST: Final = 1_000_000
"""A count above this is no count: it stays in the body, where it counts."""


class NotKeyed(Exception):
    """A recognised request that gets no key; the argument is the reason."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a dialect sees in a URL."""

    dialect: str
    scope: str
    endpoint: str
    model: str
    """As the path names it; empty when it does not."""
    response: str
    """``json``, ``stream`` or ``array``: what shape of answer the URL asks for."""
    query: tuple[tuple[str, str | None], ...]
    """The query without what the dialect has understood."""
    homes: Mapping[str, str]
    """Hosts that charge the list price -> whose list it is, as genai-prices calls the vendor. ``*x`` is any host that
    ends with x. A host of one's own is no other vendor's: Azure has a list of its own."""


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A folded body without what the user's ``ignore`` names in it, and which of those rules took something out."""

    body: dict[str, Json]
    took: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Understood:
    """What a dialect makes of a whole request."""

    operation: Operation
    model: str | None
    body_at: Callable[[str], Narrowed]
    """The folded body, freed of bookkeeping and count, as it counts at a host: a default that one host documents says
    nothing about another's."""
    count: int
    response: str
    refusal: str | None
    size: str | None = None
    quality: str | None = None
    tier: str | None = None
    references: int = 0
    normalized: tuple[str, ...] = ()


def parse_json(body: bytes) -> dict[str, Json]:
    """A JSON body with its long base64 strings cut out and hashed. Raises Malformed unless it is an object."""
    value = parse(body, request_taker(body))
    if not isinstance(value, dict):
        raise Malformed("not an object")
    return value


def narrowed(
    raw: dict[str, Json], rules: KeyRules, schema: Node, fold: Callable[[dict[str, Json]], dict[str, Json]]
) -> Narrowed:
    """The body's form without what the user's ``ignore`` names in it.

    A rule counts as one that took something out when the form is another one for it: naming bookkeeping, or what a
    wider rule takes anyway, widens nothing.
    """
    named = {rule: rule.removeprefix("body:").split(".") for rule in sorted(rules.ignore) if rule.startswith("body:")}
    paths = dict(sorted(named.items(), key=lambda item: len(item[1])))  # the wider ones first
    applied: list[list[str]] = []
    took = set()
    body = fold(raw)
    for rule, path in paths.items():
        if without(schema, raw, [path]) is raw:
            continue
        applied.append(path)
        before, body = body, fold(without(schema, raw, applied))
        if body != before:
            took.add(rule)
    return Narrowed(body, frozenset(took))


def count_of(value: Json) -> int | None:
    """A count as the body gives it: a plain integer of at least 1. None otherwise, and then it is no count."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    count = number(value)
    return count if isinstance(count, int) and 1 <= count <= _MOST else None


def asked(seen: Recognised, got: Understood, request: Request, rules: KeyRules) -> Asked:
    """The canonical form, its key, and what the runtime wants to know. Raises ValueError where JSON cannot say it."""
    headers, headers_took = header_form(request, rules)
    query, query_took = query_form(seen.query, rules)
    form: dict[str, Json] = {
        "namespace": rules.namespace,
        "operation": got.operation,
        "endpoint": seen.endpoint,
        "model": got.model,
        "response": got.response,
        "headers": headers,
        "query": query,
    }
    # What a setting widened is named: the form holds for those alone who set the same. Text is never normalised.
    if got.operation == "image" and rules.normalize != "prompt":
        form["normalize"] = rules.normalize

    def canonical_at(scope: Json, host: str) -> bytes:
        at = got.body_at(host)
        ignored = sorted(headers_took | query_took | at.took)
        return serialize({**form, "scope": scope, "body": at.body, **({"ignored": ignored} if ignored else {})})

    host = written_host(request.url)
    canonical, *elsewhere = (canonical_at(scope, host) for scope, host in places(seen.scope, rules.pools))
    return Asked(
        key=key_of(canonical, got.count),
        canonical=canonical,
        dialect=seen.dialect,
        operation=got.operation,
        model=got.model or "",
        scope=seen.scope,
        host=host,
        namespace=rules.namespace,
        count=got.count,
        stream=got.response != "json",
        refusal=got.refusal,
        size=got.size,
        quality=got.quality,
        tier=got.tier,
        references=got.references,
        normalized=got.normalized,
        home=_home_of(host, seen.homes),
        elsewhere=tuple(key_of(other, got.count) for other in elsewhere),
    )


def _home_of(host: str, homes: Mapping[str, str]) -> str | None:
    if host in homes:
        return homes[host]
    return next((vendor for name, vendor in homes.items() if name[:1] == "*" and host.endswith(name[1:])), None)
