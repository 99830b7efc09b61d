"""The driver for threads: steps a flow, performs its effects, and flies in daemon threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from cachelayer.core.effects import (
    Abandoned,
    Announce,
    Arrival,
    Board,
    Boarding,
    Effect,
    Landing,
    Lease,
    Moment,
    Reply,
    Send,
    TakeLease,
)
from cachelayer.core.flow import fly, serve
from cachelayer.core.model import Asked
from cachelayer.core.policy import credential_of
from cachelayer.runtime.engine import Engine
from cachelayer.runtime.exchange import SyncExchange
from cachelayer.runtime.flights import Flight

T = TypeVar("T")


def drive(flow: Coroutine[Any, Any, T], perform: Callable[[Effect[Any]], Any]) -> T:
    """Run a flow to its end in this thread."""
    result: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = flow.send(result) if error is None else flow.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        try:
            result, error = perform(effect), None
        except BaseException as raised:
            result, error = None, raised


def serve_sync(engine: Engine, exchange: SyncExchange) -> Reply:
    """Answer one request of a blocking client. Raises only KeyboardInterrupt and its like."""
    hands = _CallerHands(engine, exchange)
    return drive(serve(exchange.request, engine.rules.operations), hands.perform)


class _CallerHands:
    def __init__(self, engine: Engine, exchange: SyncExchange) -> None:
        self._engine, self._exchange = engine, exchange

    def perform(self, effect: Effect[Any]) -> Any:
        match effect:
            case Board(asked, request, began, broken):
                credential = credential_of(request)
                flight, started = self._engine.flights.board(asked.key, credential, None)
                if started:
                    hands = _FlightHands(self._engine, self._exchange, flight)
                    try:
                        self._engine.flights.launch_thread(flight, lambda: hands.fly(asked, began, broken))
                    except Exception as error:  # no more threads: nobody may wait for a flight that never began
                        self._engine.fault("start a flight", error)
                        self._engine.flights.end(flight, Abandoned(fault=True))
                    except BaseException:  # Ctrl-C, just now; the thread may be running all the same
                        if flight.call_off():
                            self._engine.flights.end(flight, Abandoned())
                        raise
                return Boarding(flight, started, flight.credential == credential)
            case Arrival(flight):
                try:
                    landing = flight.wait(self._exchange.read_timeout)
                finally:
                    flight.leave()
                if isinstance(landing, Abandoned):
                    self._engine.flights.strike(flight)
                return landing
            case _:
                return self._engine.perform(effect)


class _FlightHands:
    def __init__(self, engine: Engine, exchange: SyncExchange, flight: Flight) -> None:
        self._engine, self._exchange, self._flight = engine, exchange, flight

    def fly(self, asked: Asked, began: Moment, broken: int) -> Landing:
        try:
            return drive(fly(asked, began, broken), self.perform)
        except BaseException as error:
            self._engine.fault("fly", error)
            return Abandoned(fault=True)

    def perform(self, effect: Effect[Any]) -> Any:
        match effect:
            case TakeLease():
                return self._take_lease()
            case Send():
                came = self._exchange.send(
                    lambda paused: self._flight.step(paused=paused), self._engine.rules.finish_timeout
                )
                self._flight.answer()
                return came
            case Announce(landing):
                return self._flight.announce(landing)
            case _:
                return self._engine.perform(effect)

    def _take_lease(self) -> Lease:
        began = time.monotonic()
        waited = False
        while not self._engine.flights.try_lease(self._flight):
            waited = True
            time.sleep(lease_pause(time.monotonic() - began))
        return Lease(waited, self._flight.passengers > 0)


def lease_pause(waited: float) -> float:
    """Seconds until the next try for a lease, after `waited` seconds: a twentieth of it, from 5 to 100 ms."""
    return min(max(waited / 20, 0.005), 0.1)
