"""The path of a request. Read this file from top to bottom and you know the cache.

    serve (the caller's):  recognise -> canonicalize -> key -> look up -> HIT: replay
                                                                       -> start or join the key's flight -> answer
    fly   (the flight's):  lease -> look up again -> forward -> judge -> store blobs, then entry -> hand over

Two coroutines that await typed effects (effects.py) and nothing else; drivers in runtime/ step them. `serve` runs in
the caller's thread or task and ends with it. `fly` runs in a thread or task of the flight, which outlives its callers:
an answer that was billed is stored even if nobody waits for it any more.

Exactly one outcome is recorded per request. `serve` records it, except that of a flight's starter, which `fly` records
when it ends, since the starter may have left by then.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import assert_never

from cachelayer.core.effects import (
    Abandoned,
    Announce,
    Arrival,
    Begin,
    Board,
    Canonicalize,
    Crashed,
    Failed,
    Found,
    Fresh,
    Keep,
    Landing,
    LookUp,
    Moment,
    Now,
    Original,
    PassThrough,
    Price,
    Read,
    Record,
    RecordDurably,
    Replay,
    Reply,
    Send,
    Stored,
    TakeLease,
    TimedOut,
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
        boarding = await Board(asked, request, began, broken)
        try:
            landing = await Arrival(boarding.flight)
        except BaseException:  # the caller leaves: cancelled, or interrupted
            if not boarding.started:
                await Record(_event(Outcome.ERROR, asked, began, await Now(), broken, reason=Reason.CANCELLED))
            raise

        if isinstance(landing, Abandoned):
            if landing.fault:
                return PassThrough(Reason.INTERNAL_ERROR, asked, began)
            continue

        if boarding.started:
            match landing:
                case Fresh():
                    return Original(asked.key, landing.received, landing.reason)
                case Stored():
                    return await _replayed_by_flight(asked, landing)
                case Crashed() | TimedOut():
                    return landing
            assert_never(landing)

        match landing:
            case Stored():
                return await _replay(Outcome.COALESCED, asked, began, landing.found, broken)
            case Fresh() if landing.good:
                return await _coalesce(asked, began, landing, broken)
            case TimedOut():
                await Record(_event(Outcome.ERROR, asked, began, await Now(), broken, reason=Reason.READ_TIMEOUT))
                return landing
            case Fresh() | Crashed():
                # A failure is shared only with callers who show the provider the same credentials: another key may
                # have quota left, or be the one that is allowed. Of the others one starts the next flight.
                if not boarding.same_credential:
                    continue
                return await _share_failure(asked, began, landing, broken)
        assert_never(landing)


async def _replay(outcome: Outcome, asked: Asked, began: Moment, found: Found, broken: int) -> Replay:
    entry, now = found.entry, await Now()
    await Record(
        _event(
            outcome,
            asked,
            began,
            now,
            broken,
            status=entry.status,
            saved=entry.cost,
            images=entry.images,
            latency=entry.latency,
        )
    )
    return _replay_of(outcome, asked, found, now)


def _replay_of(outcome: Outcome, asked: Asked, found: Found, now: Moment) -> Replay:
    entry = found.entry
    answer = Answer(entry.status, entry.headers, found.body)
    return Replay(outcome, asked.key, answer, entry.created, now.unix, entry.cost, None)


async def _replayed_by_flight(asked: Asked, landing: Stored) -> Replay:
    """The starter's own flight found the entry: fly has recorded the outcome."""
    outcome = Outcome.COALESCED if landing.waited else Outcome.HIT
    return _replay_of(outcome, asked, landing.found, await Now())


async def _coalesce(asked: Asked, began: Moment, landing: Fresh, broken: int) -> Replay:
    """A joiner gets what a hit gets: the decoded body, without what belonged to the starter alone."""
    now = await Now()
    came = landing.received.answer
    saved = landing.cost or Cost(None, "unpriced", "nothing was billed")
    await Record(
        _event(
            Outcome.COALESCED,
            asked,
            began,
            now,
            broken,
            status=came.status,
            saved=saved,
            images=landing.images,
            latency=landing.latency,
        )
    )
    answer = Answer(came.status, kept_headers(came.headers), came.body)
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


async def fly(asked: Asked, began: Moment, broken: int) -> Landing:
    """Fetch one answer for all who wait for it, store it, and record the outcome of the request that started it.

    began: when the starter asked. broken: damaged entries he found on his way.
    """
    try:
        lease = await TakeLease(asked)
        found = await LookUp(asked)
    except BaseException:  # given up: nobody has waited for a long time
        await Record(_event(Outcome.ERROR, asked, began, await Now(), broken, reason=Reason.ABANDONED))
        raise
    if isinstance(found, Found):
        outcome = Outcome.COALESCED if lease.waited else Outcome.HIT
        await _replay(outcome, asked, began, found, broken)
        return Stored(found, lease.waited)
    if lease.waited and not lease.wanted:
        # Another process flew and failed, and everybody here has left: nobody asks for this image any more.
        await Record(_event(Outcome.ERROR, asked, began, await Now(), broken, reason=Reason.CANCELLED))
        return Abandoned()
    broken = max(broken, found.broken)

    sent = await Now()
    unknown = Cost(None, "unpriced", "cut off before its usage was known")
    call = await Begin(asked, sent)
    try:
        received = await Send()
    except BaseException:
        gone = await Now()
        await Record(
            _event(
                Outcome.ERROR, asked, began, gone, broken, upstream=1, spent=unknown, reason=Reason.ABANDONED, call=call
            )
        )
        raise
    came = await Now()
    if isinstance(received, Failed):
        sent_at_all, spent = (1, unknown) if received.sent else (0, None)
        await Record(
            _event(
                Outcome.ERROR,
                asked,
                began,
                came,
                broken,
                upstream=sent_at_all,
                spent=spent,
                reason=Reason.RAISED,
                call=call,
            )
        )
        return Crashed(received.error)

    latency = came.monotonic - sent.monotonic
    reading = await Read(asked, received.answer)
    cost = await Price(asked, reading)
    good = reading.refusal is None
    await Announce(Fresh(received, good, reading.refusal, cost, latency, reading.images))
    miss = _event(
        Outcome.MISS,
        asked,
        began,
        came,
        broken,
        status=received.answer.status,
        upstream=1,
        spent=cost,
        images=reading.images,
        latency=latency,
        reason=reading.refusal,
        call=call,
    )
    if not good:
        await Record(miss)
        return Fresh(received, good, reading.refusal, cost, latency, reading.images)

    # The ledger first: an entry whose cost no ledger knows would show savings that nobody can check.
    await RecordDurably(miss)
    not_kept = await Keep(asked, received.answer, reading, cost, latency)
    return Fresh(received, good, not_kept, cost, latency, reading.images)


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
        key=asked.key,
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
