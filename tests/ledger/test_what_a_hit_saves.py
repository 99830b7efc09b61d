"""What a hit saves is what its asker would have paid: an exact cost of his own scope for ever, else his own price, else
an estimate.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachelayer.core.model import Asked, Bill, Cost, Reading, Usage
from cachelayer.ledger.prices import Prices

AT = 1_795_000_000.0  # 18 November 2026
GOOGLE = "generativelanguage.googleapis.com"
CHEAP = "cheap.example"
PRO = Asked(
    key="0" * 64,
    canonical=b"",
    dialect="gemini",
    operation="image",
    model="gemini-3-pro-image",
    scope=GOOGLE,
    host=GOOGLE,
    namespace="default",
    count=1,
    stream=False,
    never_cached=None,
    home="google",
)
AT_CHEAP = replace(PRO, scope=CHEAP, host=CHEAP, home=None)
USAGE = Usage(text_in=567, image_in=0, total_in=567, text_out=200, image_out=1120, total_out=1320, detailed=True)
LIST = Decimal("0.137934")


def paid(asked: Asked, prices: dict[str, Any] | None = None, *, images: int = 1, **reading: Any) -> Bill:
    usage = reading.pop("usage", USAGE)
    return Prices(prices).bill(asked, Reading(None, images, usage, **reading), at=AT)


def saved(asked: Asked, bill: Bill, prices: dict[str, Any] | None = None) -> tuple[Decimal | None, str]:
    found = Prices(prices).saved(asked, bill)
    assert (found.usd is None) == (found.pricing == "unpriced")
    assert found.reason
    return found.usd, found.pricing


class TestTheSameScope:
    @pytest.mark.parametrize("later", [None, {GOOGLE: "9.99"}, {GOOGLE: "list"}])
    def test_an_exact_cost_stands_for_ever(self, later: dict[str, Any] | None) -> None:
        assert saved(PRO, paid(PRO), later) == (LIST, "exact")

    @pytest.mark.parametrize("then", ["0.05", "list"])
    def test_so_does_the_users_own_word_of_then(self, then: str) -> None:
        bill = paid(AT_CHEAP, {CHEAP: then})
        for later in (None, {CHEAP: "9.99"}, {CHEAP: "list"}):
            assert saved(AT_CHEAP, bill, later) == (LIST if then == "list" else Decimal("0.05"), "exact")

    def test_so_does_what_the_answer_said(self) -> None:
        assert saved(AT_CHEAP, paid(AT_CHEAP, cost=Decimal("0.03")), {CHEAP: "1"}) == (Decimal("0.03"), "exact")

    def test_a_price_named_later_reaches_an_estimate(self) -> None:
        bill = paid(AT_CHEAP)
        assert saved(AT_CHEAP, bill) == (LIST, "estimated")
        assert saved(AT_CHEAP, bill, {CHEAP: "0.05"}) == (Decimal("0.05"), "exact")
        assert saved(AT_CHEAP, bill, {CHEAP: "list"}) == (LIST, "exact")
        assert saved(AT_CHEAP, bill, {"other.example": "0.05"}) == (LIST, "estimated")

    def test_a_price_named_later_reaches_what_had_none(self) -> None:
        asked = replace(AT_CHEAP, model="unheard-of-image")
        bill = paid(asked, images=3)
        assert saved(asked, bill) == (None, "unpriced")
        assert saved(asked, bill, {CHEAP: "list"}) == (None, "unpriced")
        assert saved(asked, bill, {CHEAP: "0.05"}) == (Decimal("0.15"), "exact")

    def test_list_takes_away_no_other_doubt(self) -> None:
        bill = paid(AT_CHEAP, usage=replace(USAGE, other_in=0, total_in=667))
        assert saved(AT_CHEAP, bill, {CHEAP: "list"}) == (Decimal("0.138134"), "estimated")

    def test_the_price_is_that_of_the_size_which_was_made(self) -> None:
        prices = {CHEAP: {"gemini-3-pro-image": {"4K": "0.10", "*": "0.05"}}}
        asked = replace(AT_CHEAP, size="auto")
        assert saved(asked, paid(asked, size="4K"), prices) == (Decimal("0.10"), "exact")
        assert saved(asked, paid(asked), prices) == (Decimal("0.05"), "exact")


class TestAnotherScope:
    def test_the_case_of_the_issue(self) -> None:
        """Official first, then three asks that would have gone to a reseller: 3 x 0.05, not 3 x 0.137934."""
        prices = {CHEAP: "0.05"}
        bill = paid(PRO, prices)
        assert (bill.cost and bill.cost.usd, saved(AT_CHEAP, bill, prices)) == (LIST, (Decimal("0.05"), "exact"))
        assert saved(PRO, bill, prices) == (LIST, "exact")

    def test_without_a_price_of_the_askers_host_it_is_an_estimate(self) -> None:
        assert saved(AT_CHEAP, paid(PRO)) == (LIST, "estimated")
        bill = paid(AT_CHEAP, {CHEAP: "0.05"})
        assert saved(PRO, bill, {CHEAP: "0.05"}) == (Decimal("0.05"), "estimated")
        assert "paid at cheap.example, not at generativelanguage" in Prices().saved(PRO, bill).reason

    def test_list_is_what_the_askers_host_charges(self) -> None:
        bill = paid(AT_CHEAP, {CHEAP: "0.05"})
        assert saved(PRO, bill, {GOOGLE: "list", CHEAP: "0.05"}) == (LIST, "exact")
        assert saved(AT_CHEAP, paid(PRO), {CHEAP: "list"}) == (LIST, "exact")
        assert saved(PRO, paid(AT_CHEAP, cost=Decimal("0.03")), {GOOGLE: "list"}) == (LIST, "exact")

    def test_list_without_a_list_price_leaves_the_frozen_cost(self) -> None:
        asked = replace(AT_CHEAP, model="unheard-of-image")
        there = replace(asked, scope="dear.example", host="dear.example")
        assert saved(there, paid(asked, {CHEAP: "0.05"}), {"dear.example": "list"}) == (Decimal("0.05"), "estimated")

    def test_another_path_of_one_host_is_another_scope(self) -> None:
        there = replace(AT_CHEAP, scope=f"{CHEAP}/gateway")
        bill = paid(AT_CHEAP, cost=Decimal("0.03"))
        assert saved(there, bill) == (Decimal("0.03"), "estimated")
        assert saved(there, bill, {CHEAP: "0.05"}) == (Decimal("0.05"), "exact")


class TestAnotherTier:
    @pytest.mark.parametrize(
        ("asked", "answered", "again", "pricing"),
        [
            (None, None, None, "exact"),
            (None, None, "auto", "exact"),
            (None, "standard", "SERVICE_TIER_STANDARD", "exact"),
            (None, "on_demand", None, "exact"),
            (None, "batch", None, "exact"),  # whatever the account is set to, it is the same as then
            ("batch", None, "batch", "exact"),
            ("batch", None, "SERVICE_TIER_BATCH", "exact"),
            ("batch", None, None, "estimated"),
            (None, None, "batch", "estimated"),
            (None, None, "SERVICE_TIER_FLEX", "estimated"),
            ("batch", "standard", "batch", "estimated"),
        ],
    )
    def test_is_an_estimate(self, asked: str | None, answered: str | None, again: str | None, pricing: str) -> None:
        bill = paid(replace(PRO, tier=asked), usage=replace(USAGE, tier=answered))
        assert bill.cost is not None
        assert bill.cost.pricing == "exact"
        assert saved(replace(PRO, tier=again), bill) == (bill.cost.usd, pricing)
        assert saved(replace(PRO, tier=again), bill, {GOOGLE: "list"}) == (bill.cost.usd, pricing)

    def test_a_price_per_image_is_the_same_in_every_tier(self) -> None:
        bill = paid(replace(AT_CHEAP, tier="batch"), {CHEAP: "0.05"})
        assert saved(AT_CHEAP, bill, {CHEAP: "0.05"}) == (Decimal("0.05"), "exact")


def test_nothing_that_was_paid_saves_nothing_that_is_known() -> None:
    bill = Bill(None, None, GOOGLE, GOOGLE, 0, None, None, None)
    assert saved(PRO, bill) == (None, "unpriced")


costs = st.none() | st.builds(
    Cost, st.decimals(0, 1, places=3), st.sampled_from(["exact", "estimated"]), st.just("a reason")
)
costs = costs | st.just(Cost(None, "unpriced", "a reason"))
scopes = st.sampled_from([GOOGLE, CHEAP, f"{CHEAP}/gateway", "h:80"])
tiers = st.sampled_from([None, "standard", "flex", "batch"])


@given(
    cost=costs,
    listed=st.none() | costs,
    scope=scopes,
    asked_scope=scopes,
    tier=tiers,
    asked_tier=tiers,
    own=st.sampled_from([None, "0.05", "list"]),
    images=st.integers(0, 3),
)
def test_exact_is_only_what_is_known_of_the_askers_own_call(
    cost: Cost | None,
    listed: Cost | None,
    scope: str,
    asked_scope: str,
    tier: str | None,
    asked_tier: str | None,
    own: str | None,
    images: int,
) -> None:
    host = asked_scope.partition("/")[0].removesuffix(":80")
    asked = replace(PRO, scope=asked_scope, host=host, tier=asked_tier)
    bill = Bill(cost, listed, scope, scope, images, None, tier, tier)
    found = Prices({} if own is None else {host: own}).saved(asked, bill)
    same = scope == asked_scope and (tier or "standard") == (asked_tier or "standard")
    if same and cost is not None and cost.pricing == "exact":
        assert found == cost
    elif own == "0.05":
        assert (found.usd, found.pricing) == (images * Decimal("0.05"), "exact")
    elif own is None:
        assert found.pricing != "exact"
        assert found.usd == (None if cost is None else cost.usd)
