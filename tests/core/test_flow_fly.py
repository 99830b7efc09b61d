"""A call's half of the flow, and what passes through, stepped by hand."""

from __future__ import annotations

from typing import Any

import pytest

from cachelayer.core.effects import Announce, Begin, Depart, Judge, Keep, LookUp, Send, TakeLease
from cachelayer.core.flow import watch
from cachelayer.core.model import Answer, Unkeyed
from cachelayer.core.reasons import Reason
from cachelayer.core.trip import (
    Abandoned,
    Absent,
    Answered,
    Clearance,
    Crashed,
    Failed,
    Lease,
    Overtaken,
    PassThrough,
)
from cachelayer.core.trip import Told as ToldOfLanding
from tests.core.stepping import ASKED, BEGAN, COST, Left, Step, Told, flying, found, judged, received, step

FIRST, SERVED = ToldOfLanding(True, False, None), ToldOfLanding(False, True, None)
READY: list[Step] = [(TakeLease, Lease(True, False)), (LookUp, Absent()), (Depart, Clearance.GO)]
SENT: list[Step] = [*READY, (Begin, "id"), (Send, received())]


def money(told: Told) -> list[tuple[Any, ...]]:
    return [(event.upstream, event.spent and event.spent.pricing, event.images, event.call) for event in told.events]


def test_a_good_answer_is_booked_durably_before_it_is_stored() -> None:
    told = flying(*SENT, (Judge, judged()), (Announce, FIRST), (Keep, None))
    assert isinstance(told.result, Answered)
    assert told.result.reason is None
    assert told.outcomes == [("MISS", None)]
    assert told.durable == told.endings
    assert money(told) == [(1, "exact", 1, "id")]
    assert [(event.latency, event.status, event.saved) for event in told.events] == [(20.0, 200, None)]


def test_an_answer_that_could_not_be_kept_says_why() -> None:
    told = flying(*SENT, (Judge, judged()), (Announce, FIRST), (Keep, Reason.NO_ROOM))
    assert told.result.reason == Reason.NO_ROOM
    assert told.outcomes == [("MISS", None)]


def test_an_answer_that_is_not_good_is_booked_and_not_stored() -> None:
    told = flying(*SENT, (Judge, judged(Reason.BLOCKED)), (Announce, FIRST))
    assert told.result.reason == Reason.BLOCKED
    assert told.outcomes == [("MISS", Reason.BLOCKED)]
    assert told.durable == []
    assert money(told) == [(1, None, 0, "id")]


@pytest.mark.parametrize("told_so", [SERVED, ToldOfLanding(False, False, Reason.READ_TIMEOUT)])
def test_an_answer_after_anothers_is_late(told_so: ToldOfLanding) -> None:
    told = flying(*SENT, (Judge, judged()), (Announce, told_so))
    assert told.result.reason == Reason.LATE
    assert told.outcomes == [("MISS", Reason.LATE)]
    assert money(told) == [(1, "exact", 1, "id")]


@pytest.mark.parametrize(
    ("inside", "reason"), [(found(created=1002.0), Reason.LATE), (found(created=1000.5), None), (Absent(), None)]
)
def test_a_slow_answer_is_late_when_an_entry_was_made_since_it_was_sent(inside: Any, reason: str | None) -> None:
    slow: list[Step] = [*SENT[:-1], (Send, received(latency=91.0)), (Judge, judged()), (Announce, FIRST)]
    kept: list[Step] = [(Keep, None)] if reason is None else []
    assert flying(*slow, (LookUp, inside), *kept).outcomes == [("MISS", reason)]


# --- nothing was sent -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [None, Reason.CANCELLED, Reason.READ_TIMEOUT])
@pytest.mark.parametrize("waited", [True, False])
def test_an_entry_found_for_somebody_who_has_left_is_no_saving(left: Reason | None, waited: bool) -> None:
    lease, announced = (TakeLease, Lease(not waited, waited)), (Announce, ToldOfLanding(True, False, left))
    told = flying(lease, (LookUp, found()), announced)
    assert told.result == Overtaken(found(), waited)
    assert told.outcomes == ([] if left is None else [("ERROR", left)])  # who is aboard books what he takes
    assert [(event.upstream, event.saved) for event in told.events] == [(0, None)] * len(told.endings)


@pytest.mark.parametrize("left", [None, Reason.CANCELLED])
def test_a_call_that_nobody_needs_is_not_sent(left: Reason | None) -> None:
    told = flying(*READY[:-1], (Depart, Clearance.END), (Announce, ToldOfLanding(True, False, left)))
    assert told.result == Abandoned()
    assert told.outcomes == ([] if left is None else [("ERROR", left)])


def test_who_waits_for_a_lease_looks_in_the_store_each_time() -> None:
    waiting: list[Step] = [(TakeLease, Lease(False, True)), (LookUp, Absent(broken=1)), (Depart, Clearance.WAIT)]
    told = flying(*waiting, *waiting, (TakeLease, Lease(True, True)), (LookUp, found()), (Announce, FIRST))
    assert told.result == Overtaken(found(), True)


@pytest.mark.parametrize("left", [None, Reason.READ_TIMEOUT])
@pytest.mark.parametrize("at", range(len(READY)), ids=[effect.__name__ for effect, _ in READY])
def test_given_up_before_it_was_sent(at: int, left: Reason | None) -> None:
    told = flying(*READY[:at], (READY[at][0], Left()), (Announce, ToldOfLanding(True, False, left)))
    assert told.left
    assert told.outcomes == ([] if left is None else [("ERROR", Reason.ABANDONED)])
    assert all(event.upstream == 0 for event in told.events)


# --- something was sent, and nothing came -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told_so", "outcome", "why"), [(FIRST, "ERROR", None), (SERVED, "MISS", Reason.LATE)], ids=["alone", "served"]
)
@pytest.mark.parametrize(
    ("brings", "reason", "upstream"),
    [
        (Failed(RuntimeError("cut"), sent=True), Reason.RAISED, 1),
        (Failed(RuntimeError("no connection"), sent=False), Reason.RAISED, 0),
        (Left(), Reason.ABANDONED, 1),
    ],
)
def test_who_was_served_by_another_call_is_a_miss_whatever_becomes_of_his_own(
    brings: Any, reason: Reason, upstream: int, told_so: ToldOfLanding, outcome: str, why: Reason | None
) -> None:
    told = flying(*READY, (Begin, "id"), (Send, brings), (Announce, told_so))
    assert told.left or isinstance(told.result, Crashed)
    assert told.outcomes == [(outcome, why or reason)]
    assert money(told) == [(upstream, "unpriced" if upstream else None, 0, "id")]


# --- what passes ------------------------------------------------------------------------------------------------------

ANSWER = Answer(200, (), b"body")
THROUGH = PassThrough(Reason.STATEFUL, ASKED, BEGAN, "id")


def test_what_passes_is_judged_when_it_was_seen_whole() -> None:
    told = step(watch(THROUGH, 200, ANSWER, sent=True), (Judge, judged()))
    assert told.outcomes == [("BYPASS", Reason.STATEFUL)]
    assert money(told) == [(1, "exact", 1, "id")]
    assert [(event.key, event.spent, event.model, event.wait) for event in told.events] == [(None, COST, "m", 3.0)]


@pytest.mark.parametrize(
    ("asked", "status", "pricing"),
    [
        (ASKED, 200, "unpriced"),  # a stream
        (ASKED, None, "unpriced"),  # it raised after it was sent
        (ASKED, 429, None),
        (Unkeyed(Reason.MALFORMED, "gemini", "host"), 200, "unpriced"),
        (Unkeyed(Reason.MALFORMED, "gemini", "host"), 400, None),
        (Unkeyed(Reason.UNRECOGNISED, None, "host"), 200, None),
        (None, 200, None),
    ],
)
def test_what_passes_unread_is_unpriced_where_somebody_may_send_a_bill(
    asked: Any, status: int | None, pricing: str | None
) -> None:
    told = step(watch(PassThrough(Reason.STREAM, asked, BEGAN), status, None, sent=True))
    assert [(event.upstream, event.spent and event.spent.pricing) for event in told.events] == [(1, pricing)]


def test_what_never_reached_the_provider_costs_nothing() -> None:
    [event] = step(watch(THROUGH, None, None, sent=False)).events
    assert (event.outcome, event.upstream, event.spent) == ("BYPASS", 0, None)
