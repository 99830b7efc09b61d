"""Reports: every one is a query on the ledger. Nothing is printed here, and nothing else is counted anywhere.

All functions raise LedgerError when the ledger cannot be read, and take ``since`` (unix seconds): only
outcomes from then on count; None: all.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from cachelayer.ledger.events import Ledger
from cachelayer.ledger.lines import add, plain

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


class Stats(Sums):
    """``cache.stats()``: the sums of a whole store, and what it holds now."""

    entries: int = Field(description="Entries in the store")
    blobs: int = Field(description="Blobs in the store")
    stored_bytes: int = Field(description="Bytes of entries and blobs")


# A cost counts where it is spent (the request was forwarded) or saved (HIT and COALESCED; STALE, BYPASS and ERROR
# save nothing, whatever they carry). A request with two such costs counts once.
_COUNTED: Final = (
    "(upstream > 0 AND spent_pricing = '{0}' OR outcome IN ('HIT', 'COALESCED') AND saved_pricing = '{0}')"
)
_SUMS: Final = f"""
    count(*),
    coalesce(sum(outcome = 'HIT'), 0),
    coalesce(sum(outcome = 'MISS'), 0),
    coalesce(sum(outcome = 'COALESCED'), 0),
    coalesce(sum(outcome = 'STALE'), 0),
    coalesce(sum(outcome = 'BYPASS'), 0),
    coalesce(sum(outcome = 'ERROR'), 0),
    coalesce(sum(upstream), 0),
    coalesce(decimal_sum(CASE WHEN upstream > 0 THEN spent_usd END), '0'),
    coalesce(decimal_sum(CASE WHEN outcome = 'HIT' THEN saved_usd END), '0'),
    coalesce(decimal_sum(CASE WHEN outcome = 'COALESCED' THEN saved_usd END), '0'),
    coalesce(sum({_COUNTED.format("estimated")}), 0),
    coalesce(sum({_COUNTED.format("unpriced")}), 0),
    coalesce(sum(CASE WHEN outcome IN ('HIT', 'COALESCED') THEN latency - wait END), 0.0),
    coalesce(sum(broken), 0)
"""
_GROUPS: Final[dict[By, str]] = {
    "model": "model",
    "namespace": "namespace",
    "host": "host",
    "day": "coalesce(date(at, 'unixepoch'), '')",
}


def totals(ledger: Ledger, *, since: float | None = None, store_sizes: tuple[int, int, int]) -> Stats:
    """The sums of all outcomes. store_sizes: entries, blobs and bytes of both, as ``Store.sizes`` gives
    them."""
    (row,) = _query(ledger, f"SELECT {_SUMS} FROM outcomes WHERE at >= ?", since)  # noqa: S608
    entries, blobs, stored = store_sizes
    return Stats(**_fields(row), entries=entries, blobs=blobs, stored_bytes=stored)


def groups(ledger: Ledger, by: By, since: float | None = None) -> list[tuple[str, Sums]]:
    """The sums of each model, namespace, host or day (UTC, ``2026-11-24``), days in order, else most
    requests first.

    A request that no dialect recognised has the model "".
    """
    order = "1" if by == "day" else "2 DESC, 1"
    query = f"SELECT {_GROUPS[by]}, {_SUMS} FROM outcomes WHERE at >= ? GROUP BY 1 ORDER BY {order}"  # noqa: S608
    return [(name, Sums(**_fields(row))) for name, *row in _query(ledger, query, since)]


def report_json(
    ledger: Ledger, *, by: By | None = None, since: float | None = None, store_sizes: tuple[int, int, int]
) -> dict[str, Any]:
    """``{"totals": {...}, "groups": [{"name": ..., ...}]}``, ready for json.dumps; no groups when ``by`` is
    None."""
    return {
        "totals": totals(ledger, since=since, store_sizes=store_sizes).model_dump(mode="json"),
        "groups": [
            {"name": name} | sums.model_dump(mode="json") for name, sums in (groups(ledger, by, since) if by else [])
        ],
    }


@dataclass(frozen=True, slots=True)
class Estimates:
    """What is no more than estimated at one host: requests, and the USD that they spent and saved."""

    host: str
    requests: int
    spent_usd: Decimal
    saved_usd: Decimal


def estimates(ledger: Ledger, since: float | None = None) -> list[Estimates]:
    """The hosts with costs or savings that are estimates, most dollars first."""
    columns = (
        "host, count(*), "
        "coalesce(decimal_sum(CASE WHEN upstream > 0 AND spent_pricing = 'estimated' THEN spent_usd END), '0'), "
        "coalesce(decimal_sum(CASE WHEN outcome IN ('HIT', 'COALESCED') AND saved_pricing = 'estimated' "
        "THEN saved_usd END), '0')"
    )
    where = f"at >= ? AND {_COUNTED.format('estimated')}"
    query = f"SELECT {columns} FROM outcomes WHERE {where} GROUP BY 1"  # noqa: S608
    found = [
        Estimates(host, requests, Decimal(spent), Decimal(saved))
        for host, requests, spent, saved in _query(ledger, query, since)
    ]
    return sorted(found, key=lambda one: (-add(one.spent_usd, one.saved_usd), one.host))


@dataclass(frozen=True, slots=True)
class Because:
    """Requests that ended in one way for one reason. spent_usd: what they cost, where a price is known."""

    reason: str
    outcome: str
    requests: int
    spent_usd: Decimal


def reasons(ledger: Ledger, since: float | None = None) -> list[Because]:
    """Why requests were not cached or not stored, the most frequent first."""
    query = (
        "SELECT reason, outcome, count(*), coalesce(decimal_sum(CASE WHEN upstream > 0 THEN spent_usd END), '0') "
        "FROM outcomes WHERE at >= ? AND reason IS NOT NULL GROUP BY 1, 2 ORDER BY 3 DESC, 2, 1"
    )
    return [
        Because(reason, outcome, requests, Decimal(spent))
        for reason, outcome, requests, spent in _query(ledger, query, since)
    ]


def normalized(ledger: Ledger, since: float | None = None) -> dict[str, int]:
    """Normalisation step -> hits and coalesced requests whose prompt it changed, the most frequent first.

    An upper bound of what a step earned: the stored prompt may have been spelled the same odd way.
    """
    query = (
        "SELECT normalized, count(*) FROM outcomes WHERE at >= ? AND outcome IN ('HIT', 'COALESCED') "
        "AND normalized != '[]' GROUP BY 1"
    )
    steps: Counter[str] = Counter()
    for names, count in _query(ledger, query, since):
        for step in set(json.loads(names)):
            steps[step] += count
    return dict(sorted(steps.items(), key=lambda item: (-item[1], item[0])))


def _query(ledger: Ledger, query: str, since: float | None) -> Iterator[Any]:
    with ledger.reading() as db:
        yield from db.execute(query, (float("-inf") if since is None else since,)).fetchall()


def _fields(row: Any) -> dict[str, Any]:
    requests, hits, misses, coalesced, stale, bypassed, errors, upstream, spent, avoided, joined, *rest = row
    estimated, unpriced, seconds, broken = rest
    asked = requests - bypassed
    return {
        "requests": requests,
        "hits": hits,
        "misses": misses,
        "coalesced": coalesced,
        "stale": stale,
        "bypassed": bypassed,
        "errors": errors,
        "upstream_calls": upstream,
        "hit_rate": (hits + coalesced) / asked if asked else 0.0,
        "spent_usd": Decimal(spent),
        "saved_usd": add(Decimal(avoided), Decimal(joined)),
        "avoided_usd": Decimal(avoided),
        "coalesced_usd": Decimal(joined),
        "estimated": estimated,
        "unpriced": unpriced,
        "saved_seconds": seconds,
        "broken": broken,
    }
