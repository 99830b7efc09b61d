"""The driver for asyncio: the same flow, with waits that let the loop go on, and flights in tasks that outlive callers.

What touches the disk runs in worker threads; a flight's task is hidden from the loop's shutdown (flights.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

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
    Effect,
    Overtake,
    Send,
    TakeLease,
)
from cachelayer.core.flow import fly, serve
from cachelayer.core.model import Request
from cachelayer.core.reasons import Reason
from cachelayer.core.tables import Situation
from cachelayer.core.trip import Abandoned, Failed, Landing, Lease, PassThrough, Received, Reply, Trip
from cachelayer.runtime.boarding import begin, fail, flight_of, is_his, leave, take_seat, timed
from cachelayer.runtime.booking import now
from cachelayer.runtime.call import TICK, Call, GivenUp
from cachelayer.runtime.engine import Engine
from cachelayer.runtime.exchange import AsyncExchange
from cachelayer.runtime.launch import launch_task
from cachelayer.runtime.seat import Seat
from cachelayer.runtime.sync import lease_pause

T = TypeVar("T")


async def drive_async(
    flow: Coroutine[Any, Any, T],
    perform: Callable[[Effect[Any]], Awaitable[Any]],
    perform_at_the_end: Callable[[Effect[Any]], Any] | None = None,
) -> T:
    """Run a flow to its end in this task. A cancellation is thrown into the flow at the effect it waits for.

    perform_at_the_end: performs what the flow still asks for when its task is destroyed with its loop. That is the
    garbage collector, in whatever thread and under whatever lock: it may take none. Without it, nothing is performed.
    """
    result: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = flow.send(result) if error is None else flow.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        try:
            result, error = await perform(effect), None
        except GeneratorExit:
            _destroy(flow, perform_at_the_end)
            raise
        except BaseException as raised:
            result, error = None, raised


class _Destroyed(BaseException):
    """What is thrown into a flow whose task was destroyed. Not GeneratorExit: that would close the coroutine that the
    flow waits in, in place of reaching it."""


def _destroy(flow: Coroutine[Any, Any, Any], perform: Callable[[Effect[Any]], Any] | None) -> None:
    result: Any = None
    error: BaseException | None = _Destroyed()
    try:
        while True:
            effect = flow.send(result) if error is None else flow.throw(error)
            try:
                result, error = (None, _Destroyed()) if perform is None else (perform(effect), None)
            except GeneratorExit:
                result, error = None, _Destroyed()
    except BaseException:  # the flow is over
        return


async def serve_async(engine: Engine, prepare: Callable[[], AsyncExchange | Reason], *, large: bool) -> Reply:
    """Answer one request of an asyncio client; under any other loop it is passed through. Raises only what cancels the
    calling task: where we fail, he forwards it himself.

    prepare: as of serve_sync. large: that takes so long that the loop must not wait for it.
    """
    began = now()
    foreign = asyncio._get_running_loop() is None
    situation = Situation(disabled=engine.disabled, closed=engine.closed, foreign_loop=foreign)
    hands = _CallerHands(engine, prepare, large=large)
    try:
        return await drive_async(serve(engine.rules, situation, began), hands.perform, hands.perform_at_the_end)
    except Exception as error:
        engine.fault("serve", error)
        return PassThrough(Reason.INTERNAL_ERROR, None, began)


async def _perform(engine: Engine, effect: Effect[Any]) -> Any:
    if effect.blocking:
        return await engine.workers.run(lambda: engine.perform(effect), syncs=effect.syncs)
    return engine.perform(effect)


class _CallerHands:
    def __init__(self, engine: Engine, prepare: Callable[[], AsyncExchange | Reason], *, large: bool) -> None:
        self._engine, self._prepare, self._large = engine, prepare, large
        self._exchange: AsyncExchange | None = None
        self._seat: Seat | None = None
        self._wrote: list[int] = []
        """Not empty: his outcome is written."""

    async def perform(self, effect: Effect[Any]) -> Any:
        match effect:
            case Canonicalize():
                if self._large and not self._engine.closed:
                    return await self._engine.workers.run(lambda: self._engine.canonicalize(self._read))
                return self._engine.canonicalize(self._read)
            case Board(trip):
                return self._board(trip)
            case Arrival():
                return await flight_of(self._seat).wait_async(self._seat)  # type: ignore[arg-type]
            case Overtake(landing):
                return self._engine.flights.overtake(flight_of(self._seat), landing)
            case Disembark(error):
                return leave(self._seat) and not self._wrote and is_his(error)
            case Book(ending):
                return self._engine.booking.book(ending, wrote=self._wrote)
            case _:
                return await _perform(self._engine, effect)

    def perform_at_the_end(self, effect: Effect[Any]) -> Any:
        """Only what takes no lock; the outcome is booked by `Flights.sweep`, as a call's is."""
        match effect:
            case Disembark():
                return not self._wrote and (self._seat is None or self._seat.books_himself())
            case Book(ending):
                booking, at = self._engine.booking, now()
                return self._engine.flights.unbooked.append(lambda: booking.book(ending, at=at))
            case _:
                raise GeneratorExit

    def _read(self) -> Request | Reason:
        prepared = self._prepare()
        if isinstance(prepared, Reason):
            return prepared
        self._exchange = prepared
        return prepared.request

    def _board(self, trip: Trip) -> None:
        flights, exchange, loop = self._engine.flights, self._exchange, asyncio.get_running_loop()
        assert exchange is not None
        self._seat, call = take_seat(self._engine, exchange, trip, self._seat, loop)
        try:
            if flights.board(trip.asked.key, self._seat, call):
                hands = _FlightHands(self._engine, exchange, call)
                launch_task(flights, call, lambda: hands.fly(trip), drain_timeout=self._engine.rules.drain_timeout)
        except BaseException as error:
            if not is_his(error):  # nobody may wait for what never began
                self._engine.fault("start a flight", error)
                flights.close(call, Abandoned(fault=True))
                return
            flights.call_off(call)  # Ctrl-C, just now; it may be running all the same
            raise


class _FlightHands:
    def __init__(self, engine: Engine, exchange: AsyncExchange, call: Call) -> None:
        self._engine, self._exchange, self._call = engine, exchange, call
        self._flight = flight_of(call)

    async def fly(self, trip: Trip) -> Landing:
        try:
            return await drive_async(fly(trip), self.perform)
        except Exception as error:
            return fail(self._engine, self._call, error)

    async def perform(self, effect: Effect[Any]) -> Any:
        self._stay_in_loop()
        match effect:
            case TakeLease():
                return await self._take_lease()
            case Depart(lease):
                return self._flight.depart(self._call, lease)
            case Begin(asked):
                return begin(self._engine, self._call, asked)
            case Send():
                return await self._send()
            case Announce(landing):
                return self._flight.announce(self._call, landing)
            case Book() | BookDurably():
                if not self._call.claim():
                    return None
                booked = await _perform(self._engine, effect)
                self._call.is_written = True
                return booked
            case _:
                return await _perform(self._engine, effect)

    async def _send(self) -> Received | Failed:
        sent = now()
        came = await self._exchange.send(self._step, self._call.finish_timeout)
        self._stay_in_loop()
        try:
            self._flight.answer(self._call)
        except GivenUp:
            raise asyncio.CancelledError from None
        return timed(came, sent)

    def _stay_in_loop(self) -> None:
        # A transport whose cleanup fails without a loop hides from us that the task is being destroyed.
        here = asyncio._get_running_loop()
        if here is None or here is not self._call.loop:
            raise GeneratorExit

    def _step(self, paused: bool) -> None:
        try:
            self._flight.step(self._call, paused=paused)
        except GivenUp:  # while its loop stood still; raised here, it would come out of the transport as another error
            task = asyncio.current_task()
            if task is not None:
                task.cancel()

    async def _take_lease(self) -> Lease:
        until = time.monotonic() + TICK
        while not self._engine.flights.try_lease(self._call):
            now = time.monotonic()
            if now >= until:
                return Lease(False, True)
            await asyncio.sleep(lease_pause(self._call.wait_for_lease(now)))
        return Lease(True, self._call.waited)
