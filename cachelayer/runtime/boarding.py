"""What both drivers do alike when a caller boards, leaves, or the flow of his call fails."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from cachelayer.core.effects import Abandoned, Board, Landing, Moment
from cachelayer.core.flow import no_answer
from cachelayer.core.model import Asked
from cachelayer.core.policy import credential_of
from cachelayer.core.reasons import Reason
from cachelayer.runtime.call import Call
from cachelayer.runtime.engine import Engine
from cachelayer.runtime.exchange import Exchange
from cachelayer.runtime.flight import Flight
from cachelayer.runtime.seat import Seat


def take_seat(
    engine: Engine, exchange: Exchange, board: Board, seat: Seat | None, loop: asyncio.AbstractEventLoop | None
) -> tuple[Seat, Call]:
    """The seat of a caller, the one he has if he is still aboard, and the call that he may be told to make."""
    rules, credential = engine.rules, credential_of(board.request)
    if seat is None or seat.taken:
        seat = Seat(credential, loop, read_timeout=exchange.read_timeout, hedge_after=rules.hedge_after)

    def book(sent: bool, served: bool, left: Reason | None) -> None:
        reason = Reason.ABANDONED if sent or left is None else left
        now = Moment(time.time(), time.monotonic())
        engine.booking.record(
            no_answer(
                board.asked,
                board.began,
                now,
                board.broken,
                sent=sent,
                served=served,
                reason=reason,
                call=call.begun_as,
            )
        )

    call = Call(credential, loop, finish_timeout=rules.finish_timeout, hedge_after=rules.hedge_after, book=book)
    return seat, call


def begin(engine: Engine, call: Call, asked: Asked, now: Moment) -> str | None:
    """Have the ledger know that a call is about to be sent, unless its outcome is booked already."""
    if not call.is_booked:
        call.begun_as = engine.booking.begin(asked, now)
    return call.begun_as


def flight_of(aboard: Seat | Call | None) -> Flight:
    """The flight of a seat or a call that has boarded."""
    if aboard is None or aboard.flight is None:
        raise RuntimeError("nothing was boarded")
    return aboard.flight


def leave(seat: Seat | None) -> bool:
    """A caller goes without an answer; whether his outcome is his own to book."""
    return seat is None or seat.flight is None or seat.flight.leave(seat, Reason.CANCELLED)


def fail(engine: Engine, call: Call, error: BaseException) -> Landing:
    """The flow of a call failed: whoever made it forwards his request himself, or is booked if he has left."""
    with suppress(Exception):  # what a signal handler raised in a task of ours has no caller to go to
        engine.fault("fly", error)
    landing = Abandoned(fault=True)
    told = flight_of(call).announce(call, landing)
    if (told.served or told.left is not None) and call.claim():
        call.book(call.cleared, told.served, Reason.INTERNAL_ERROR)
    return landing
