"""Reports: every one adds up the ledger's lines. Nothing is printed here, and nothing else is counted anywhere.

All functions raise LedgerError when the ledger cannot be read, and take ``since`` (unix seconds): only
outcomes from then on count; None: all.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from cachelayer.core.reasons import meaning_of
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.lines import NotKept, add, plain
from cachelayer.ledger.tally import Brief, Tally, estimated_of
from cachelayer.ledger.view import View

By = Literal["model", "namespace", "host", "day"]

Money = Annotated[Decimal, PlainSerializer(plain, return_type=str, when_used="json")]
"""USD, exact; in JSON a string of plain digits, as a JSON number would become a float."""


class Sums(BaseModel):
    """What a set of outcomes adds up to."""

    model_config = ConfigDict(frozen=True)

    requests: int = Field(description="Requests that ended, however they ended")
    hits: int = Field(description="Requests answered from a stored entry (HIT)")
    misses: int = Field(description="Requests that started a flight that was answered (MISS)")
    coalesced: int = Field(description="Requests answered by somebody else's flight (COALESCED)")
    stale: int = Field(description="Requests answered by an expired entry, as the provider failed (STALE)")
    bypassed: int = Field(description="Requests that were not looked up (BYPASS)")
    errors: int = Field(description="Requests without a good answer (ERROR)")
    upstream_calls: int = Field(description="Requests forwarded to a provider")
    hit_rate: float = Field(description="(hits + coalesced) / (requests - bypassed); 0 when there are none")
    spent_usd: Money = Field(description="USD that forwarded requests cost, where a price is known")
    saved_usd: Money = Field(description="USD: avoided_usd + coalesced_usd")
    avoided_usd: Money = Field(description="USD that the entries behind hits had cost")
    coalesced_usd: Money = Field(description="USD that the flights joined by coalesced requests cost")
    estimated: int = Field(description="Requests whose cost or saving in these sums is an estimate")
    unpriced: int = Field(description="Requests whose cost or saving is missing in these sums, as no price is known")
    saved_seconds: float = Field(
        description="Seconds, over hits and coalesced: the first call's latency less the caller's own wait. A wait "
        "longer than that call counts as negative: a cache that slows callers down must show it"
    )
    broken: int = Field(description="Damaged entries found on the way, each a miss")
    not_kept: int = Field(description="Good answers that could not be stored: no room, or the store was not there")
    lost: int = Field(description="Calls whose process was killed before their outcome was written; errors, unpriced")


class Stats(Sums):
    """``cache.stats()``: the sums of a whole store, and what it holds now."""

    evicted: int = Field(description="Entries that had to go to make room")
    evicted_usd: Money = Field(description="USD that those had cost, where it is known")
    faults: int = Field(description="Failures of cachelayer's own that calls went on without")
    entries: int = Field(description="Entries in the store")
    blobs: int = Field(description="Blobs in the store")
    stored_bytes: int = Field(description="Bytes that the store takes on disk, as size_limit counts them")


@dataclass(frozen=True, slots=True)
class Because:
    """Requests that ended in one way for one reason. spent_usd: what they cost, where a price is known."""

    reason: str
    outcome: str
    requests: int
    spent_usd: Decimal


@dataclass(frozen=True, slots=True)
class Estimates:
    """What is no more than estimated at one host: requests, and the USD that they spent and saved."""

    host: str
    requests: int
    spent_usd: Decimal
    saved_usd: Decimal


@dataclass(slots=True)
class Survey:
    """Everything a report shows of the ledger, by one pass over it."""

    total: Tally
    groups: list[tuple[str, Sums]] = field(default_factory=list)
    reasons: list[Because] = field(default_factory=list)
    normalized: dict[str, int] = field(default_factory=dict)
    estimates: list[Estimates] = field(default_factory=list)


def totals(ledger: Ledger, *, since: float | None = None, store_sizes: tuple[int, int, int]) -> Stats:
    """The sums of all outcomes. store_sizes: entries, blobs and bytes of both, as ``Store.sizes`` gives
    them.

    Of all time it takes milliseconds however many there are: the ledger keeps those sums.
    """
    total = ledger.look(View.totals) if since is None else _survey(ledger, None, since).total
    return _stats(ledger, total, store_sizes)


def survey(
    ledger: Ledger, *, by: By | None, since: float | None, store_sizes: tuple[int, int, int]
) -> tuple[Stats, Survey]:
    """Totals, groups, reasons and normalisation steps of the same outcomes, in one pass."""
    found = _survey(ledger, by, since)
    return _stats(ledger, found.total, store_sizes), found


def groups(ledger: Ledger, by: By, since: float | None = None) -> list[tuple[str, Sums]]:
    """The sums of each model, namespace, host or day (UTC, ``2026-11-24``), days in order, else most
    requests first.

    A request that no dialect recognised has the model "".
    """
    return _survey(ledger, by, since).groups


def report_json(
    ledger: Ledger, *, by: By | None = None, since: float | None = None, store_sizes: tuple[int, int, int]
) -> dict[str, Any]:
    """``{"totals": {...}, "groups": [{"name": ..., ...}], "reasons": [{"reason": ..., ...}]}``, ready for json.dumps;
    no groups when ``by`` is None."""
    stats, found = survey(ledger, by=by, since=since, store_sizes=store_sizes)
    return {
        "totals": stats.model_dump(mode="json"),
        "groups": [{"name": name} | sums.model_dump(mode="json") for name, sums in found.groups],
        "reasons": [
            {
                "reason": one.reason,
                "outcome": one.outcome,
                "requests": one.requests,
                "spent_usd": plain(one.spent_usd),
                "meaning": meaning_of(one.reason),
            }
            for one in found.reasons
        ],
    }


def reasons(ledger: Ledger, since: float | None = None) -> list[Because]:
    """Why requests were not cached or not stored, the most frequent first. A MISS that could not be kept is there with
    the reason why not."""
    return _survey(ledger, None, since).reasons


def estimates(ledger: Ledger, since: float | None = None) -> list[Estimates]:
    """The hosts with costs or savings that are estimates, most dollars first."""
    return _survey(ledger, None, since).estimates


def normalized(ledger: Ledger, since: float | None = None) -> dict[str, int]:
    """Normalisation step -> hits and coalesced requests whose prompt it changed, the most frequent first.

    An upper bound of what a step earned: the stored prompt may have been spelled the same odd way.
    """
    return _survey(ledger, None, since).normalized


def _survey(ledger: Ledger, by: By | None, since: float | None) -> Survey:
    return ledger.look(lambda view: _pass(view, by, since))


def _pass(view: View, by: By | None, since: float | None) -> Survey:
    total, parts, why = Tally(), dict[str, Tally](), dict[tuple[str, str], tuple[int, Decimal]]()
    lists: Counter[str] = Counter()
    guessed: dict[str, Estimates] = {}

    def part(one: Brief | NotKept) -> Tally:
        name = _day(one.at) if by == "day" else str(getattr(one, by or "model"))
        return parts.setdefault(name, Tally())

    def blame(reason: str, outcome: str, usd: Decimal | None) -> None:
        count, spent = why.get((reason, outcome), (0, Decimal(0)))
        why[reason, outcome] = count + 1, spent if usd is None else add(spent, usd)

    for outcomes in view.outcomes(since):
        for one in outcomes:
            total.add(one)
            if by is not None:
                part(one).add(one)
            if one.reason is not None:
                blame(one.reason, one.outcome, Decimal(one.spent_usd) if one.upstream and one.spent_usd else None)
            spent, saved = estimated_of(one)
            if spent is not None or saved is not None:
                before = guessed.get(one.host, Estimates(one.host, 0, Decimal(0), Decimal(0)))
                guessed[one.host] = Estimates(
                    one.host,
                    before.requests + 1,
                    add(before.spent_usd, spent or Decimal(0)),
                    add(before.saved_usd, saved or Decimal(0)),
                )
            if one.normalized != "[]" and one.outcome in ("HIT", "COALESCED"):
                lists[one.normalized] += 1
    for notes in view.notes(since):
        for note in notes:
            total.note(note)
            if isinstance(note, NotKept):
                blame(note.reason, "MISS", None if note.spent is None else note.spent.usd)
                if by is not None:
                    part(note).note(note)
    found = [(name, Sums(**_fields(tally))) for name, tally in parts.items()]
    found.sort(key=lambda item: (0 if by == "day" else -item[1].requests, item[0]))
    because = [Because(reason, outcome, count, usd) for (reason, outcome), (count, usd) in why.items()]
    because.sort(key=lambda one: (-one.requests, one.outcome, one.reason))
    hosts = sorted(guessed.values(), key=lambda one: (-add(one.spent_usd, one.saved_usd), one.host))
    return Survey(total, found, because, _steps(lists), hosts)


def _steps(lists: Counter[str]) -> dict[str, int]:
    steps: Counter[str] = Counter()
    for names, count in lists.items():
        for step in set(json.loads(names)):
            steps[step] += count
    return dict(sorted(steps.items(), key=lambda item: (-item[1], item[0])))


def _day(at: float) -> str:
    return _name_of_day(at // 86_400)


@lru_cache(maxsize=5_000)
def _name_of_day(number: float) -> str:
    try:
        return datetime.fromtimestamp(number * 86_400, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return ""


def _stats(ledger: Ledger, total: Tally, store_sizes: tuple[int, int, int]) -> Stats:
    entries, blobs, stored = store_sizes
    return Stats(
        **_fields(total),
        evicted=total.counts["evicted"],
        evicted_usd=total.money["evicted_usd"],
        faults=total.counts["faults"] + ledger.faults_waiting(),
        entries=entries,
        blobs=blobs,
        stored_bytes=stored,
    )


def _fields(tally: Tally) -> dict[str, Any]:
    counts, money = tally.counts, tally.money
    asked = counts["requests"] - counts["bypassed"]
    return {
        **{name: count for name, count in counts.items() if name in Sums.model_fields},
        "hit_rate": (counts["hits"] + counts["coalesced"]) / asked if asked else 0.0,
        "spent_usd": money["spent_usd"],
        "saved_usd": add(money["avoided_usd"], money["coalesced_usd"]),
        "avoided_usd": money["avoided_usd"],
        "coalesced_usd": money["coalesced_usd"],
        "saved_seconds": tally.saved_seconds,
    }
