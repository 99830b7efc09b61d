"""Flights: one forward of one key, joined by every caller who asks the same meanwhile.

A Flight is where those who wait and the one that works meet: it holds the landing, counts its passengers, and tells
readers in threads and in event loops of every step. Flights is the one registry per folder and process.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from cachelayer.core.effects import Abandoned, Landing, TimedOut
from cachelayer.core.policy import HANDOVER_WAIT
from cachelayer.runtime.exit import watch_exit
from cachelayer.runtime.leases import Leases

_TICK = 1.0
"""Seconds between two looks at whether a flight's event loop is still alive."""
_DEAF = 10.0
"""Seconds after which an event loop that answers no call is taken for blocked; long enough for a loop that computes."""


class Flight:
    """One flight. `loop` is the event loop it runs in, None when it runs in a thread."""

    def __init__(self, key: str, credential: bytes, loop: asyncio.AbstractEventLoop | None) -> None:
        self.key, self.credential, self.loop = key, credential, loop
        self.landing: Landing | None = None
        self.over = False
        self.paused = False
        """Readers' timers stand still: the request is being sent, under its own connect, write and pool timeouts."""
        self.passengers = 0
        self.leased = False
        self._begun = False
        self.answered = False
        """The answer has come, and is being judged and stored: nobody's leaving ends that any more."""
        self.on_empty: Callable[[], None] | None = None
        """Called when the last passenger has left before the end."""
        self._condition = threading.Condition()
        self._wakers: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._moved = time.monotonic()
        self._hand_over_at = float("inf")
        self._heard: tuple[float, bool] = (0.0, True)

    # The worker's side

    def step(self, *, paused: bool = False) -> None:
        """Something came: readers' timers start anew, or stand still while paused."""
        self._tell(lambda: setattr(self, "paused", paused))

    def begin(self) -> bool:
        """The worker starts; False when the flight was called off before."""
        with self._condition:
            self._begun = not self.over
            return self._begun

    def call_off(self) -> bool:
        """End the flight unless its worker has started; whether it was called off."""
        with self._condition:
            if not self._begun and not self.over:
                self.landing, self.over = Abandoned(), True
            return not self._begun

    def answer(self) -> None:
        """All has come: what is left is our own work, and no reader's timer runs meanwhile."""
        self.answered = True
        self.step(paused=True)

    def announce(self, landing: Landing) -> None:
        """The answer is there; readers take it at the end of the flight, or in HANDOVER_WAIT seconds."""

        def change() -> None:
            self.landing, self.paused = landing, True
            self._hand_over_at = time.monotonic() + HANDOVER_WAIT

        self._tell(change)

    def end(self, landing: Landing) -> None:
        """The flight is over. Idempotent: the first end stands."""

        def change() -> None:
            if not self.over:
                self.landing, self.over = landing, True

        self._tell(change)

    def _tell(self, change: Callable[[], None]) -> None:
        with self._condition:
            change()
            self._moved = time.monotonic()
            self._condition.notify_all()
            wakers, self._wakers = self._wakers, []
        for loop, future in wakers:
            try:
                loop.call_soon_threadsafe(_wake, future)
            except RuntimeError:  # that reader's loop is closed
                continue

    # The passengers' side

    def board(self) -> None:
        """One more caller waits."""
        with self._condition:
            self.passengers += 1

    def leave(self) -> None:
        """A caller waits no more."""
        with self._condition:
            self.passengers -= 1
            empty = self.passengers == 0 and not self.over
        if empty and self.on_empty is not None:
            self.on_empty()

    def wait(self, read_timeout: float | None) -> Landing | TimedOut:
        """Block this thread until the landing can be had, or read_timeout seconds pass without a step."""
        boarded = time.monotonic()
        while True:
            with self._condition:
                landing, pause = self._look(read_timeout, boarded)
                if landing is not None:
                    return landing
                self._condition.wait(pause)

    async def wait_async(self, read_timeout: float | None) -> Landing | TimedOut:
        """Like wait, for a task of any event loop."""
        loop, boarded = asyncio.get_running_loop(), time.monotonic()
        while True:
            with self._condition:
                landing, pause = self._look(read_timeout, boarded)
                if landing is not None:
                    return landing
                future: asyncio.Future[None] = loop.create_future()
                self._wakers.append((loop, future))
            timer = loop.call_later(pause, _wake, future)
            try:
                await future
            finally:
                timer.cancel()
                with self._condition:
                    self._wakers = [waker for waker in self._wakers if waker[1] is not future]

    def _look(self, read_timeout: float | None, boarded: float) -> tuple[Landing | TimedOut | None, float]:
        """The landing, or None and the seconds to wait before looking again. Called under the lock."""
        now = time.monotonic()
        if self.landing is not None and (self.over or now >= self._hand_over_at):
            return self.landing, 0.0
        if not self._is_alive(now):
            return Abandoned(), 0.0
        pause = min(_TICK, self._hand_over_at - now)
        if read_timeout is not None and not self.paused:
            left = max(self._moved, boarded) + read_timeout - now
            if left <= 0:
                return TimedOut(), 0.0
            pause = min(pause, left)
        return None, max(pause, 0.0005)

    def _is_alive(self, now: float) -> bool:
        """False when the flight's event loop will never go on: closed, stopped, or blocked by its reader."""
        if self.loop is None or self.loop is asyncio._get_running_loop():
            return True
        if self.loop.is_closed():
            return False
        asked_at, heard = self._heard
        if heard:
            self._heard = (now, False)
            try:
                self.loop.call_soon_threadsafe(self._hear)
            except RuntimeError:
                return False
            return True
        return now - asked_at < (_TICK * 2 if not self.loop.is_running() else _DEAF)

    def _hear(self) -> None:
        self._heard = (0.0, True)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Flights:
    """The flights of one folder in this process. Get it with `flights_of`, never by the constructor."""

    def __init__(self, folder: Path) -> None:
        self._by_key: dict[str, Flight] = {}
        self._lock = _lock
        self._landed = threading.Condition(self._lock)
        self._guards: set[asyncio.Task[None]] = set()
        self._waiting: list[tuple[set[Flight], Callable[[], None]]] = []
        self._leases = Leases(folder)
        _all.add(self)

    def _begin_anew(self) -> None:
        # The child has neither the parent's threads nor its locks: its flights are not ours.
        self._by_key.clear()
        self._guards.clear()
        self._waiting.clear()
        self._leases.forked()
        self._landed = threading.Condition(self._lock)

    def board(self, key: str, credential: bytes, loop: asyncio.AbstractEventLoop | None) -> tuple[Flight, bool]:
        """The key's flight with this caller aboard, and whether he has to launch it.

        loop: the event loop the caller would fly on, None when he would use a thread. A sync caller inside the very
        loop that the flight needs would wait for ever: he gets a flight of his own.
        """
        with self._lock:
            flight = self._by_key.get(key)
            if flight is not None and not flight.over:
                stuck = loop is None and flight.loop is not None and flight.loop is asyncio._get_running_loop()
                if not stuck and not (flight.loop is not None and flight.loop.is_closed()):
                    flight.board()
                    return flight, False
            new = Flight(key, credential, loop)
            new.leased = flight is not None and flight.leased  # of the process, and the last to end drops it
            new.board()
            self._by_key[key] = new
            return new, True

    def try_lease(self, flight: Flight) -> bool:
        """True when this process may fly the key now.

        Also when leases cannot be had, in a folder that cannot be written: one flight per key in this process still
        holds.
        """
        with self._lock:
            try:
                if not self._leases.take(flight.key):
                    return False
                holder = self._by_key.get(flight.key)
                if holder is not None:  # a flight that was given up may get here beside the one that took its place
                    holder.leased = True
                else:  # no end would drop it, and other processes would wait for ever
                    self._leases.drop(flight.key)
            except OSError:
                pass
        return True

    def strike(self, flight: Flight) -> None:
        """Take a flight off the registry and drop its lease, so that another can start. Idempotent.

        It is not ended: if its loop goes on after all, whoever started it there gets its answer, once.
        """
        with self._lock:
            if self._by_key.get(flight.key) is flight:
                del self._by_key[flight.key]
                if flight.leased:
                    try:
                        self._leases.drop(flight.key)
                    except OSError:
                        pass
            self._landed.notify_all()

    def end(self, flight: Flight, landing: Landing) -> None:
        """The flight is over: off the registry, lease dropped, readers told. Idempotent."""
        self.strike(flight)
        flight.on_empty = None  # a cycle: the answer would stay in memory until the collector comes
        flight.end(landing)
        self._call_those_who_waited_for(flight)

    def launch_thread(self, flight: Flight, work: Callable[[], Landing]) -> None:
        """Fly in a daemon thread; work does not raise.

        A daemon, because it must not keep a program alive for ever: the drain at exit waits for it, with an end.
        A non-daemon thread was rejected: one started from a daemon thread is a daemon too, and then nobody waits.
        """

        def run() -> None:
            if flight.begin():
                self.end(flight, work())

        watch_exit()
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run,), name="cachelayer-flight", daemon=True).start()

    def launch_task(
        self,
        flight: Flight,
        work: Callable[[], Coroutine[Any, Any, Landing]],
        *,
        finish_timeout: float,
        drain_timeout: float,
    ) -> None:
        """Fly in a task that the loop's shutdown does not cancel, behind a guard that it waits for.

        asyncio.run ends by cancelling every task once. A shielded flight is cancelled all the same, and one that
        refuses to be cancelled breaks httpx's timeouts (anyio delivers them by cancel()). So the flight's task is taken
        out of the loop's list, and a second task stands there, which on cancellation waits for the first.
        """
        loop = asyncio.get_running_loop()

        async def run() -> None:
            landing: Landing = Abandoned()  # what a cancelled flight leaves behind
            try:
                landing = await work()
            finally:
                stop_timer()
                self.end(flight, landing)

        async def guard() -> None:
            until: float | None = None
            while not task.done() and not (until is not None and time.monotonic() > until):
                try:
                    left = None if until is None else max(0.0, until - time.monotonic())
                    await asyncio.wait({task}, timeout=left)
                except asyncio.CancelledError:
                    until = until or time.monotonic() + drain_timeout

        timers: list[asyncio.TimerHandle] = []

        def give_up() -> None:
            if flight.passengers == 0 and not flight.answered:
                task.cancel()

        def start_timer() -> None:
            stop_timer()
            if not flight.over:
                timers.append(loop.call_later(finish_timeout, give_up))

        def stop_timer() -> None:
            while timers:
                timers.pop().cancel()  # it would keep the answer in memory until its time comes

        def on_empty() -> None:
            try:
                loop.call_soon_threadsafe(start_timer)
            except RuntimeError:
                pass  # the loop is closed, and the flight with it

        flight.on_empty = on_empty
        task = loop.create_task(run(), name="cachelayer-flight")
        asyncio._unregister_task(task)
        task.add_done_callback(_retrieve)
        guarding = loop.create_task(guard(), name="cachelayer-guard")
        self._guards.add(guarding)
        guarding.add_done_callback(self._guards.discard)

    def wait_idle(self, timeout: float) -> int:
        """Wait until no flight of a thread or of another loop is under way; the number that still are after timeout.

        Flights of the caller's own running loop are not waited for: they need that loop to go on.
        """
        deadline = time.monotonic() + timeout
        with self._landed:
            while True:
                here = asyncio._get_running_loop()
                busy = sum(flight.loop is None or flight.loop is not here for flight in self._living())
                left = deadline - time.monotonic()
                if not busy or left <= 0:
                    return busy
                self._landed.wait(min(left, _TICK))

    async def wait_idle_async(self, timeout: float) -> int:
        """Like wait_idle, for a task: lets the running loop's own flights go on meanwhile."""
        deadline = time.monotonic() + timeout
        pause = 0.002
        while self.count() and time.monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.1)
        return self.count()

    def count(self) -> int:
        """Flights under way in this process, those of loops that stand still left out: they may never end."""
        with self._lock:
            return len(self._living())

    def _living(self) -> list[Flight]:
        return [flight for flight in self._by_key.values() if flight.loop is None or flight.loop.is_running()]

    def after_own_flights(self, call: Callable[[], None]) -> None:
        """Call once the flights of the running event loop have ended; at once when there are none."""
        here = asyncio._get_running_loop()
        with self._lock:
            own = {flight for flight in self._living() if here is not None and flight.loop is here}
            if own:
                self._waiting.append((own, call))
        if not own:
            call()

    def after_all_flights(self, call: Callable[[], None]) -> bool:
        """True: no flight is under way. False: call will be called once those that are have ended."""
        with self._lock:
            living = set(self._living())
            if living:
                self._waiting.append((living, call))
        return not living

    def let_go(self) -> None:
        """Let go of the leases' file, unless a lease is held."""
        with self._lock:
            self._leases.close()

    def _call_those_who_waited_for(self, flight: Flight) -> None:
        with self._lock:
            for own, _ in self._waiting:
                own.discard(flight)
            calls = [call for own, call in self._waiting if not own]
            self._waiting = [(own, call) for own, call in self._waiting if own]
        for call in calls:
            call()


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


# One for all folders: held for microseconds, and handlers at a fork can never be taken back. They are C functions, as
# one in Python could be interrupted before its first line and leave the lock held.
# Reentrant: while we are in here the garbage collector may end a dead loop's flight, and a signal handler ask.
_lock = threading.RLock()
_all: weakref.WeakSet[Flights] = weakref.WeakSet()
_registry: weakref.WeakValueDictionary[str, Flights] = weakref.WeakValueDictionary()


def flights_of(folder: Path) -> Flights:
    """The one Flights of a folder in this process, however the folder is spelled, as long as anybody uses it."""
    identity = os.path.realpath(folder)
    with _lock:
        flights = _registry.get(identity)
        if flights is None:
            flights = _registry[identity] = Flights(folder)
        return flights


def _begin_anew() -> None:
    for flights in list(_all):
        flights._begin_anew()


os.register_at_fork(after_in_child=_begin_anew)
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
