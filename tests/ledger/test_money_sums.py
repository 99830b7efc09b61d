"""Sums of money never overflow and never round."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from cachelayer.core.model import Cost, Event, Outcome
from cachelayer.core.money import LARGEST_USD
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.reports import estimates, groups, totals

SIZES = (0, 0, 0)


def test_ten_thousand_million_dollars_and_a_trillionth(ledger: Ledger, hit: Event) -> None:
    most = Cost(LARGEST_USD, "exact", "a reason")
    miss = replace(hit, outcome=Outcome.MISS, saved=None, spent=most, upstream=1)
    for number in range(5_000):
        ledger.record(replace(miss, at=hit.at + number))
        ledger.record(replace(hit, at=hit.at + number, saved=most))
    least = Cost(Decimal("1E-12"), "estimated", "a reason")
    ledger.record(replace(miss, spent=least))
    ledger.record(replace(hit, outcome=Outcome.COALESCED, saved=least))
    stats = totals(ledger, store_sizes=SIZES)
    assert stats.spent_usd == Decimal("5000000000.000000000001")
    assert stats.saved_usd == Decimal("5000000000.000000000001")
    assert stats.spent_usd + stats.saved_usd > 10**10
    assert stats.model_dump(mode="json")["saved_usd"] == "5000000000.000000000001"
    ((_, sums),) = groups(ledger, "host")
    assert sums.saved_usd == stats.saved_usd


def test_estimates_are_those_dollars_that_are_no_more(ledger: Ledger, hit: Event) -> None:
    exact, about = Cost(Decimal("5"), "exact", "a reason"), Cost(Decimal("0.25"), "estimated", "a reason")
    miss = replace(hit, outcome=Outcome.MISS, saved=None, upstream=1)
    for event in (
        replace(miss, host="a.example", spent=about),
        replace(hit, host="a.example", saved=about),
        replace(hit, host="a.example", saved=exact),
        replace(miss, host="b.example", spent=about),
        replace(miss, host="c.example", spent=exact),
        replace(miss, host="d.example", spent=Cost(None, "unpriced", "a reason")),
        replace(hit, host="e.example", outcome=Outcome.BYPASS, saved=about),  # saves nothing, whatever it carries
    ):
        ledger.record(event)
    found = [(one.host, one.requests, one.spent_usd, one.saved_usd) for one in estimates(ledger)]
    assert found == [
        ("a.example", 2, Decimal("0.25"), Decimal("0.25")),
        ("b.example", 1, Decimal("0.25"), Decimal(0)),
    ]
    assert estimates(ledger, since=hit.at + 1) == []
