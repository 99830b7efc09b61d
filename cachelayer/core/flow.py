"""The path of a request. Read this file from top to bottom and you know the cache.

    serve (the caller's):  gate -> canonicalize -> plan -> look up -> HIT: replay
                                                                   -> start or join the key's flight -> answer
    fly   (a call's):      lease -> look up again -> forward -> judge -> store blobs, then entry -> hand over
    watch (what passes):   judge -> book

Coroutines that await typed effects (effects.py) and nothing else; drivers in runtime/ step them. What is decided is
decided by pure functions: `gate`, `plan_of` and `verdict` in tables.py; what an outcome costs and saves, in ending.py.

`serve` runs in the caller's thread or task and ends with it. `fly` runs in a thread or task of the flight, which
outlives its callers: an answer that was billed is stored even if nobody waits for it any more. A flight has one call as
a rule. Whoever waits for one of which nothing has come for `hedge_after` makes a second one in the same flight, and the
first good answer serves all.

Exactly one outcome is booked per request. `serve` books it, except that of a request for which a call was sent: `fly`
books that one when the call ends, since whoever made it may have left by then. What passes through is booked by
`watch`, when it is over.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from cachelayer.core.effects import (
    Announce,
    Arrival,
    Begin,
    Board,
    Book,
    BookDurably,
    Canonicalize,
    Depart,
    Disembark,
    Judge,
    Keep,
    LookUp,
    Overtake,
    Send,
    TakeLease,
)
from cachelayer.core.ending import Ending, no_answer
from cachelayer.core.model import Answer, Asked, Event, Outcome, Pass, Rules, Unkeyed
from cachelayer.core.policy import kept_headers
from cachelayer.core.reasons import Reason
from cachelayer.core.tables import Again, Alone, Leave, Share, Situation, Take, gate, plan_of, verdict
from cachelayer.core.trip import (
    Abandoned,
    Answered,
    Arrived,
    Clearance,
    Crashed,
    Failed,
    Found,
    Landing,
    Moment,
    Original,
    Overtaken,
    Passed,
    PassThrough,
    Received,
    Replay,
    Reply,
    TimedOut,
    Trip,
)

# --- the caller's half ------------------------------------------------------------------------------------------------


async def serve(rules: Rules, situation: Situation, began: Moment) -> Reply:
    """Answer one request: from the store, from the key's flight, or by passing it through.

    Raises only what cancels or interrupts the caller; everything else is a Reply.
    """
    known: list[Trip | PassThrough] = [PassThrough(Reason.CANCELLED, None, began)]
    try:
        return await _serve(rules, situation, began, known)
    except GeneratorExit:  # dropped, by a driver that was interrupted itself: nobody performs anything any more
        raise
    except BaseException as error:  # around all of it: an interrupt comes between two steps of ours as well
        if await Disembark(error):
            outcome = Outcome.ERROR if isinstance(known[-1], Trip) else Outcome.BYPASS
            await Book(Ending(outcome, known[-1], reason=Reason.CANCELLED))
        raise


async def _serve(rules: Rules, situation: Situation, began: Moment, known: list[Trip | PassThrough]) -> Reply:
    """known: how far he has come, the latest last, for whoever has to book that he left."""
    shut = gate(situation)
    if shut is not None:
        return PassThrough(shut.reason, None, began)
    asked = await Canonicalize()
    if isinstance(asked, Unkeyed):
        return PassThrough(asked.reason, asked, began)
    plan = plan_of(asked, rules, situation)
    if isinstance(plan, Pass):
        return await _pass_through(plan.reason, asked, began)

    trip = Trip(asked, plan, began)
    known.append(trip)
    found = await LookUp(trip)
    trip = trip.past(found)
    known.append(trip)
    if isinstance(found, Found):
        return await _replay(Outcome.HIT, trip, found)

    while True:
        # The flight looks up again once it holds the lease, so an entry stored since the look-up above is not missed.
        await Board(trip)
        arrived = await Arrival()
        match verdict(arrived):
            case Take(landing):
                return landing if isinstance(landing, Crashed) else _original_of(trip, landing)
            case Share(landing):
                return await _share(trip, landing, arrived)
            case Leave():
                if not arrived.booked:
                    await Book(Ending(Outcome.ERROR, trip, reason=Reason.READ_TIMEOUT))
                return TimedOut()
            case Alone():
                return await _pass_through(Reason.INTERNAL_ERROR, asked, began)
            case Again(look):
                if look:
                    await _look_for_all(trip)
            case never:
                assert_never(never)


async def _pass_through(reason: str, asked: Asked, began: Moment) -> PassThrough:
    return PassThrough(reason, asked, began, await Begin(asked) if asked.operation == "image" else None)


async def _look_for_all(trip: Trip) -> None:
    """His flight is silent. What another process was answered meanwhile serves all who wait here."""
    found = await LookUp(trip)
    if isinstance(found, Found):
        await Overtake(Overtaken(found, waited=True))


async def _share(trip: Trip, landing: Overtaken | Answered | Crashed, arrived: Arrived) -> Reply:
    """What another one brought. Who has made a call of his own is booked when that ends: a MISS, whoever's answer he
    got."""
    match landing:
        case Overtaken(found) if arrived.booked:
            return _replay_of(Outcome.MISS, found, None)
        case Overtaken(found, waited):
            outcome = Outcome.COALESCED if waited else Outcome.HIT
            return await _replay(outcome, trip.past(found) if arrived.own else trip, found)
        case Answered():
            return await _join(trip, landing, booked=arrived.booked)
        case Crashed(error):
            if not arrived.booked:
                await Book(Ending(Outcome.ERROR, trip, reason=Reason.RAISED))
            return Crashed(error, shared=True)


async def _join(trip: Trip, landing: Answered, *, booked: bool) -> Replay:
    """A joiner gets what a hit gets: the decoded body, without what belonged to the starter alone."""
    came, good = landing.received.answer, landing.is_good
    answer = Answer(came.status, kept_headers(came.headers, failed=not good), came.body)
    if booked:
        return Replay(Outcome.MISS, trip.asked.key, answer, None, None, landing.reason)
    outcome = Outcome.COALESCED if good else Outcome.ERROR
    event = await Book(Ending(outcome, trip, landing, None if good else landing.reason))
    return Replay(outcome, trip.asked.key, answer, None, event.saved, landing.reason)


async def _replay(outcome: Outcome, trip: Trip, found: Found) -> Replay:
    return _replay_of(outcome, found, await Book(Ending(outcome, trip, found)))


def _replay_of(outcome: Outcome, found: Found, booked: Event | None) -> Replay:
    entry = found.entry
    answer = Answer(entry.status, entry.headers, found.body)
    age = booked.at - entry.created if booked is not None and outcome is Outcome.HIT else None
    return Replay(outcome, entry.key, answer, age, None if booked is None else booked.saved, None)


def _original_of(trip: Trip, landing: Answered) -> Original:
    return Original(trip.asked.key, landing.received, landing.reason)


# --- the flight's half ------------------------------------------------------------------------------------------------


async def fly(trip: Trip) -> Landing:
    """Fetch one answer for all who wait for it, store it, and book the request that made this call."""
    ready = await _get_ready(trip)
    if isinstance(ready, Trip):
        return await _forward(ready)
    # Nothing was sent. Whoever is aboard books what he takes, and whoever left with nothing has saved nothing.
    left = (await Announce(ready)).left
    if left is not None:
        await Book(Ending(Outcome.ERROR, trip, reason=left))
    return ready


async def _get_ready(trip: Trip) -> Trip | Overtaken | Abandoned:
    """Hold the lease, and know that there is no entry; else what the flight lands with instead."""
    try:
        while True:
            lease = await TakeLease()
            found = await LookUp(trip)
            if isinstance(found, Found):
                return Overtaken(found, lease.waited)
            trip = trip.past(found)
            clearance = await Depart(lease)
            if clearance is not Clearance.WAIT:
                return trip if clearance is Clearance.GO else Abandoned()
    except BaseException:  # given up: nobody has waited for a long time
        if (await Announce(Abandoned())).left is not None:
            await Book(Ending(Outcome.ERROR, trip, reason=Reason.ABANDONED))
        raise


async def _forward(trip: Trip) -> Landing:
    call = await Begin(trip.asked)
    try:
        received = await Send()
    except BaseException:
        await _book_no_answer(trip, Abandoned(), sent=True, call=call)
        raise
    if isinstance(received, Failed):
        crashed = Crashed(received.error)
        await _book_no_answer(trip, crashed, sent=received.sent, call=call)
        return crashed

    judgement = await Judge(trip.asked, received.answer)
    landing = Answered(received, judgement, judgement.reading.refusal)
    told = await Announce(landing)
    # Here the announcement decides which answer is kept; another process's hedge is found in the store.
    if landing.is_good and (not told.first or await _is_late(trip, received)):
        landing = replace(landing, reason=Reason.LATE)
    miss = Ending(Outcome.MISS, trip, landing, landing.reason, sent=True, call=call)
    if landing.reason is not None:
        await Book(miss)
        return landing

    # The ledger first: an entry whose cost no ledger knows would show savings that nobody can check.
    await BookDurably(miss)
    return replace(landing, reason=await Keep(trip, landing))


async def _book_no_answer(trip: Trip, landing: Crashed | Abandoned, *, sent: bool, call: str | None) -> None:
    """A call was sent, or tried, and brought no answer."""
    served = (await Announce(landing)).served
    reason = Reason.RAISED if isinstance(landing, Crashed) else Reason.ABANDONED
    await Book(no_answer(trip, reason=reason, sent=sent, served=served, call=call))


async def _is_late(trip: Trip, received: Received) -> bool:
    if received.latency <= trip.plan.hedge_after:
        return False
    found = await LookUp(trip)
    return isinstance(found, Found) and found.entry.created > received.sent


# --- what passes ------------------------------------------------------------------------------------------------------


async def watch(through: PassThrough, status: int | None, answer: Answer | None, *, sent: bool) -> None:
    """Book a request that was passed through, once its answer is over.

    status: None when the forward raised. answer: the whole one where it was seen, else None. sent: the provider may
    have worked.
    """
    asked, judgement = through.asked, None
    if isinstance(asked, Asked) and status is not None and answer is not None:
        judgement = await Judge(asked, answer)
    came = Passed(status, judgement)
    await Book(Ending(Outcome.BYPASS, through, came, through.reason, sent, through.call))
