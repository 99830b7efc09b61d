"""The flow, stepped by hand: who books the outcome of whoever made a call, and of whoever leaves."""

from __future__ import annotations

from collections.abc import Coroutine
from decimal import Decimal
from typing import Any

import pytest

from cachelayer.core.effects import (
    Abandoned,
    Absent,
    Announce,
    Arrival,
    Arrived,
    Begin,
    Board,
    Canonicalize,
    Clearance,
    Crashed,
    Depart,
    Failed,
    Found,
    Lease,
    Leave,
    LookUp,
    Moment,
    Now,
    Overtake,
    Record,
    Send,
    Silent,
    Stored,
    TakeLease,
    TimedOut,
    Told,
    Worth,
)
from cachelayer.core.entry import Entry
from cachelayer.core.flow import fly, serve
from cachelayer.core.model import Asked, Cost, Event, Outcome, Request
from cachelayer.core.reasons import Reason

COST = Cost(Decimal("0.05"), "exact", "a test")
ASKED = Asked(
    key="ab" * 32,
    canonical=b"{}",
    dialect="openai-images",
    operation="image",
    model="m",
    scope="host",
    host="host",
    namespace="default",
    count=1,
    stream=False,
    refusal=None,
)


class Left(BaseException):
    """The caller leaves."""


def step(flow: Coroutine[Any, Any, Any], *script: tuple[type, Any]) -> tuple[Any, list[Event]]:
    """Run a flow by a script: what each effect must be, and what comes of it (an exception is raised)."""
    booked: list[Event] = []
    rest = list(script)
    answer: Any = None
    while True:
        try:
            effect = flow.throw(answer) if isinstance(answer, BaseException) else flow.send(answer)
        except StopIteration as stop:
            assert not rest
            return stop.value, booked
        except Left:
            assert not rest
            return Left, booked
        if isinstance(effect, Now):
            answer = Moment(1.0, 1.0)
        elif isinstance(effect, Worth):
            answer = COST
        elif isinstance(effect, Record):
            booked.append(effect.event)
            answer = None
        else:
            expected, answer = rest.pop(0)
            assert isinstance(effect, expected), effect


def found() -> Found:
    fields: dict[str, Any] = dict.fromkeys(Entry.__dataclass_fields__)
    fields |= {"key": ASKED.key, "status": 200, "headers": (), "created": 1.0, "images": 1, "latency": 2.0}
    fields |= {"cost": COST}
    return Found(Entry(**fields), b"body")


def serving(*script: tuple[type, Any]) -> tuple[Any, list[Event]]:
    flow = serve(Request("POST", "http://host/v1"), ("image",))
    return step(flow, (Canonicalize, ASKED), (LookUp, Absent()), *script)


def flying(*script: tuple[type, Any]) -> tuple[Any, list[Event]]:
    return step(fly(ASKED, Moment(0.0, 0.0), 0, 90.0), *script)


GO = [(TakeLease, Lease(True, False)), (LookUp, Absent()), (Depart, Clearance.GO), (Begin, "id")]


@pytest.mark.parametrize("left", [Reason.CANCELLED, Reason.READ_TIMEOUT])
def test_an_entry_found_for_somebody_who_has_left_is_no_saving(left: Reason) -> None:
    landing = Stored(found(), True)
    got, booked = flying((TakeLease, Lease(False, True)), (LookUp, landing.found), (Announce, Told(True, False, left)))
    assert got == landing
    assert [(event.outcome, event.reason, event.saved, event.upstream) for event in booked] == [
        (Outcome.ERROR, left, None, 0)
    ]


def test_whoever_is_aboard_books_an_entry_when_he_takes_it() -> None:
    for waited, outcome in ((True, Outcome.COALESCED), (False, Outcome.HIT)):
        landing = Stored(found(), waited)
        _, booked = flying(
            (TakeLease, Lease(True, waited)), (LookUp, landing.found), (Announce, Told(True, False, None))
        )
        assert booked == []
        reply, booked = serving((Board, None), (Arrival, Arrived(landing, own=True)))
        assert reply.outcome is outcome
        assert [(event.outcome, event.saved) for event in booked] == [(outcome, COST)]


@pytest.mark.parametrize("books", [True, False])
def test_whoever_leaves_is_booked_once(books: bool) -> None:
    got, booked = serving((Board, None), (Arrival, Left()), (Leave, books))
    assert got is Left
    assert [(event.outcome, event.reason) for event in booked] == [(Outcome.ERROR, Reason.CANCELLED)] * books


def test_an_interrupt_while_boarding_counts_too() -> None:
    got, booked = serving((Board, Left()), (Leave, True))
    assert got is Left
    assert [event.outcome for event in booked] == [Outcome.ERROR]


def test_who_waits_for_a_silent_flight_boards_again() -> None:
    reply, booked = serving(
        (Board, None),
        (Arrival, Arrived(Silent())),
        (LookUp, Absent()),
        (Board, None),
        (Arrival, Arrived(Silent())),
        (LookUp, found()),
        (Overtake, None),
        (Board, None),
        (Arrival, Arrived(Stored(found(), True), own=False, booked=True)),
    )
    assert (reply.outcome, reply.saved) == (Outcome.MISS, None)
    assert booked == []  # his call's business


def test_a_time_out_is_booked_by_his_call_if_he_made_one() -> None:
    for own in (True, False):
        reply, booked = serving((Board, None), (Arrival, Arrived(TimedOut(), booked=own)))
        assert isinstance(reply, TimedOut)
        assert [event.reason for event in booked] == [Reason.READ_TIMEOUT] * (not own)


@pytest.mark.parametrize("served", [True, False])
def test_who_was_served_by_another_call_is_a_miss_whatever_becomes_of_his_own(served: bool) -> None:
    error = RuntimeError("cut")
    told = Told(not served, served, None)
    got, booked = flying(*GO, (Send, Failed(error, sent=True)), (Announce, told))
    assert isinstance(got, Crashed)
    got, cut = flying(*GO, (Send, Left()), (Announce, told))
    assert got is Left
    outcome = Outcome.MISS if served else Outcome.ERROR
    assert [(event.outcome, event.upstream) for event in booked + cut] == [(outcome, 1)] * 2
    assert [event.call for event in booked + cut] == ["id", "id"]
    reasons = [Reason.LATE] * 2 if served else [Reason.RAISED, Reason.ABANDONED]
    assert [event.reason for event in booked + cut] == reasons


def test_a_call_that_nobody_needs_is_not_sent() -> None:
    script = [(TakeLease, Lease(True, True)), (LookUp, Absent()), (Depart, Clearance.END)]
    for left in (None, Reason.CANCELLED):
        got, booked = flying(*script, (Announce, Told(True, False, left)))
        assert got == Abandoned()
        assert [event.reason for event in booked] == ([] if left is None else [left])
