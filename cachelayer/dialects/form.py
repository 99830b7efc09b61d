"""From a recognised request to its canonical form and key. What may live here: the order in which that is done, the
same for every wire format (docs/key-spec.md), and no format's names.

What is never cached, and how many are asked for, goes by the whole body; the form by what the user lets count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from cachelayer.core.canon import key_of, number, serialize
from cachelayer.core.host import written_host
from cachelayer.core.jsonspan import Malformed, parse
from cachelayer.core.model import Asked, Json, KeyRules, Request
from cachelayer.core.prompt import normalize
from cachelayer.core.reasons import Reason
from cachelayer.core.scope import places
from cachelayer.dialects.dialect import Dialect, Facts, NotKeyed, Recognised
from cachelayer.dialects.wire.envelope import content_type, header_form, is_json, query_form
from cachelayer.dialects.wire.folding import without
from cachelayer.dialects.wire.media import request_taker

_MOST: Final = 1_000_000
"""A count above this is no count: it stays in the body, where it counts."""


def json_body(request: Request) -> dict[str, Json]:
    """A JSON body with its long base64 strings cut out and hashed. Raises NotKeyed for another type of content,
    Malformed for what is no object."""
    if not is_json(content_type(request.headers)):
        raise NotKeyed(Reason.CONTENT_TYPE)
    value = parse(request.body, request_taker(request.body))
    if not isinstance(value, dict):
        raise Malformed("not an object")
    return value


def count_of(value: Json) -> int | None:
    """A count as the body gives it: a plain integer of at least 1. None otherwise, and then it is no count."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    count = number(value)
    return count if isinstance(count, int) and 1 <= count <= _MOST else None


@dataclass(frozen=True, slots=True)
class _Narrowed:
    """A body as it counts: without what the user's ``ignore`` names in it, and which of those rules took something
    out."""

    body: dict[str, Json]
    model: str | None
    took: frozenset[str] = frozenset()
    normalized: tuple[str, ...] = ()


def asked(dialect: Dialect, seen: Recognised, request: Request, rules: KeyRules) -> Asked:
    """The canonical form, its key, and what the runtime wants to know. Raises NotKeyed, and ValueError where the body
    is malformed or JSON cannot say its form."""
    raw = dialect.parse(seen, request)
    facts = dialect.facts(seen, dialect.fold(seen, raw))
    headers, headers_took = header_form(request, rules)
    query, query_took = query_form(seen.query, rules)
    form: dict[str, Json] = {
        "namespace": rules.namespace,
        "operation": facts.operation,
        "endpoint": seen.endpoint,
        "response": facts.response,
        "headers": headers,
        "query": query,
    }
    # What a setting widened is named: the form holds for those alone who set the same. Text is never normalised.
    if facts.operation == "image" and rules.normalize != "prompt":
        form["normalize"] = rules.normalize

    @cache
    def counting(defaults: tuple[tuple[str, Json], ...]) -> _Narrowed:
        got = _narrowed(dialect, seen, raw, facts, rules, dict(defaults))
        return _normalized(dialect, got, rules) if facts.operation == "image" else got

    def at(host: str) -> _Narrowed:
        return counting(tuple(dialect.defaults(seen, host).items()))

    def canonical_at(scope: Json, host: str) -> bytes:
        here = at(host)
        ignored = sorted(headers_took | query_took | here.took)
        own = {"scope": scope, "model": here.model, "body": here.body}
        return serialize({**form, **own, **({"ignored": ignored} if ignored else {})})

    around = places(seen.scope, rules.pools)
    canonical, *elsewhere = (canonical_at(scope, host) for scope, host in around)
    host, count = written_host(request.url), facts.count or 1
    return Asked(
        key=key_of(canonical, count),
        canonical=canonical,
        dialect=dialect.name,
        operation=facts.operation,
        model=facts.model or "",
        scope=seen.scope,
        host=host,
        namespace=rules.namespace,
        count=count,
        stream=facts.response != "json",
        never_cached=facts.never_cached,
        size=facts.size,
        quality=facts.quality,
        tier=facts.tier,
        references=facts.references,
        normalized=at(around[0][1]).normalized,
        home=_home_of(host, dialect.homes),
        elsewhere=tuple(key_of(other, count) for other in elsewhere),
    )


def _narrowed(
    dialect: Dialect,
    seen: Recognised,
    raw: dict[str, Json],
    facts: Facts,
    rules: KeyRules,
    defaults: Mapping[str, Json],
) -> _Narrowed:
    """The body as it counts.

    A rule counts as one that took something out when the form is another one for it: naming bookkeeping, or what a
    wider rule takes anyway, widens nothing.
    """

    def counting(raw: dict[str, Json]) -> tuple[dict[str, Json], str | None]:
        body = dialect.fold(seen, raw)
        model = facts.model if raw is whole else dialect.facts(seen, body).model
        dialect.strip(seen, body, facts)
        for name, value in defaults.items():
            if name in body and body[name] == value:
                del body[name]
        return body, model

    whole = raw
    named = {rule: rule.removeprefix("body:").split(".") for rule in sorted(rules.ignore) if rule.startswith("body:")}
    paths = dict(sorted(named.items(), key=lambda item: len(item[1])))  # the wider ones first
    applied: list[list[str]] = []
    took = set()
    got = counting(raw)
    for rule, path in paths.items():
        if without(dialect.fields, raw, [path]) is raw:
            continue
        applied.append(path)
        before, got = got, counting(without(dialect.fields, raw, applied))
        if got != before:
            took.add(rule)
    return _Narrowed(*got, took=frozenset(took))


def _normalized(dialect: Dialect, got: _Narrowed, rules: KeyRules) -> _Narrowed:
    """The same with its prompts normalised, and which steps changed any of them."""
    steps: dict[str, None] = {}
    for slots in dialect.prompts(got.body):
        texts, changed = normalize([holder[name] for holder, name in slots], rules.normalize)
        steps |= dict.fromkeys(changed)
        for (holder, name), text in zip(slots, texts, strict=True):
            holder[name] = text
    return _Narrowed(got.body, got.model, got.took, tuple(steps))


def _home_of(host: str, homes: Mapping[str, str]) -> str | None:
    if host in homes:
        return homes[host]
    return next((vendor for name, vendor in homes.items() if name[:1] == "*" and host.endswith(name[1:])), None)
