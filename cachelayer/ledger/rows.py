"""Outcomes and notes as rows of ``ledger.sqlite3``, and back. Pure.

The order of the columns is that of the tables in formats.py.
"""

from __future__ import annotations

import json
from decimal import Decimal
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, assert_never, cast

from cachelayer.core.model import Cost, Event, Outcome, Pricing
from cachelayer.ledger.formats import EVENTS, NOTES
from cachelayer.ledger.lines import VERSION, Damaged, Evicted, Fault, NotKept, plain, read_payload
from cachelayer.ledger.tally import Brief, Note

COLUMNS: Final = ", ".join(EVENTS)
NOTE_COLUMNS: Final = ", ".join(NOTES)
Row = tuple[str | int | float | None, ...]
BRIEF: Final = ", ".join(Brief._fields)
"""The columns of ``events`` that reports ask for."""
_pick_brief = itemgetter(*(list(EVENTS).index(name) for name in Brief._fields))


def brief_of(row: Row) -> Brief:
    """What reports ask for of a row."""
    return Brief._make(_pick_brief(row))


def to_row(event: Event, extra: str | None = None) -> Row:
    """The row of an event. extra: fields of its line that only a later version knows, as JSON."""
    return (
        event.at,
        event.outcome.value,
        event.namespace,
        event.operation,
        event.model,
        event.size,
        event.host,
        event.key,
        event.reason,
        event.status,
        event.upstream,
        *_cost_columns(event.spent),
        *_cost_columns(event.saved),
        event.images,
        event.wait,
        event.latency,
        event.broken,
        _list_text(event.normalized),
        _list_text(event.tags),
        extra,
    )


@lru_cache(maxsize=1_000)
def _list_text(items: tuple[str, ...]) -> str:
    return json.dumps(items, ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=1_000)
def is_list(text: str) -> bool:
    """Whether a text is a JSON list of texts, as ``normalized`` and ``tags`` are."""
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(items, list) and all(isinstance(item, str) for item in items)


def note_row(note: Note, extra: str | None) -> Row:
    """The row of a note."""
    match note:
        case NotKept(at, reason, namespace, model, host, spent):
            return at, "not-kept", reason, "", 1, namespace, model, host, *_cost_columns(spent), extra
        case Evicted(at, entries, usd):
            return at, "evicted", "", "", entries, "", "", "", plain(usd), "exact", "", extra
        case Fault(at, what, error, count):
            return at, "fault", what, error, count, "", "", "", None, None, None, extra
    assert_never(note)


def to_note(row: tuple[Any, ...]) -> Note | None:
    """The note of a row; None for a row that is none of ours."""
    at, kind, what, error, count, namespace, model, host, usd, pricing, reason, _ = row
    cost = None if pricing is None else {"usd": usd, "pricing": pricing, "reason": reason}
    fields: dict[str, Any] = {"v": VERSION, "kind": kind, "at": at}
    match kind:
        case "not-kept":
            fields |= {"reason": what, "namespace": namespace, "model": model, "host": host, "spent": cost}
        case "evicted":
            fields |= {"entries": count, "usd": usd}
        case _:
            fields |= {"what": what, "error": error, "count": count}
    try:
        note, _ = read_payload(json.dumps(fields))
    except (Damaged, TypeError, ValueError):
        return None
    return note if isinstance(note, Note) else None


def _cost_columns(cost: Cost | None) -> Row:
    if cost is None:
        return None, None, None
    return None if cost.usd is None else plain(cost.usd), cost.pricing, cost.reason


def to_event(row: tuple[str, ...]) -> Event:
    (at, outcome, namespace, operation, model, size, host, key, reason, status, upstream, *costs) = row[:17]
    images, wait, latency, broken, normalized, tags = row[17:23]
    return Event(
        outcome=Outcome(outcome),
        at=cast(float, at),
        namespace=namespace,
        operation=operation,
        model=model,
        size=cast(str | None, size),
        host=host,
        key=key,
        reason=reason,
        status=cast(int | None, status),
        upstream=cast(int, upstream),
        spent=_cost(*costs[:3]),
        saved=_cost(*costs[3:]),
        images=cast(int, images),
        wait=cast(float, wait),
        latency=cast(float | None, latency),
        broken=cast(int, broken),
        normalized=tuple(json.loads(normalized)),
        tags=tuple(json.loads(tags)),
    )


def _cost(usd: str | None, pricing: str | None, reason: str) -> Cost | None:
    if pricing is None:
        return None
    return Cost(None if usd is None else Decimal(usd), cast(Pricing, pricing), reason)
