"""One outcome as one line of a segment, and back. Pure.

A line, one byte form (docs/storage.md):

    XXH3-64 of the JSON, 16 hex digits | one space | JSON, UTF-8, no newline inside | newline

The JSON has the fields of ``Event`` and no others: the schema is closed, and every text in it is short, so
that no prompt fits in. Money is a string of plain decimal digits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Any, Final, cast

import xxhash

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Cost, Event, Outcome, Pricing

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
# Wide enough for the digits that a line may carry (40 before and 40 after the point) times any number of lines.
_SUM: Final = Context(prec=120)


class Damaged(ValueError):
    """A line that is not one that was written."""


def encode(event: Event) -> bytes:
    """The line of an event, newline included. Raises LedgerError for what no line can carry (NaN, huge
    numbers)."""
    try:
        payload = json.dumps(
            {
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
            },
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        ).encode()
    except (ValueError, TypeError, OverflowError) as error:
        raise LedgerError(f"this outcome cannot be written down: {error}") from None
    return b"%s %s\n" % (xxhash.xxh3_64_hexdigest(payload).encode(), payload)


def decode(line: bytes) -> Event:
    """The event of a line. Raises Damaged for anything that ``encode`` did not write."""
    payload = line[17:-1]
    if line[16:17] != b" " or line[-1:] != b"\n" or line[:16] != xxhash.xxh3_64_hexdigest(payload).encode():
        raise Damaged("checksum")
    # A checksum is no proof of origin: what follows is checked too, or one planted line would stop all folds.
    try:
        return _event(json.loads(payload))
    except Damaged:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged(str(error)) from None


def plain(usd: Decimal) -> str:
    """Money as plain decimal digits, all that it has, never in exponent notation."""
    return format(usd, "f")


def add(a: Decimal, b: Decimal) -> Decimal:
    """The exact sum of two amounts, whatever the caller's decimal context would round it to."""
    return _SUM.add(a, b)


def _event(fields: Mapping[str, Any]) -> Event:
    if len(fields) != 19:
        raise Damaged("not the fields of an event")
    return Event(
        outcome=Outcome(fields["outcome"]),
        at=_number(fields["at"]),
        namespace=_text(fields["namespace"]),
        operation=_text(fields["operation"]),
        model=_text(fields["model"]),
        size=None if fields["size"] is None else _text(fields["size"]),
        host=_text(fields["host"]),
        key=None if fields["key"] is None else _text(fields["key"]),
        reason=None if fields["reason"] is None else _text(fields["reason"]),
        status=None if fields["status"] is None else _count(fields["status"]),
        upstream=_count(fields["upstream"]),
        spent=_decode_cost(fields["spent"]),
        saved=_decode_cost(fields["saved"]),
        images=_count(fields["images"]),
        wait=_number(fields["wait"]),
        latency=None if fields["latency"] is None else _number(fields["latency"]),
        broken=_count(fields["broken"]),
        normalized=_texts(fields["normalized"]),
        tags=_texts(fields["tags"]),
    )


def _encode_cost(cost: Cost | None) -> dict[str, str | None] | None:
    if cost is None:
        return None
    usd = None if cost.usd is None else plain(cost.usd)
    _check_cost(usd, cost.pricing)
    return {"usd": usd, "pricing": cost.pricing, "reason": _short(cost.reason)}


def _decode_cost(cost: Mapping[str, Any] | None) -> Cost | None:
    if cost is None:
        return None
    if len(cost) != 3:
        raise Damaged("not the fields of a cost")
    usd, pricing = cost["usd"], cost["pricing"]
    _check_cost(usd, pricing)
    return Cost(None if usd is None else Decimal(usd), cast(Pricing, pricing), _text(cost["reason"]))


def _check_cost(usd: str | None, pricing: str) -> None:
    if pricing not in PRICINGS or (usd is None) != (pricing == "unpriced"):
        raise Damaged("a cost is unpriced exactly when it has no figure")
    if usd is not None and not _MONEY.fullmatch(usd):
        raise Damaged("not an amount of money")


def _short(text: str) -> str:
    # Lone surrogates (a URL may carry them) are no UTF-8 and no SQLite text.
    return text[:TEXT_LIMIT].encode("utf-8", "replace").decode()


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > TEXT_LIMIT:
        raise Damaged("not a short text")
    value.encode()  # an escaped lone surrogate is valid JSON, but SQLite cannot keep it
    return value


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or len(values) > LIST_LIMIT:
        raise Damaged("not a short list")
    return tuple(_text(value) for value in values)


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= COUNT_LIMIT:
        raise Damaged("not a count")
    return value


def _number(value: object) -> float:
    # NaN would be stored as NULL; infinity poisons every sum.
    if type(value) is not float or not abs(value) < float("inf"):
        raise Damaged("not a finite number")
    return value
