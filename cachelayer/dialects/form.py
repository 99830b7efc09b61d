"""From a recognised request to its canonical form and key. What may live here: the order in which that is done, the
same for every wire format (docs/key-spec.md), and no format's names.

What is never cached, and how many are asked for, goes by the whole body; the form by what the user lets count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cachelayer.core.canon import key_of, number, serialize
from cachelayer.core.host import written_host
from cachelayer.core.jsonspan import Malformed, parse
from cachelayer.core.model import Asked, Json, KeyRules, Request
from cachelayer.core.prompt import normalize
from cachelayer.core.reasons import Reason
from cachelayer.core.scope import places
from cachelayer.dialects.dialect import Dialect, NotKeyed, Recognised
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


def asked(dialect: Dialect, seen: Recognised, request: Request, rules: KeyRules) -> Asked:
    """The canonical form, its key, and what the runtime wants to know. Raises NotKeyed, and ValueError where the body
    is malformed or JSON cannot say its form."""
    body = _Body(dialect, seen, request, rules)
    facts = body.facts
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

    def canonical_at(scope: Json, host: str) -> bytes:
        here = body.at(host)
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
        normalized=body.at(around[0][1]).normalized,
        home=_home_of(host, dialect.homes),
        elsewhere=tuple(key_of(other, count) for other in elsewhere),
    )


@dataclass(frozen=True, slots=True)
class _Counting:
    """A body as it counts: without what the user's ``ignore`` names in it, its prompts normalised."""

    body: dict[str, Json]
    model: str | None
    took: frozenset[str]
    """Which of the rules took something out."""
    normalized: tuple[str, ...]
    """Which steps changed any of the prompts."""


class _Body:
    """A request's body: what it asks for, and how it counts at one host or another."""

    def __init__(self, dialect: Dialect, seen: Recognised, request: Request, rules: KeyRules) -> None:
        self._dialect, self._seen, self._rules = dialect, seen, rules
        self._raw = dialect.parse(seen, request)
        folded = dialect.fold(seen, self._raw)
        self.facts = dialect.facts(seen, folded)
        self._unused = [folded]
        """The first form is made of it, without folding again."""
        self._found: dict[tuple[tuple[str, str], ...], _Counting] = {}
        """By the defaults that are folded: most hosts have none."""

    def at(self, host: str) -> _Counting:
        """The body as it counts at a host."""
        defaults = tuple(self._dialect.defaults(self._seen, host).items())
        if defaults not in self._found:
            self._found[defaults] = self._counting(defaults)
        return self._found[defaults]

    def _counting(self, defaults: tuple[tuple[str, str], ...]) -> _Counting:
        """A rule counts as one that took something out when the form is another one for it: naming bookkeeping, or what
        a wider rule takes anyway, widens nothing."""
        rules = [rule for rule in sorted(self._rules.ignore) if rule.startswith("body:")]
        named = [(rule, rule.removeprefix("body:").split(".")) for rule in rules]
        applied: list[list[str]] = []
        took = set()
        got = self._stripped(self._raw, defaults)
        for rule, path in sorted(named, key=lambda item: len(item[1])):  # the wider ones first
            if without(self._dialect.fields, self._raw, [path]) is self._raw:
                continue
            applied.append(path)
            before, got = got, self._stripped(without(self._dialect.fields, self._raw, applied), defaults)
            if got != before:
                took.add(rule)
        body, model = got
        return _Counting(body, model, frozenset(took), self._normalize(body))

    def _stripped(
        self, raw: dict[str, Json], defaults: Iterable[tuple[str, str]]
    ) -> tuple[dict[str, Json], str | None]:
        """A raw body's form, and the model that it names."""
        is_whole = raw is self._raw
        body = self._unused.pop() if is_whole and self._unused else self._dialect.fold(self._seen, raw)
        model = (self.facts if is_whole else self._dialect.facts(self._seen, body)).model
        self._dialect.strip(self._seen, body, self.facts)
        for name, value in defaults:
            if body.get(name) == value:
                del body[name]
        return body, model

    def _normalize(self, body: dict[str, Json]) -> tuple[str, ...]:
        """Normalise the prompts of a body where they stand. Returns the steps that changed any of them."""
        steps: dict[str, None] = {}
        for slots in self._dialect.prompts(body) if self.facts.operation == "image" else ():
            texts, changed = normalize([holder[name] for holder, name in slots], self._rules.normalize)
            steps |= dict.fromkeys(changed)
            for (holder, name), text in zip(slots, texts, strict=True):
                holder[name] = text
        return tuple(steps)


def _home_of(host: str, homes: Mapping[str, str]) -> str | None:
    if host in homes:
        return homes[host]
    return next((vendor for name, vendor in homes.items() if name[:1] == "*" and host.endswith(name[1:])), None)
