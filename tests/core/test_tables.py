"""The pure tables of the flow that its own tests do not already go through row by row."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import pytest

from cachelayer.core.model import Plan
from cachelayer.core.tables import Berth, InAir, Situation, berth, gate, plan_of
from tests.core.stepping import ASKED, RULES

MOVING = InAir(landed=False, stands_still=False, silent=False, full=False, his_call=False, needs_him=False)


@pytest.mark.parametrize(
    ("in_air", "expected"),
    [
        (None, Berth.START),
        (MOVING, Berth.WAIT),
        (replace(MOVING, stands_still=True), Berth.START),
        (replace(MOVING, landed=True, stands_still=True), Berth.WAIT),  # it is handed over in a moment
        (replace(MOVING, silent=True), Berth.HEDGE),
        (replace(MOVING, needs_him=True), Berth.HEDGE),
        (replace(MOVING, silent=True, his_call=True), Berth.WAIT),
        (replace(MOVING, silent=True, full=True), Berth.WAIT),
    ],
)
def test_where_a_caller_waits(in_air: InAir | None, expected: Berth) -> None:
    assert berth(in_air) is expected


def test_nobody_makes_two_calls_and_nobody_makes_one_in_a_flight_that_has_landed() -> None:
    for bits in itertools.product([False, True], repeat=len(fields(InAir))):
        in_air = InAir(*bits)
        where = berth(in_air)
        if in_air.landed or in_air.full or in_air.his_call:
            assert where is not Berth.HEDGE
        if in_air.landed:
            assert where is Berth.WAIT


def test_settings_are_resolved_once() -> None:
    plan = plan_of(ASKED, replace(RULES, ttl=60.0, hedge_after=5.0, finish_timeout=7.0), Situation())
    assert plan == Plan(ttl=60.0, hedge_after=5.0, finish_timeout=7.0)
    assert gate(Situation()) is None
