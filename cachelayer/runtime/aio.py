"""The driver for asyncio: the same flow, with waits that let the loop go on, and flights in tasks that outlive callers.

What touches the disk runs in worker threads; a flight's task is hidden from the loop's shutdown (flights.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from cachelayer.core.effects import (
    Abandoned,
    Announce,
    Arrival,
    Board,
    Boarding,
    Canonicalize,
    Effect,
    Landing,
    Lease,
    Moment,
    Now,
    PassThrough,
    Reply,
    Send,
    TakeLease,
)
from cachelayer.core.flow import fly, serve
from cachelayer.core.model import Asked
from cachelayer.core.policy import credential_of
from cachelayer.core.reasons import Reason
from cachelayer.runtime.engine import Engine
from cachelayer.runtime.exchange import AsyncExchange
from cachelayer.runtime.flights import Flight
from cachelayer.runtime.sync import lease_pause

T = TypeVar("T")

_SMALL_BODY = 262_144
"""Bytes. Working out the key of a body below this takes less than handing it to a thread and back."""


async def drive_async(flow: Coroutine[Any, Any, T], perform: Callable[[Effect[Any]], Awaitable[Any]]) -> T:
    """Run a flow to its end in this task. A cancellation is thrown into the flow at the effect it waits for."""
    result: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = flow.send(result) if error is None else flow.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        try:
            result, error = await perform(effect), None
        except BaseException as raised:
            result, error = None, raised


async def serve_async(engine: Engine, exchange: AsyncExchange) -> Reply:
    """Answer one request of an asyncio client. Raises only what cancels the calling task."""
    hands = _CallerHands(engine, exchange)
    return await drive_async(serve(exchange.request, engine.rules.operations), hands.perform)


async def _perform(engine: Engine, effect: Effect[Any]) -> Any:
    small = isinstance(effect, Canonicalize) and len(effect.request.body) < _SMALL_BODY
    if effect.blocking and not small:
        return await engine.workers.run(lambda: engine.perform(effect), syncs=effect.syncs)
    return engine.perform(effect)


class _CallerHands:
    def __init__(self, engine: Engine, exchange: AsyncExchange) -> None:
        self._engine, self._exchange = engine, exchange

    async def perform(self, effect: Effect[Any]) -> Any:
        match effect:
            case Board(asked, request, began, broken):
                loop, credential = asyncio.get_running_loop(), credential_of(request)
                flight, started = self._engine.flights.board(asked.key, credential, loop)
                if started:
                    hands = _FlightHands(self._engine, self._exchange, flight)
                    try:
                        self._engine.flights.launch_task(
                            flight,
                            lambda: hands.fly(asked, began, broken),
                            finish_timeout=self._engine.rules.finish_timeout,
                            drain_timeout=self._engine.rules.drain_timeout,
                        )
                    except Exception as error:  # nobody may wait for a flight that never began
                        self._engine.fault("start a flight", error)
                        self._engine.flights.end(flight, Abandoned(fault=True))
                    except BaseException:  # Ctrl-C, just now
                        self._engine.flights.end(flight, Abandoned())
                        raise
                return Boarding(flight, started, flight.credential == credential)
            case Arrival(flight):
                try:
                    landing = await flight.wait_async(self._exchange.read_timeout)
                finally:
                    flight.leave()
                if isinstance(landing, Abandoned):
                    self._engine.flights.strike(flight)
                return landing
            case Canonicalize():
                now: Moment = self._engine.perform(Now())
                try:
                    return await _perform(self._engine, effect)
                except BaseException:  # he leaves before the flow knows what he asks, and so the flow cannot record it
                    left = PassThrough(Reason.CANCELLED, None, now)
                    self._engine.record_pass(left, status=None, answer=None, sent=False)
                    raise
            case _:
                return await _perform(self._engine, effect)


class _FlightHands:
    def __init__(self, engine: Engine, exchange: AsyncExchange, flight: Flight) -> None:
        self._engine, self._exchange, self._flight = engine, exchange, flight

    async def fly(self, asked: Asked, began: Moment, broken: int) -> Landing:
        try:
            return await drive_async(fly(asked, began, broken), self.perform)
        except Exception as error:
            self._engine.fault("fly", error)
            return Abandoned(fault=True)

    async def perform(self, effect: Effect[Any]) -> Any:
        match effect:
            case TakeLease():
                return await self._take_lease()
            case Send():
                came = await self._exchange.send(
                    lambda paused: self._flight.step(paused=paused), self._engine.rules.finish_timeout
                )
                self._flight.answer()
                return came
            case Announce(landing):
                return self._flight.announce(landing)
            case _:
                return await _perform(self._engine, effect)

    async def _take_lease(self) -> Lease:
        began = time.monotonic()
        waited = False
        while not self._engine.flights.try_lease(self._flight):
            waited = True
            await asyncio.sleep(lease_pause(time.monotonic() - began))
        return Lease(waited, self._flight.passengers > 0)
