"""The path of a request. Read this file from top to bottom and you know the cache.

    serve (the caller's):  recognise -> canonicalize -> key -> look up -> HIT: replay
                                                                       -> start or join the key's flight -> answer
    fly   (a call's):      lease -> look up again -> forward -> judge -> store blobs, then entry -> hand over

Two coroutines that await typed effects (effects.py) and nothing else; drivers in runtime/ step them. `serve` runs in
the caller's thread or task and ends with it. `fly` runs in a thread or task of the flight, which outlives its callers:
an answer that was billed is stored even if nobody waits for it any more.

A flight has one call as a rule. Whoever waits for one of which nothing has come for `hedge_after` makes a second one in
the same flight, and the first good answer serves all.

Exactly one outcome is recorded per request. `serve` records it, except that of a request for which a call was sent:
`fly` records that one when the call ends, since whoever made it may have left by then.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import assert_never

from cachelayer.core.effects import (
    Abandoned,
    Announce,
    Arrival,
    Begin,
    Board,
    Canonicalize,
    Clearance,
    Crashed,
    Depart,
    Failed,
    Found,
    Fresh,
    Keep,
    Landing,
    Leave,
    LookUp,
    Moment,
    Now,
    Original,
    Overtake,
    PassThrough,
    Price,
    Read,
    Record,
    RecordDurably,
    Replay,
    Reply,
    Send,
    Silent,
    Stored,
    TakeLease,
    TimedOut,
    Worth,
)
from cachelayer.core.model import Answer, Asked, Cost, Event, Outcome, Request
from cachelayer.core.policy import bypass_reason, kept_headers
from cachelayer.core.reasons import Reason

# --- the caller's half ------------------------------------------------------------------------------------------------


async def serve(request: Request, operations: Collection[str]) -> Reply:
    """Answer one request: from the store, from the key's flight, or by passing it through.

    Raises only what an effect raises on a caller's cancellation; everything else is a Reply.
    """
    began = await Now()

    asked = await Canonicalize(request)
    reason = bypass_reason(asked, operations)
    if reason is not None or not isinstance(asked, Asked):
        return PassThrough(reason or Reason.UNRECOGNISED, asked, began)

    try:
        found = await LookUp(asked)
    except BaseException:  # the caller leaves: cancelled, or interrupted
        await Record(_event(Outcome.ERROR, asked, began, await Now(), 0, reason=Reason.CANCELLED))
        raise
    if isinstance(found, Found):
        return await _replay(Outcome.HIT, asked, began, found, found.broken)
    broken = found.broken

    while True:
        # The flight looks up again once it holds the lease, so an entry stored since the look-up above is not missed.
        try:
            await Board(asked, request, began, broken)
            arrived = await Arrival()
            if isinstance(arrived.landing, Silent):
                found = await LookUp(asked)
                if isinstance(found, Found):
                    await Overtake(Stored(found, waited=True))
                continue
        except BaseException:  # the caller leaves: cancelled, or interrupted
            if await Leave():
                await Record(_event(Outcome.ERROR, asked, began, await Now(), broken, reason=Reason.CANCELLED))
            raise

        landing = arrived.landing
        match landing:
            case Abandoned():
                if landing.fault:
                    return PassThrough(Reason.INTERNAL_ERROR, asked, began)
                continue
            case TimedOut():
                if not arrived.booked:
                    await Record(_event(Outcome.ERROR, asked, began, await Now(), broken, reason=Reason.READ_TIMEOUT))
                return landing
            case Stored() if arrived.booked:  # he made a call of his own, which is booked when it ends
                return _replay_of(Outcome.MISS, landing.found, await Now(), None)
            case Stored():
                outcome = Outcome.COALESCED if landing.waited else Outcome.HIT
                damaged = max(broken, landing.found.broken) if arrived.own else broken
                return await _replay(outcome, asked, began, landing.found, damaged)
            case Fresh() if arrived.own:
                return Original(asked.key, landing.received, landing.reason)
            case Crashed() if arrived.own:
                return landing
            case Fresh() if landing.good:
                return await _coalesce(asked, began, landing, broken, booked=arrived.booked)
            case Fresh() | Crashed():
                # A failure is shared only with callers who show the provider the same credentials: another key may
                # have quota left, or be the one that is allowed. Of the others one starts the next flight.
                if not arrived.shares:
                    continue
                return await _share_failure(asked, began, landing, broken)
        assert_never(landing)


async def _replay(outcome: Outcome, asked: Asked, began: Moment, found: Found, broken: int) -> Replay:
    entry, now = found.entry, await Now()
    saved = await Worth(asked, entry.bill)
    await Record(
        _event(
            outcome,
            asked,
            began,
            now,
            broken,
            status=entry.status,
            saved=saved,
            images=entry.images,
            latency=entry.latency,
            key=entry.key,
        )
    )
    return _replay_of(outcome, found, now, saved)


def _replay_of(outcome: Outcome, found: Found, now: Moment, saved: Cost | None) -> Replay:
    entry = found.entry
    answer = Answer(entry.status, entry.headers, found.body)
    return Replay(outcome, entry.key, answer, entry.created, now.unix, saved, None)


async def _coalesce(asked: Asked, began: Moment, landing: Fresh, broken: int, *, booked: bool) -> Replay:
    """A joiner gets what a hit gets: the decoded body, without what belonged to the starter alone.

    booked: he has made a call of his own, and is a MISS whoever's answer he gets.
    """
    now = await Now()
    came = landing.received.answer
    answer = Answer(came.status, kept_headers(came.headers), came.body)
    if booked:
        return Replay(Outcome.MISS, asked.key, answer, None, now.unix, None, landing.reason)
    saved = await Worth(asked, landing.bill)
    await Record(
        _event(
            Outcome.COALESCED,
            asked,
            began,
            now,
            broken,
            status=came.status,
            saved=saved,
            images=landing.bill.images,
            latency=landing.latency,
        )
    )
    return Replay(Outcome.COALESCED, asked.key, answer, None, now.unix, saved, landing.reason)


async def _share_failure(asked: Asked, began: Moment, landing: Fresh | Crashed, broken: int) -> Reply:
    now = await Now()
    if isinstance(landing, Crashed):
        await Record(_event(Outcome.ERROR, asked, began, now, broken, reason=Reason.RAISED))
        return Crashed(landing.error, shared=True)
    came = landing.received.answer
    await Record(_event(Outcome.ERROR, asked, began, now, broken, status=came.status, reason=landing.reason))
    answer = Answer(came.status, kept_headers(came.headers, failed=True), came.body)
    return Replay(Outcome.ERROR, asked.key, answer, None, now.unix, None, landing.reason)


# --- the flight's half ------------------------------------------------------------------------------------------------


async def fly(asked: Asked, began: Moment, broken: int, hedge_after: float) -> Landing:
    """Fetch one answer for all who wait for it, store it, and record the outcome of the request that made this call.

    began: when he asked. broken: damaged entries he found on his way. hedge_after: seconds of silence after which
    another may have made a call of his own.
    """
    try:
        while True:
            lease = await TakeLease(asked)
            found = await LookUp(asked)
            if isinstance(found, Found):
                clearance = Clearance.END
                break
            broken = max(broken, found.broken)
            clearance = await Depart(lease)
            if clearance is not Clearance.WAIT:
                break
    except BaseException:  # given up: nobody has waited for a long time
        if (await Announce(Abandoned())).left is not None:
            await Record(_event(Outcome.ERROR, asked, began, await Now(), broken, reason=Reason.ABANDONED))
        raise
    if clearance is Clearance.END:
        # Nothing was sent. Whoever is aboard books what he takes, and whoever left with nothing has saved nothing.
        unsent = Stored(found, lease.waited) if isinstance(found, Found) else Abandoned()
        left = (await Announce(unsent)).left
        if left is not None:
            await Record(_event(Outcome.ERROR, asked, began, await Now(), broken, reason=left))
        return unsent

    sent = await Now()
    call = await Begin(asked, sent)
    try:
        received = await Send()
    except BaseException:
        await _record_no_answer(asked, began, broken, Abandoned(), sent=True, call=call)
        raise
    came = await Now()
    if isinstance(received, Failed):
        crashed = Crashed(received.error)
        await _record_no_answer(asked, began, broken, crashed, sent=received.sent, call=call)
        return crashed

    latency = came.monotonic - sent.monotonic
    reading = await Read(asked, received.answer)
    bill = await Price(asked, reading)
    landing = Fresh(received, reading.refusal is None, reading.refusal, bill, latency)
    told = await Announce(landing)
    # Here the announcement decides which answer is kept; another process's hedge is found in the store.
    if landing.good and (not told.first or (latency > hedge_after and await _is_made_since(asked, sent))):
        landing = replace(landing, reason=Reason.LATE)
    miss = _event(
        Outcome.MISS,
        asked,
        began,
        came,
        broken,
        status=received.answer.status,
        upstream=1,
        spent=bill.cost,
        images=reading.images,
        latency=latency,
        reason=landing.reason,
        call=call,
    )
    if landing.reason is not None:
        await Record(miss)
        return landing

    # The ledger first: an entry whose cost no ledger knows would show savings that nobody can check.
    await RecordDurably(miss)
    return replace(landing, reason=await Keep(asked, received.answer, reading, bill, latency))


async def _record_no_answer(
    asked: Asked, began: Moment, broken: int, landing: Crashed | Abandoned, *, sent: bool, call: str | None
) -> None:
    """A call was sent, or tried, and brought no answer."""
    served = (await Announce(landing)).served
    reason = Reason.RAISED if isinstance(landing, Crashed) else Reason.ABANDONED
    await Record(no_answer(asked, began, await Now(), broken, sent=sent, served=served, reason=reason, call=call))


async def _is_made_since(asked: Asked, sent: Moment) -> bool:
    found = await LookUp(asked)
    return isinstance(found, Found) and found.entry.created > sent.unix


def no_answer(
    asked: Asked,
    began: Moment,
    now: Moment,
    broken: int,
    *,
    sent: bool,
    served: bool,
    reason: Reason,
    call: str | None = None,
) -> Event:
    """The outcome of a request whose call brought no answer.

    sent: the provider may have worked on it. served: another call of the flight answered the request: it is a MISS.
    reason: why there is none. call: its id in the ledger, where it was begun.
    """
    spent = Cost(None, "unpriced", "cut off before its usage was known") if sent else None
    outcome = Outcome.MISS if served else Outcome.ERROR
    why = Reason.LATE if served else reason
    return _event(outcome, asked, began, now, broken, reason=why, upstream=int(sent), spent=spent, call=call)


def _event(
    outcome: Outcome,
    asked: Asked,
    began: Moment,
    now: Moment,
    broken: int,
    *,
    reason: str | None = None,
    status: int | None = None,
    upstream: int = 0,
    spent: Cost | None = None,
    saved: Cost | None = None,
    images: int = 0,
    latency: float | None = None,
    key: str | None = None,
    call: str | None = None,
) -> Event:
    return Event(
        outcome=outcome,
        at=now.unix,
        namespace=asked.namespace,
        operation=asked.operation,
        model=asked.model,
        size=asked.size,
        host=asked.host,
        key=key or asked.key,
        reason=reason,
        status=status,
        upstream=upstream,
        spent=spent,
        saved=saved,
        images=images,
        wait=now.monotonic - began.monotonic,
        latency=latency,
        broken=broken,
        normalized=asked.normalized,
        call=call,
    )
