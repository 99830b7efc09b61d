"""From what a dialect understood to the canonical form and the key. What may live here: what a dialect hands over,
and the form all of them share (docs/key-spec.md); no wire format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cachelayer.core.canon import key_of, number, serialize
from cachelayer.core.host import written_host
from cachelayer.core.jsonspan import Malformed, parse
from cachelayer.core.model import Asked, Json, KeyRules, Operation, Request
from cachelayer.dialects.envelope import header_form, pooled, query_form
from cachelayer.dialects.media import request_taker
from cachelayer.dialects.schema import without

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


@dataclass(frozen=True, slots=True)
class Understood:
    """What a dialect makes of a whole request. body is the folded body, freed of bookkeeping and count."""

    operation: Operation
    model: str | None
    body: dict[str, Json]
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


def without_ignored(raw: dict[str, Json], rules: KeyRules) -> dict[str, Json]:
    """A raw body without what the user's ``ignore`` names in it."""
    for rule in rules.ignore:
        if rule.startswith("body:"):
            raw = without(raw, rule.removeprefix("body:").split("."))
    return raw


def count_of(value: Json) -> int | None:
    """A count as the body gives it: a plain integer of at least 1. None otherwise, and then it is no count."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    count = number(value)
    return count if isinstance(count, int) and 1 <= count <= _MOST else None


def asked(seen: Recognised, got: Understood, request: Request, rules: KeyRules) -> Asked:
    """The canonical form, its key, and what the runtime wants to know. Raises ValueError where JSON cannot say it."""
    canonical = serialize(
        {
            "namespace": rules.namespace,
            "scope": pooled(seen.scope, rules),
            "operation": got.operation,
            "endpoint": seen.endpoint,
            "model": got.model,
            "response": got.response,
            "body": got.body,
            "headers": header_form(request, rules),
            "query": query_form(seen.query, rules),
        }
    )
    return Asked(
        key=key_of(canonical, got.count),
        canonical=canonical,
        dialect=seen.dialect,
        operation=got.operation,
        model=got.model or "",
        scope=seen.scope,
        host=written_host(request.url),
        namespace=rules.namespace,
        count=got.count,
        stream=got.response != "json",
        refusal=got.refusal,
        size=got.size,
        quality=got.quality,
        tier=got.tier,
        references=got.references,
        normalized=got.normalized,
    )
