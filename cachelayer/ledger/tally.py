"""What outcomes add up to: one definition, for the totals that every fold keeps and for every report. Pure.

Only sums live here; which outcomes are summed, and for whom, is not known here.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Final, NamedTuple

import xxhash

from cachelayer.core.reasons import Reason
from cachelayer.ledger.lines import Damaged, Evicted, Fault, NotKept, add, plain

COUNTS: Final = (
    "requests",
    "hits",
    "misses",
    "coalesced",
    "stale",
    "bypassed",
    "errors",
    "upstream_calls",
    "estimated",
    "unpriced",
    "broken",
    "not_kept",
    "lost",
    "evicted",
    "faults",
)
MONEY: Final = ("spent_usd", "avoided_usd", "coalesced_usd", "evicted_usd")

_NAMES: Final = {
    "HIT": "hits",
    "MISS": "misses",
    "COALESCED": "coalesced",
    "STALE": "stale",
    "BYPASS": "bypassed",
    "ERROR": "errors",
}
_LONGEST: Final = 1e9
"""Seconds, 30 years. What took longer is not summed: a handful of 1e308 would make every total infinite."""


class Brief(NamedTuple):
    """What reports ask of one outcome; the fields are columns of table ``events``."""

    at: float
    outcome: str
    namespace: str
    model: str
    host: str
    reason: str | None
    upstream: int
    spent_usd: str | None
    spent_pricing: str | None
    saved_usd: str | None
    saved_pricing: str | None
    wait: float
    latency: float | None
    broken: int
    normalized: str


Note = NotKept | Evicted | Fault


class Tally:
    """Sums of outcomes and notes, exact. Money is Decimal, whatever the caller's decimal context."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = dict.fromkeys(COUNTS, 0)
        self.money: dict[str, Decimal] = dict.fromkeys(MONEY, Decimal(0))
        self.saved_seconds = 0.0

    def add(self, one: Brief, sign: int = 1) -> None:
        """Count an outcome; with sign -1 take one back that was counted."""
        counts, outcome = self.counts, one.outcome
        counts["requests"] += sign
        counts[_NAMES[outcome]] += sign
        doubts = set()
        if one.upstream:
            counts["upstream_calls"] += sign * one.upstream
            doubts.add(one.spent_pricing)
            if one.spent_usd is not None:
                self._add("spent_usd", one.spent_usd, sign)
        # STALE, BYPASS and ERROR save nothing, whatever they carry.
        if outcome in ("HIT", "COALESCED"):
            doubts.add(one.saved_pricing)
            if one.saved_usd is not None:
                self._add("avoided_usd" if outcome == "HIT" else "coalesced_usd", one.saved_usd, sign)
            if one.latency is not None and abs(seconds := one.latency - one.wait) < _LONGEST:
                self.saved_seconds += sign * seconds
        elif outcome == "ERROR" and one.reason == Reason.LOST:
            counts["lost"] += sign
        # A request with two such costs counts once.
        if "estimated" in doubts:
            counts["estimated"] += sign
        if "unpriced" in doubts:
            counts["unpriced"] += sign
        counts["broken"] += sign * one.broken

    def note(self, note: Note) -> None:
        """Count what is no outcome."""
        match note:
            case NotKept():
                self.counts["not_kept"] += 1
            case Evicted(_, entries, usd):
                self.counts["evicted"] += entries
                self.money["evicted_usd"] = add(self.money["evicted_usd"], usd)
            case Fault():
                self.counts["faults"] += note.count

    def merge(self, other: Tally) -> None:
        """Count what another one has counted."""
        for name, count in other.counts.items():
            self.counts[name] += count
        for name, usd in other.money.items():
            self.money[name] = add(self.money[name], usd)
        self.saved_seconds += other.saved_seconds

    def _add(self, name: str, usd: str, sign: int) -> None:
        self.money[name] = add(self.money[name], Decimal(usd) if sign > 0 else Decimal(usd).copy_negate())

    def text(self, **beside: int) -> str:
        """All of it as one line of text under its own checksum, with a few numbers beside it."""
        money = {name: plain(usd) for name, usd in self.money.items()}
        document = json.dumps(self.counts | money | {"saved_seconds": self.saved_seconds} | beside)
        return f"{xxhash.xxh3_64_hexdigest(document.encode())} {document}"


def estimated_of(one: Brief) -> tuple[Decimal | None, Decimal | None]:
    """USD that an outcome spent and saved by an estimate; None where that is none of its sums, or no estimate."""
    spent = one.spent_usd if one.upstream and one.spent_pricing == "estimated" else None
    counts = one.outcome in ("HIT", "COALESCED") and one.saved_pricing == "estimated"
    saved = one.saved_usd if counts else None
    return None if spent is None else Decimal(spent), None if saved is None else Decimal(saved)


def read_text(text: object) -> tuple[Tally, dict[str, int]]:
    """The tally of a text, and the numbers beside it. Raises Damaged for what ``Tally.text`` did not make."""
    if not isinstance(text, str) or text[:17] != f"{xxhash.xxh3_64_hexdigest(text[17:].encode('utf-8', 'replace'))} ":
        raise Damaged("checksum")
    tally = Tally()
    try:
        fields = json.loads(text[17:])
        tally.counts = {name: int(fields.pop(name)) for name in COUNTS}
        tally.money = {name: Decimal(fields.pop(name)) for name in MONEY}
        tally.saved_seconds = float(fields.pop("saved_seconds"))
        return tally, {name: int(value) for name, value in fields.items()}
    except (ValueError, TypeError, KeyError, ArithmeticError, AttributeError) as error:
        raise Damaged(str(error)) from None
