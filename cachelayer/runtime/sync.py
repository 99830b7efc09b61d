"""The driver for threads: steps a flow, performs its effects, and flies in daemon threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
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
from cachelayer.core.flow import fly, serve, watch
from cachelayer.core.model import Answer, Request
from cachelayer.core.reasons import Reason
from cachelayer.core.tables import Situation
from cachelayer.core.trip import Abandoned, Failed, Landing, Lease, PassThrough, Reply, Trip
from cachelayer.runtime.boarding import begin, fail, flight_of, is_his, leave, take_seat, timed
from cachelayer.runtime.booking import now
from cachelayer.runtime.call import TICK, Call, GivenUp
from cachelayer.runtime.engine import Engine
from cachelayer.runtime.exchange import SyncExchange
from cachelayer.runtime.launch import launch_thread
from cachelayer.runtime.seat import Seat

T = TypeVar("T")


def drive(flow: Coroutine[Any, Any, T], perform: Callable[[Effect[Any]], Any]) -> T:
    """Run a flow to its end in this thread. What interrupts it anywhere is thrown into the flow."""
    result: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = flow.send(result) if error is None else flow.throw(error)
            result, error = None, None
            result = perform(effect)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except BaseException as raised:
            if getattr(flow, "cr_frame", None) is None:  # it came out of the flow
                raise
            result, error = None, raised


def serve_sync(engine: Engine, prepare: Callable[[], SyncExchange | Reason]) -> Reply:
    """Answer one request of a blocking client. Raises only what interrupts the caller: where we fail, he forwards it
    himself.

    prepare: brings the body into memory and gives the exchange, or the reason why the request cannot be repeated.
    """
    began = now()
    situation = Situation(disabled=engine.disabled, closed=engine.closed)
    try:
        return drive(serve(engine.rules, situation, began), _CallerHands(engine, prepare).perform)
    except Exception as error:
        engine.fault("serve", error)
        return PassThrough(Reason.INTERNAL_ERROR, None, began)


def watch_pass(
    engine: Engine, through: PassThrough, status: int | None, answer: Answer | None = None, *, sent: bool = True
) -> None:
    """Book a request that was passed through, once its answer is over (flow.watch). Never raises."""
    drive(watch(through, status, answer, sent=sent), engine.perform)


class _CallerHands:
    def __init__(self, engine: Engine, prepare: Callable[[], SyncExchange | Reason]) -> None:
        self._engine, self._prepare = engine, prepare
        self._exchange: SyncExchange | None = None
        self._seat: Seat | None = None
        self._wrote: list[int] = []
        """Not empty: his outcome is written."""

    def perform(self, effect: Effect[Any]) -> Any:
        match effect:
            case Canonicalize():
                return self._engine.canonicalize(self._read)
            case Board(trip):
                return self._board(trip)
            case Arrival():
                return flight_of(self._seat).wait(self._seat)  # type: ignore[arg-type]
            case Overtake(landing):
                return self._engine.flights.overtake(flight_of(self._seat), landing)
            case Disembark(error):
                return leave(self._seat) and not self._wrote and is_his(error)
            case Book(ending):
                return self._engine.booking.book(ending, wrote=self._wrote)
            case _:
                return self._engine.perform(effect)

    def _read(self) -> Request | Reason:
        prepared = self._prepare()
        if isinstance(prepared, Reason):
            return prepared
        self._exchange = prepared
        return prepared.request

    def _board(self, trip: Trip) -> None:
        flights, exchange = self._engine.flights, self._exchange
        assert exchange is not None
        self._seat, call = take_seat(self._engine, exchange, trip, self._seat, None)
        try:
            if flights.board(trip.asked.key, self._seat, call):
                hands = _FlightHands(self._engine, exchange, call)
                launch_thread(flights, call, lambda: hands.fly(trip))
        except BaseException as error:
            if not is_his(error):  # nobody may wait for what never began
                self._engine.fault("start a flight", error)
                flights.close(call, Abandoned(fault=True))
                return
            flights.call_off(call)  # Ctrl-C, just now; it may be running all the same
            raise


class _FlightHands:
    def __init__(self, engine: Engine, exchange: SyncExchange, call: Call) -> None:
        self._engine, self._exchange, self._call = engine, exchange, call
        self._flight = flight_of(call)

    def fly(self, trip: Trip) -> Landing:
        try:
            return drive(fly(trip), self.perform)
        except GivenUp:
            return Abandoned()
        except BaseException as error:
            return fail(self._engine, self._call, error)

    def perform(self, effect: Effect[Any]) -> Any:
        match effect:
            case TakeLease():
                return self._take_lease()
            case Depart(lease):
                return self._flight.depart(self._call, lease)
            case Begin(asked):
                return begin(self._engine, self._call, asked)
            case Send():
                sent = now()
                came = self._exchange.send(self._step, self._call.finish_timeout)
                if isinstance(came, Failed) and isinstance(came.error, GivenUp):
                    raise came.error
                self._flight.answer(self._call)
                return timed(came, sent)
            case Announce(landing):
                return self._flight.announce(self._call, landing)
            case Book() | BookDurably():
                if not self._call.claim():
                    return None
                booked = self._engine.perform(effect)
                self._call.is_written = True
                return booked
            case _:
                return self._engine.perform(effect)

    def _step(self, paused: bool) -> None:
        self._flight.step(self._call, paused=paused)

    def _take_lease(self) -> Lease:
        until = time.monotonic() + TICK
        while not self._engine.flights.try_lease(self._call):
            now = time.monotonic()
            if now >= until:
                return Lease(False, True)
            time.sleep(lease_pause(self._call.wait_for_lease(now)))
        return Lease(True, self._call.waited)


def lease_pause(waited: float) -> float:
    """Seconds until the next try for a lease, after `waited` seconds: a twentieth of it, from 5 to 100 ms."""
    return min(max(waited / 20, 0.005), 0.1)
