"""The caller's half of the flow, stepped by hand: every landing, and a caller who leaves at every await."""

from __future__ import annotations

from typing import Any

import pytest

from cachelayer.core.effects import Arrival, Begin, Board, Canonicalize, Disembark, LookUp, Overtake
from cachelayer.core.model import Asked, Unkeyed
from cachelayer.core.reasons import Reason
from cachelayer.core.tables import Situation
from cachelayer.core.trip import (
    Abandoned,
    Absent,
    Answered,
    Arrived,
    Crashed,
    Landing,
    Original,
    Overtaken,
    PassThrough,
    Replay,
    Silent,
    TimedOut,
)
from tests.core.stepping import (
    ASKED,
    BEGAN,
    COST,
    NOW,
    Left,
    Step,
    Told,
    answered,
    found,
    received,
    serving,
)

ERROR = RuntimeError("cut")
MISSING: list[Step] = [(Canonicalize, ASKED), (LookUp, Absent()), (Board, None)]


def landed(landing: Any, **how: bool) -> Told:
    return serving(*MISSING, (Arrival, Arrived(landing, **how)))


# --- before a flight --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        (Situation(disabled=True), Reason.DISABLED),
        (Situation(foreign_loop=True), Reason.NOT_ASYNCIO),
        (Situation(disabled=True, closed=True, foreign_loop=True), Reason.DISABLED),
    ],
)
def test_where_nothing_can_be_done_the_request_is_not_even_read(situation: Situation, reason: Reason) -> None:
    told = serving(situation=situation)
    assert told.result == PassThrough(reason, None, BEGAN)
    assert told.endings == []


def test_what_has_no_key_passes() -> None:
    unkeyed = Unkeyed(Reason.MALFORMED, "gemini", "host", "m")
    assert serving((Canonicalize, unkeyed)).result == PassThrough(Reason.MALFORMED, unkeyed, BEGAN)


@pytest.mark.parametrize(
    ("asked", "situation", "reason", "call"),
    [
        ({"operation": "text"}, Situation(), Reason.OPERATION_OFF, None),
        ({"never_cached": Reason.STATEFUL}, Situation(), Reason.STATEFUL, "id"),
        ({"stream": True}, Situation(), Reason.STREAM, "id"),
        ({}, Situation(closed=True), Reason.CLOSED, "id"),
        ({"operation": "text"}, Situation(closed=True), Reason.CLOSED, None),
    ],
)
def test_an_image_call_that_passes_is_begun(
    asked: dict[str, Any], situation: Situation, reason: Reason, call: str | None
) -> None:
    one = Asked(**{**{name: getattr(ASKED, name) for name in Asked.__slots__}, **asked})
    begins: list[Step] = [] if call is None else [(Begin, call)]
    told = serving((Canonicalize, one), *begins, situation=situation)
    assert told.result == PassThrough(reason, one, BEGAN, call)
    assert told.endings == []  # by watch, when it is over


def test_a_hit() -> None:
    told = serving((Canonicalize, ASKED), (LookUp, found(created=900.0, broken=1)))
    assert isinstance(told.result, Replay)
    assert (told.result.outcome, told.result.age, told.result.saved) == ("HIT", NOW.unix - 900.0, COST)
    assert told.outcomes == [("HIT", None)]
    [event] = told.events
    assert (event.broken, event.upstream, event.images, event.latency, event.wait) == (1, 0, 1, 20.0, 3.0)


# --- what a flight lands with -----------------------------------------------------------------------------------------

BAD = Reason.BLOCKED


@pytest.mark.parametrize("how", [{}, {"own": True}, {"shares": True}, {"own": True, "shares": True}])
@pytest.mark.parametrize(("waited", "outcome"), [(True, "COALESCED"), (False, "HIT")])
def test_an_entry_is_anybodys(how: dict[str, bool], waited: bool, outcome: str) -> None:
    told = landed(Overtaken(found(), waited), **how)
    assert (told.result.outcome, told.result.saved) == (outcome, COST)
    assert told.outcomes == [(outcome, None)]


@pytest.mark.parametrize("landing", [answered(), answered(BAD), answered(reason=Reason.LATE)])
def test_his_own_answer_is_the_providers_and_is_booked_by_his_call(landing: Answered) -> None:
    told = landed(landing, own=True, booked=True, shares=True)
    assert told.result == Original(ASKED.key, landing.received, landing.reason)
    assert told.endings == []


def test_his_own_failure_is_his_exception() -> None:
    told = landed(Crashed(ERROR), own=True, booked=True, shares=True)
    assert told.result == Crashed(ERROR)
    assert told.endings == []


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("reason", [None, Reason.NO_ROOM])
def test_a_good_answer_serves_all_whatever_their_credentials(shares: bool, reason: str | None) -> None:
    told = landed(answered(reason=reason), shares=shares)
    assert (told.result.outcome, told.result.saved, told.result.reason) == ("COALESCED", COST, reason)
    assert [name for name, _ in told.result.answer.headers] == ["content-type"]
    assert told.outcomes == [("COALESCED", None)]
    assert told.events[0].images == 1


def test_a_failure_is_shared_by_those_with_the_same_credentials() -> None:
    told = landed(answered(BAD), shares=True)
    assert (told.result.outcome, told.result.answer.status, told.result.reason) == ("ERROR", 429, BAD)
    assert [name for name, _ in told.result.answer.headers] == ["content-type", "retry-after"]
    assert told.outcomes == [("ERROR", BAD)]
    told = landed(Crashed(ERROR), shares=True)
    assert told.result == Crashed(ERROR, shared=True)
    assert told.outcomes == [("ERROR", Reason.RAISED)]


@pytest.mark.parametrize("failure", [answered(BAD), Crashed(ERROR), Abandoned()])
def test_after_anothers_failure_he_boards_again(failure: Landing) -> None:
    again: list[Step] = [(Board, None), (Arrival, Arrived(answered()))]
    told = serving(*MISSING, (Arrival, Arrived(failure)), *again)
    assert told.outcomes == [("COALESCED", None)]


def test_after_a_failure_of_ours_he_forwards_it_himself() -> None:
    told = serving(*MISSING, (Arrival, Arrived(Abandoned(fault=True))), (Begin, "id"))
    assert told.result == PassThrough(Reason.INTERNAL_ERROR, ASKED, BEGAN, "id")
    assert told.endings == []


@pytest.mark.parametrize("landing", [Overtaken(found(), True), answered(), answered(reason=Reason.NO_ROOM), TimedOut()])
def test_who_made_a_call_is_booked_by_it_whatever_he_got(landing: Landing | TimedOut) -> None:
    told = landed(landing, booked=True)
    assert told.endings == []
    assert isinstance(told.result, TimedOut) or (told.result.outcome, told.result.saved) == ("MISS", None)


@pytest.mark.parametrize("failure", [answered(BAD), Crashed(ERROR)])
def test_who_was_booked_already_is_not_booked_again_for_the_failure_he_shares(failure: Landing) -> None:
    assert landed(failure, booked=True, shares=True).endings == []


def test_a_time_out_is_his_own() -> None:
    told = landed(TimedOut())
    assert told.result == TimedOut()
    assert told.outcomes == [("ERROR", Reason.READ_TIMEOUT)]


def test_a_silent_flight_has_him_look_in_the_store() -> None:
    silent: list[Step] = [(Arrival, Arrived(Silent()))]
    told = serving(
        *MISSING,
        *silent,
        (LookUp, Absent()),
        (Board, None),
        *silent,
        (LookUp, found()),
        (Overtake, None),
        (Board, None),
        (Arrival, Arrived(Overtaken(found(), waited=True), booked=True)),
    )
    assert (told.result.outcome, told.result.saved) == ("MISS", None)
    assert told.endings == []


def test_damage_on_the_way_is_counted_once() -> None:
    script: list[Step] = [(Canonicalize, ASKED), (LookUp, Absent(broken=1)), (Board, None)]
    for own, broken in ((True, 2), (False, 1)):
        told = serving(*script, (Arrival, Arrived(Overtaken(found(broken=2), True), own=own)))
        assert [event.broken for event in told.events] == [broken]


# --- leaving ----------------------------------------------------------------------------------------------------------

SILENT: list[Step] = [*MISSING, (Arrival, Arrived(Silent())), (LookUp, found()), (Overtake, None), (Board, None)]


@pytest.mark.parametrize("his", [True, False], ids=["his own to book", "his call's"])
@pytest.mark.parametrize("at", range(1, len(SILENT)), ids=[effect.__name__ for effect, _ in SILENT[1:]])
def test_whoever_leaves_is_booked_once_wherever_he_does(at: int, his: bool) -> None:
    left: list[Step] = [(SILENT[at][0], Left()), (Disembark, his)]
    told = serving(*SILENT[:at], *left)
    assert told.left
    assert told.outcomes == [("ERROR", Reason.CANCELLED)] * his


def test_whoever_leaves_before_anybody_knows_what_he_asks_has_passed_by() -> None:
    told = serving((Canonicalize, Left()), (Disembark, True))
    assert told.left
    assert told.outcomes == [("BYPASS", Reason.CANCELLED)]
    assert [(event.upstream, event.spent) for event in told.events] == [(0, None)]


def test_the_flow_keeps_what_the_provider_sent_untouched() -> None:
    assert landed(answered(), own=True, booked=True).result.received == received()
