"""Reports add up what the ledger holds: by the definitions of docs/savings.md, exactly, in plain digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Cost, Event, Outcome
from cachelayer.core.reasons import Reason
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.reports import Because, Stats, Sums, groups, normalized, reasons, report_json, totals

NOWHERE = (0, 0, 0)
DAY = 86_400.0
PAID = Cost(Decimal("0.137934"), "exact", "usage")
GUESSED = Cost(Decimal("0.1"), "estimated", "list price")
UNKNOWN = Cost(None, "unpriced", "no list price")


def event(outcome: str, **fields: object) -> Event:
    return replace(Event(Outcome(outcome), at=DAY, namespace="default", model="m", host="h"), **fields)  # type: ignore[arg-type]


@pytest.fixture
def total(ledger: Ledger) -> Callable[..., Stats]:
    def record_and_add_up(*events: Event) -> Stats:
        for each in events:
            ledger.record(each)
        return totals(ledger, store_sizes=NOWHERE)

    return record_and_add_up


def test_the_fields_are_those_of_the_contract_each_with_its_meaning() -> None:
    contract = (
        "requests hits misses coalesced stale bypassed errors upstream_calls hit_rate spent_usd saved_usd "
        "avoided_usd coalesced_usd estimated unpriced saved_seconds broken not_kept lost evicted evicted_usd faults "
        "entries blobs stored_bytes"
    )
    assert " ".join(Stats.model_fields) == contract
    assert all(field.description for field in Stats.model_fields.values())


def test_an_empty_ledger_adds_up_to_nothing(ledger: Ledger) -> None:
    stats = totals(ledger, store_sizes=(1, 2, 3))
    beside = {"evicted", "evicted_usd", "faults"}
    sums = stats.model_dump(exclude={"entries", "blobs", "stored_bytes"})
    assert sums == dict.fromkeys([*Sums.model_fields, *beside], 0)
    assert (stats.entries, stats.blobs, stats.stored_bytes) == (1, 2, 3)
    assert groups(ledger, "model") == []


def test_each_outcome_counts_in_its_own_place(total: Callable[..., Stats]) -> None:
    stats = total(
        *[event("HIT", saved=PAID, latency=20.0, wait=0.5)] * 3,
        *[event("MISS", spent=PAID, upstream=1, latency=20.0, wait=20.0)] * 2,
        *[event("COALESCED", saved=PAID, latency=20.0, wait=15.0)] * 2,
        event("STALE", upstream=1),
        *[event("BYPASS", upstream=1, spent=GUESSED)] * 2,
        event("ERROR", upstream=1, broken=2),
    )
    assert stats.requests == 11
    assert (stats.hits, stats.misses, stats.coalesced, stats.stale, stats.bypassed, stats.errors) == (3, 2, 2, 1, 2, 1)
    assert stats.upstream_calls == 6
    assert stats.hit_rate == 5 / 9
    assert stats.spent_usd == Decimal("0.475868")
    assert stats.avoided_usd == Decimal("0.413802")
    assert stats.coalesced_usd == Decimal("0.275868")
    assert stats.saved_usd == Decimal("0.689670")
    assert (stats.estimated, stats.unpriced) == (2, 0)
    assert stats.saved_seconds == 3 * 19.5 + 2 * 5.0
    assert stats.broken == 2


@pytest.mark.parametrize("outcome", ["ERROR", "STALE", "BYPASS", "MISS"])
def test_only_hits_and_coalesced_save(total: Callable[..., Stats], outcome: str) -> None:
    stats = total(
        event(outcome, saved=PAID, latency=20.0), event(outcome, saved=UNKNOWN), event(outcome, saved=GUESSED)
    )
    assert stats.saved_usd == stats.saved_seconds == stats.estimated == stats.unpriced == 0


def test_what_was_not_forwarded_was_not_spent(total: Callable[..., Stats]) -> None:
    assert total(event("BYPASS", spent=PAID, upstream=0)).spent_usd == 0


def test_estimated_and_unpriced_count_requests_not_costs(total: Callable[..., Stats]) -> None:
    stats = total(
        event("MISS", upstream=1, spent=GUESSED),
        event("MISS", upstream=1, spent=UNKNOWN),
        event("HIT", saved=GUESSED),
        event("COALESCED", saved=UNKNOWN),
        event("COALESCED", saved=GUESSED, spent=GUESSED, upstream=1),  # one request
        event("HIT", saved=UNKNOWN, spent=GUESSED, upstream=1),  # both
        event("HIT"),
        event("MISS", upstream=1),  # nothing was billed
    )
    assert (stats.estimated, stats.unpriced) == (4, 3)
    assert stats.saved_usd == Decimal("0.2")


def test_a_caller_who_waited_longer_than_the_first_call_lost_time(total: Callable[..., Stats]) -> None:
    stats = total(event("HIT", latency=1.0, wait=4.0), event("HIT", latency=2.0, wait=0.0), event("HIT", latency=None))
    assert stats.saved_seconds == -1.0


def test_ten_thousand_savings_add_up_exactly(total: Callable[..., Stats]) -> None:
    stats = total(*[event("HIT", saved=PAID)] * 10_000, event("HIT", saved=Cost(Decimal("1E-9"), "exact", "")))
    assert str(stats.saved_usd) == "1379.340000001"


def test_money_leaves_as_plain_digits_and_never_as_a_float(ledger: Ledger) -> None:
    ledger.record(event("HIT", saved=Cost(Decimal("1E-9"), "exact", "")))
    ledger.record(event("MISS", upstream=1, spent=Cost(Decimal("1E+3"), "exact", "")))
    report = report_json(ledger, by="model", store_sizes=(1, 2, 3))
    for sums in (report["totals"], report["groups"][0]):
        assert sums["saved_usd"] == sums["avoided_usd"] == "0.000000001"
        assert sums["spent_usd"] == "1000"
        assert sums["coalesced_usd"] == "0"
    assert json.loads(json.dumps(report)) == report
    assert list(report["totals"]) == list(Stats.model_fields)
    assert list(report["groups"][0]) == ["name", *Sums.model_fields]
    assert report_json(ledger, store_sizes=(1, 2, 3))["groups"] == []


def test_groups_are_disjoint_and_whole(ledger: Ledger) -> None:
    for number in range(20):
        ledger.record(
            event(
                "HIT",
                at=DAY * (number % 3) + number,
                model=f"model-{number % 4}",
                host=f"host-{number % 2}",
                namespace="odd" if number % 2 else "even",
                saved=PAID,
            )
        )
    whole = totals(ledger, store_sizes=NOWHERE)
    for by, names in (
        ("day", ["1970-01-01", "1970-01-02", "1970-01-03"]),
        ("model", ["model-0", "model-1", "model-2", "model-3"]),
        ("host", ["host-0", "host-1"]),
        ("namespace", ["even", "odd"]),
    ):
        rows = groups(ledger, by)  # type: ignore[arg-type]
        assert [name for name, _ in rows] == names
        assert sum(sums.requests for _, sums in rows) == whole.requests
        assert sum(sums.saved_usd for _, sums in rows) == whole.saved_usd


def test_groups_with_the_most_requests_come_first(ledger: Ledger) -> None:
    for model in ("a", "b", "b", ""):
        ledger.record(event("BYPASS", model=model))
    assert [name for name, _ in groups(ledger, "model")] == ["b", "", "a"]


def test_since_leaves_out_what_ended_before(ledger: Ledger) -> None:
    for number in range(10):
        ledger.record(event("HIT", at=float(number), saved=PAID, reason="x", normalized=("nfc",)))
    assert totals(ledger, since=7.0, store_sizes=NOWHERE).requests == 3
    assert [sums.requests for _, sums in groups(ledger, "host", since=7.0)] == [3]
    assert reasons(ledger, since=7.0) == [Because("x", "HIT", 3, Decimal(0))]
    assert normalized(ledger, since=7.0) == {"nfc": 3}
    assert report_json(ledger, since=7.0, by="host", store_sizes=NOWHERE)["totals"]["requests"] == 3


def test_reasons_say_why_requests_were_not_cached(ledger: Ledger) -> None:
    for outcome, reason in (("BYPASS", "stateful"), ("MISS", "blocked"), ("MISS", "blocked"), ("MISS", None)):
        ledger.record(event(outcome, reason=reason, upstream=int(outcome == "MISS"), spent=PAID))
    assert reasons(ledger) == [
        Because("blocked", "MISS", 2, 2 * Decimal("0.137934")),
        Because("stateful", "BYPASS", 1, Decimal(0)),  # not forwarded, whatever it carries
    ]
    assert report_json(ledger, store_sizes=NOWHERE)["reasons"][0] == {
        "reason": "blocked",
        "outcome": "MISS",
        "requests": 2,
        "spent_usd": "0.275868",
        "meaning": Reason.BLOCKED.meaning,
    }


def test_normalisation_steps_are_counted_where_they_may_have_earned_something(ledger: Ledger) -> None:
    ledger.record(event("HIT", normalized=("nfc", "strip")))
    ledger.record(event("COALESCED", normalized=("strip", "strip")))
    ledger.record(event("MISS", normalized=("crlf",)))
    ledger.record(event("HIT"))
    assert list(normalized(ledger).items()) == [("strip", 2), ("nfc", 1)]


def test_a_ledger_that_cannot_be_read_is_a_ledger_error(ledger: Ledger) -> None:
    ledger.folder.mkdir(parents=True)
    (ledger.folder / "ledger.sqlite3").mkdir()
    with pytest.raises(LedgerError, match="cannot read"):
        totals(ledger, store_sizes=NOWHERE)
