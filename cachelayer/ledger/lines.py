"""One thing that happened as one line of a segment, and back. Pure.

A line, one byte form (docs/storage.md):

    XXH3-64 of the JSON, 16 hex digits | one space | JSON, UTF-8, no newline inside | newline

The JSON begins with ``v`` (the version of the lines) and ``kind``: ``outcome`` (the fields of ``Event``), ``begun`` (a
call about to be sent), ``not-kept``, ``evicted``, ``fault``. All its texts are short, so that no prompt fits in. Money
is a string of plain decimal digits.

Lines of a later version are no damage: fields that are not known here are handed on beside the rest, and a kind that
is not known here as a whole (``Later``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Final, cast

import xxhash

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Asked, Cost, Event, Outcome, Pricing
from cachelayer.core.reasons import Reason
from cachelayer.ledger.formats import FORMAT

VERSION: Final = FORMAT
"""Of whoever wrote a line: that of his tables. A field never changes its meaning (formats.py)."""

LINE_LIMIT: Final = 65_536
"""Bytes. No line is longer (the limits below keep it under 50 KB); what is longer on disk is damage."""
TEXT_LIMIT: Final = 200
"""Characters. Model names, hosts, reasons, tags: what is longer is cut, so that a hostile name cannot fill
a disk."""
LIST_LIMIT: Final = 32
"""Tags and normalisation steps kept of one event."""

COUNT_LIMIT: Final = 2**31 - 1
"""Of requests, images and the like. Low enough that no sum of them overflows the 64 bits of SQLite's, which is an
error."""
PRICINGS: Final = ("exact", "estimated", "unpriced")

_MONEY = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?", re.ASCII)
_CALL = re.compile(r"[0-9a-f]{15}-[0-9]{1,18}", re.ASCII)
# Wide enough for the digits that a line may carry (40 before and 40 after the point) times any number of lines.
_SUM: Final = Context(prec=120)


# Made once: json.dumps makes one at every call that is not plain.
_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


class Damaged(ValueError):
    """A line that is not one that was written."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A call about to be sent. lost: how it is booked when its process dies before its outcome is written."""

    call: str
    lost: Event


@dataclass(frozen=True, slots=True)
class NotKept:
    """A good answer that could not be stored. spent: what it cost; the outcome itself is a line of its own."""

    at: float
    reason: str
    namespace: str
    model: str
    host: str
    spent: Cost | None


@dataclass(frozen=True, slots=True)
class Evicted:
    """Entries that had to go to make room. usd: what they had cost."""

    at: float
    entries: int
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Fault:
    """Failures of our own that calls went on without. error: the exception's class."""

    at: float
    what: str
    error: str
    count: int


@dataclass(frozen=True, slots=True)
class Later:
    """A line that only a later version can read, as it came."""

    payload: str


Line = Event | Begun | NotKept | Evicted | Fault | Later


def encode(line: Event | NotKept | Evicted | Fault) -> bytes:
    """The line, newline included. Raises LedgerError for what no line can carry (NaN, huge numbers)."""
    try:
        match line:
            case Event():
                return _line(_event_fields(line))
            case NotKept():
                return _line(_not_kept_fields(line))
            case Evicted(at, entries, usd):
                text = plain(usd)
                _check_cost(text, "exact")
                fields = {"v": VERSION, "kind": "evicted", "at": float(at), "entries": _count(entries), "usd": text}
                return _line(fields)
            case Fault(at, what, error, count):
                named = {"what": _short(what), "error": _short(error)}
                return _line({"v": VERSION, "kind": "fault", "at": float(at)} | named | {"count": _count(count)})
    except (ValueError, TypeError, OverflowError) as error:
        raise LedgerError(f"this outcome cannot be written down: {error}") from None


def encode_begun(call: str, asked: Asked, at: float) -> bytes:
    """The line of a call that is about to be sent."""
    return _line(
        {
            "v": VERSION,
            "kind": "begun",
            "call": call,
            "at": float(at),
            "namespace": _short(asked.namespace),
            "operation": asked.operation,
            "model": _short(asked.model),
            "size": None if asked.size is None else _short(asked.size),
            "host": _short(asked.host),
            "key": asked.key,
        }
    )


def decode(line: bytes) -> tuple[Line, str | None]:
    """What a line says, and as JSON the fields of it that only a later version knows, None when there are none.

    Raises Damaged for anything that no version wrote.
    """
    payload = line[17:-1]
    if line[16:17] != b" " or line[-1:] != b"\n" or line[:16] != xxhash.xxh3_64_hexdigest(payload).encode():
        raise Damaged("checksum")
    # A checksum is no proof of origin: what follows is checked too, or one planted line would stop all folds.
    return read_payload(payload)


def read_payload(payload: bytes | str) -> tuple[Line, str | None]:
    """Like decode, of the JSON alone."""
    try:
        fields = json.loads(payload)
        version, kind = fields.pop("v"), fields.pop("kind")
        if type(version) is not int or version < 1 or not isinstance(kind, str):
            raise Damaged("not a line of any version")
        later = version > VERSION
        try:
            reader = _READERS.get(kind)
            if reader is None:
                later = True
                raise Damaged("a kind that is not known")
            read = reader(fields)
        except (ValueError, TypeError, KeyError, AttributeError):
            if not later:
                raise
            return Later(payload if isinstance(payload, str) else payload.decode()), None
        return read, _to_json(fields) if fields else None
    except Damaged:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged(str(error)) from None


def payload_of(line: bytes) -> str:
    """The JSON of a line that ``decode`` has read."""
    return line[17:-1].decode()


def plain(usd: Decimal) -> str:
    """Money as plain decimal digits, all that it has, never in exponent notation."""
    return format(usd, "f")


def add(a: Decimal, b: Decimal) -> Decimal:
    """The exact sum of two amounts, whatever the caller's decimal context would round it to."""
    return _SUM.add(a, b)


# --- writing ----------------------------------------------------------------------------------------------------------


def _line(fields: dict[str, Any]) -> bytes:
    return sealed(_to_json(fields).encode())


def sealed(payload: bytes) -> bytes:
    """The line of a JSON."""
    return b"%s %s\n" % (xxhash.xxh3_64_hexdigest(payload).encode(), payload)


def _event_fields(event: Event) -> dict[str, Any]:
    return {
        "v": VERSION,
        "kind": "outcome",
        "outcome": event.outcome.value,
        "at": float(event.at),
        "namespace": _short(event.namespace),
        "operation": _short(event.operation),
        "model": _short(event.model),
        "size": None if event.size is None else _short(event.size),
        "host": _short(event.host),
        "key": None if event.key is None else _short(event.key),
        "reason": None if event.reason is None else _short(event.reason),
        "status": None if event.status is None else _count(event.status),
        "upstream": _count(event.upstream),
        "spent": _encode_cost(event.spent),
        "saved": _encode_cost(event.saved),
        "images": _count(event.images),
        "wait": float(event.wait),
        "latency": None if event.latency is None else float(event.latency),
        "broken": _count(event.broken),
        "normalized": [_short(step) for step in event.normalized[:LIST_LIMIT]],
        "tags": [_short(tag) for tag in event.tags[:LIST_LIMIT]],
        "call": None if event.call is None else _call(event.call),
    }


def _not_kept_fields(line: NotKept) -> dict[str, Any]:
    return {
        "v": VERSION,
        "kind": "not-kept",
        "at": float(line.at),
        "reason": _short(line.reason),
        "namespace": _short(line.namespace),
        "model": _short(line.model),
        "host": _short(line.host),
        "spent": _encode_cost(line.spent),
    }


def _encode_cost(cost: Cost | None) -> dict[str, str | None] | None:
    if cost is None:
        return None
    usd = None if cost.usd is None else plain(cost.usd)
    _check_cost(usd, cost.pricing)
    return {"usd": usd, "pricing": cost.pricing, "reason": _short(cost.reason)}


def _short(text: str) -> str:
    # Lone surrogates (a URL may carry them) are no UTF-8 and no SQLite text.
    text = text[:TEXT_LIMIT]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


# --- reading: each takes its fields out, so that what is left is a later version's -----------------------------------


def _read_event(fields: dict[str, Any]) -> Event:
    take = fields.pop
    return Event(
        outcome=Outcome(take("outcome")),
        at=_number(take("at")),
        namespace=_text(take("namespace")),
        operation=_text(take("operation")),
        model=_text(take("model")),
        size=_text_or_none(take("size")),
        host=_text(take("host")),
        key=_text_or_none(take("key")),
        reason=_text_or_none(take("reason")),
        status=None if (status := take("status")) is None else _count(status),
        upstream=_count(take("upstream")),
        spent=_read_cost(fields, "spent"),
        saved=_read_cost(fields, "saved"),
        images=_count(take("images")),
        wait=_number(take("wait")),
        latency=None if (latency := take("latency")) is None else _number(latency),
        broken=_count(take("broken")),
        normalized=_texts(take("normalized")),
        tags=_texts(take("tags")),
        call=None if (call := take("call")) is None else _call(call),
    )


def _read_begun(fields: dict[str, Any]) -> Begun:
    take = fields.pop
    call = _call(take("call"))
    lost = Event(
        outcome=Outcome.ERROR,
        at=_number(take("at")),
        namespace=_text(take("namespace")),
        operation=_text(take("operation")),
        model=_text(take("model")),
        size=_text_or_none(take("size")),
        host=_text(take("host")),
        key=_text_or_none(take("key")),
        reason=Reason.LOST,
        upstream=1,
        spent=Cost(None, "unpriced", "killed before its usage was known"),
    )
    return Begun(call, lost)


def _read_not_kept(fields: dict[str, Any]) -> NotKept:
    take = fields.pop
    at, reason = _number(take("at")), _text(take("reason"))
    namespace, model, host = _text(take("namespace")), _text(take("model")), _text(take("host"))
    return NotKept(at, reason, namespace, model, host, _read_cost(fields, "spent"))


def _read_evicted(fields: dict[str, Any]) -> Evicted:
    at, entries, usd = _number(fields.pop("at")), _count(fields.pop("entries")), fields.pop("usd")
    _check_cost(usd, "exact")
    return Evicted(at, entries, Decimal(usd))


def _read_fault(fields: dict[str, Any]) -> Fault:
    take = fields.pop
    return Fault(_number(take("at")), _text(take("what")), _text(take("error")), _count(take("count")))


_READERS: Final[dict[str, Callable[[dict[str, Any]], Line]]] = {
    "outcome": _read_event,
    "begun": _read_begun,
    "not-kept": _read_not_kept,
    "evicted": _read_evicted,
    "fault": _read_fault,
}


def _read_cost(fields: dict[str, Any], name: str) -> Cost | None:
    cost = fields.pop(name)
    if cost is None:
        return None
    usd, pricing, reason = cost.pop("usd"), cost.pop("pricing"), cost.pop("reason")
    if cost:
        fields[name] = cost
    _check_cost(usd, pricing)
    return Cost(None if usd is None else Decimal(usd), cast(Pricing, pricing), _text(reason))


def _check_cost(usd: str | None, pricing: str) -> None:
    if pricing not in PRICINGS or (usd is None) != (pricing == "unpriced"):
        raise Damaged("a cost is unpriced exactly when it has no figure")
    if usd is not None and not _MONEY.fullmatch(usd):
        raise Damaged("not an amount of money")


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > TEXT_LIMIT:
        raise Damaged("not a short text")
    if not value.isascii():
        value.encode()  # an escaped lone surrogate is valid JSON, but SQLite cannot keep it
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or len(values) > LIST_LIMIT:
        raise Damaged("not a short list")
    return tuple(_text(value) for value in values)


def _call(value: object) -> str:
    if not isinstance(value, str) or not _CALL.fullmatch(value):
        raise Damaged("not the id of a call")
    return value


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= COUNT_LIMIT:
        raise Damaged("not a count")
    return value


def _number(value: object) -> float:
    # NaN would be stored as NULL; infinity poisons every sum.
    if type(value) is not float or not abs(value) < float("inf"):
        raise Damaged("not a finite number")
    return value
