"""How a call is started apart from whoever makes it, so that it outlives him: in a thread, or in a task of his loop.

Where it is registered and how it ends is in flights.py.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

from cachelayer.core.trip import Landing
from cachelayer.machine.interrupts import start_thread
from cachelayer.runtime.call import Call, CallState
from cachelayer.runtime.exit import watch_exit
from cachelayer.runtime.flights import Flights

_FOR_EVER = 1e8
"""Seconds; three years."""
_CHECK = 0.05
"""Seconds between two looks, while its loop is ending, at whether a call is still needed."""


def launch_thread(flights: Flights, call: Call, work: Callable[[], Landing]) -> None:
    """Fly in a daemon thread; work does not raise.

    A daemon, because it must not keep a program alive for ever: the drain at exit waits for it, with an end.
    A non-daemon thread was rejected: one started from a daemon thread is a daemon too, and then nobody waits.
    """

    def run() -> None:
        if begin(call):
            flights.close(call, work())

    watch_exit()
    context = contextvars.copy_context()
    start_thread(threading.Thread(target=context.run, args=(run,), name="cachelayer-flight", daemon=True))


def launch_task(
    flights: Flights, call: Call, work: Callable[[], Coroutine[Any, Any, Landing]], *, drain_timeout: float
) -> None:
    """Fly in a task that the loop's shutdown does not cancel, behind a guard that it waits for.

    asyncio.run ends by cancelling every task once. A shielded flight is cancelled all the same, and one that
    refuses to be cancelled breaks httpx's timeouts (anyio delivers them by cancel()). So the flight's task is taken
    out of the loop's list, and a second task stands there, which on cancellation waits for the first.

    Only the loop itself holds the two, by a timer that never comes: a loop that is dropped unclosed can go, and they
    with it. Held by us, each such loop would stay for ever.
    """
    loop, flight = asyncio.get_running_loop(), call.flight
    assert flight is not None

    async def run() -> None:
        landing: Landing | None = None
        try:
            if begin(call):
                landing = await work()
        finally:
            if asyncio._get_running_loop() is loop:
                timer.stop()
                keep.cancel()
                held.clear()
                if landing is None:  # cancelled, wherever it was
                    flights.give_up(call)
                else:
                    flights.close(call, landing)
            else:  # destroyed, perhaps by the collector, in whatever thread and under whatever lock
                call.gone = True

    async def guard() -> None:
        until: float | None = None
        while not task.done() and not (until is not None and time.monotonic() > until):
            try:
                await asyncio.wait({task}, timeout=None if until is None else _CHECK)
            except asyncio.CancelledError:
                until = until or time.monotonic() + drain_timeout
            if until is not None and not call.is_answered and not flight.is_needed(call):
                task.cancel()

    held: list[Any] = []
    keep, timer = loop.call_later(_FOR_EVER, _nothing, held), _FinishTimer(loop, call)
    task = timer.task = loop.create_task(run(), name="cachelayer-flight")
    asyncio._unregister_task(task)
    task.add_done_callback(_retrieve)
    guarding = loop.create_task(guard(), name="cachelayer-guard")
    for ours in (task, guarding):
        ours._log_destroy_pending = False  # type: ignore[attr-defined]
    held.extend((task, guarding, timer))
    call.task, call.on_unwanted = weakref.ref(task), weakref.ref(timer)


class _FinishTimer:
    """Cancels a call's task when nobody has waited for it for its finish_timeout."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Call) -> None:
        self._loop, self._call = loop, call
        self.task: asyncio.Task[None] | None = None
        self._handle: asyncio.TimerHandle | None = None

    def __call__(self) -> None:
        """Nobody waits for it any more; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._look)
        except RuntimeError:
            pass  # the loop is closed, and the call with it

    def stop(self) -> None:
        """It would keep the answer in memory until its time comes."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        self.stop()
        flight, since, now = self._call.flight, self._call.unwanted_since, time.monotonic()
        if self.task is None or self.task.done() or flight is None or self._call.is_answered or since is None:
            return
        if flight.is_overdue(self._call, now):
            self.task.cancel()
        elif self._call.unwanted_since is not None:
            self._handle = self._loop.call_later(max(0.001, since + self._call.finish_timeout - now), self._look)


def begin(call: Call) -> bool:
    """Its thread or task runs; False when it was called off before."""
    flight = call.flight
    if flight is None:
        return False
    with flight.lock:
        if call not in flight.calls:
            return False
        call.advance(CallState.BEGUN)
        return True


def _nothing(*_: object) -> None:
    return


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
