"""What both drivers do alike when a caller boards, leaves, or the flow of his call fails."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

from cachelayer.core.ending import no_answer
from cachelayer.core.model import Asked
from cachelayer.core.policy import credential_of
from cachelayer.core.reasons import Reason
from cachelayer.core.trip import Abandoned, Failed, Landing, Moment, Received, Trip
from cachelayer.machine.interrupts import came_from_a_handler
from cachelayer.runtime.booking import now
from cachelayer.runtime.call import Call
from cachelayer.runtime.engine import Engine
from cachelayer.runtime.exchange import Exchange
from cachelayer.runtime.flight import Flight
from cachelayer.runtime.seat import Seat


def take_seat(
    engine: Engine, exchange: Exchange, trip: Trip, seat: Seat | None, loop: asyncio.AbstractEventLoop | None
) -> tuple[Seat, Call]:
    """The seat of a caller, the one he has if he is still aboard, and the call that he may be told to make."""
    credential, plan = credential_of(exchange.request), trip.plan
    if seat is None or seat.taken:
        seat = Seat(credential, loop, read_timeout=exchange.read_timeout, hedge_after=plan.hedge_after)

    def book(sent: bool, served: bool, left: Reason | None) -> None:
        reason = Reason.ABANDONED if sent or left is None else left
        engine.booking.book(no_answer(trip, reason=reason, sent=sent, served=served, call=call.begun_as))

    call = Call(credential, loop, finish_timeout=plan.finish_timeout, hedge_after=plan.hedge_after, book=book)
    return seat, call


def begin(engine: Engine, call: Call, asked: Asked) -> str | None:
    """Have the ledger know that a call is about to be sent, unless its outcome is booked already."""
    if not call.is_booked:
        call.begun_as = engine.booking.begin(asked)
    return call.begun_as


def timed(came: Received | Failed, sent: Moment) -> Received | Failed:
    """What a forward brought, with when it began and how long it took."""
    if isinstance(came, Failed):
        return came
    return replace(came, sent=sent.unix, latency=now().monotonic - sent.monotonic)


def flight_of(aboard: Seat | Call | None) -> Flight:
    """The flight of a seat or a call that has boarded."""
    if aboard is None or aboard.flight is None:
        raise RuntimeError("nothing was boarded")
    return aboard.flight


def leave(seat: Seat | None) -> bool:
    """A caller goes without an answer; whether his outcome is his own to book."""
    return seat is None or seat.flight is None or seat.flight.leave(seat, Reason.CANCELLED)


def is_his(error: BaseException) -> bool:
    """Whether a caller goes by an error (cancelled, interrupted). False: a failure of ours that he goes on without."""
    return not isinstance(error, Exception) or came_from_a_handler(error)


def fail(engine: Engine, call: Call, error: BaseException) -> Landing:
    """The flow of a call failed: whoever made it forwards his request himself, or is booked if he has left."""
    with suppress(Exception):  # what a signal handler raised in a task of ours has no caller to go to
        engine.fault("fly", error)
    landing = Abandoned(fault=True)
    told = flight_of(call).announce(call, landing)
    if (told.served or told.left is not None) and call.claim():
        call.book(call.cleared, told.served, Reason.INTERNAL_ERROR)
    return landing
