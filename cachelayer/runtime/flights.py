"""The registry: which flight a caller joins, starts or makes a second call in, and who holds the lease of a key.

One Flights per folder and process, one flight per key. What happens inside a flight is in flight.py, how its calls run
in launch.py. What can never end by itself (a call whose event loop was closed or dropped, one that nobody has waited
for) is ended here, and booked once: `sweep` runs at boardings and whenever somebody asks what is under way.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path

from cachelayer.core.tables import Berth, berth
from cachelayer.core.trip import Abandoned, Landing, Overtaken
from cachelayer.machine import forks
from cachelayer.runtime.call import DEAF, TICK, Call
from cachelayer.runtime.exit import before_the_end
from cachelayer.runtime.flight import Flight
from cachelayer.runtime.leases import GivenBack, Leases, MachineLeases, Waits
from cachelayer.runtime.seat import Bell, Seat

_STEP = 0.01
"""Seconds between two looks at whether a loop that is stepped to its calls' end has got there."""


class Flights:
    """The flights of one folder in this process. Get it with `flights_of`, never by the constructor."""

    def __init__(self, folder: Path) -> None:
        self._by_key: dict[str, Flight] = {}
        self._calls: set[Call] = set()
        """Those that have not ended: of the flights above, and late ones of flights that have landed."""
        self._lock = _lock
        self._bells: set[Bell] = set()
        self._waiting: list[tuple[set[Call], Callable[[], None]]] = []
        self.unbooked: deque[Callable[[], object]] = deque()
        """Books outcomes of callers who were destroyed with their loop, where nothing could be written down."""
        self._machine_leases = MachineLeases(folder)
        self._leases: Leases = self._machine_leases
        self._given_back = GivenBack()
        self._waits = Waits()
        self._swept = 0.0
        _all.add(self)

    def _begin_anew(self) -> None:
        # The child has neither the parent's threads nor its locks: its flights are not ours.
        self._by_key.clear()
        self._calls.clear()
        self._waiting.clear()
        self._bells.clear()
        self.unbooked.clear()
        self._given_back, self._waits = GivenBack(), Waits()
        self._machine_leases.forked()

    # --- boarding -----------------------------------------------------------------------------------------------------

    def board(self, key: str, seat: Seat, call: Call) -> bool:
        """Give a caller his place in the key's flight; True when he makes a call, which is then to be launched.

        He does when there is no flight, when nothing has come for hedge_after, or when he is a blocking caller inside
        the very loop that every call of the flight needs, and would wait for ever. A seat that is aboard already keeps
        its place. Whatever interrupts this, `call_off` sets right.
        """
        self.sweep(every=TICK)
        with self._lock:
            flight = seat.flight or self._by_key.get(key)
        if flight is not None:
            self._end_dead_calls(flight)
        with self._lock:
            makes_call = self._give_berth(key, seat, call)
        self._given_back.release(self._leases)
        return makes_call

    def _give_berth(self, key: str, seat: Seat, call: Call) -> bool:
        now = time.monotonic()
        for flight in filter(None, (seat.flight, self._by_key.get(key))):
            with flight.lock:
                where = berth(flight.seen_by(seat, now, blocks_loop=call.in_thread))
                if where is Berth.START:  # it stands still; whoever waits there goes on in the next one
                    self._strike(flight)
                    if seat.flight is flight:
                        flight.change(seat)
                    continue
                if seat.flight is None:
                    flight.board(seat)
                if where is Berth.HEDGE:
                    self._make_call(flight, seat, call)
                return where is Berth.HEDGE
        flight = Flight(key)
        flight.board(seat)
        self._make_call(flight, seat, call)
        call.waiting_since = self._waits.recall(key)
        self._by_key[key] = flight
        return True

    def _strike(self, flight: Flight) -> None:
        flight.strike()
        if self._by_key.get(flight.key) is flight:
            del self._by_key[flight.key]
        self._let_go(flight, flight.calls)

    def _make_call(self, flight: Flight, seat: Seat, call: Call) -> None:
        self._calls.add(call)
        flight.make_call(seat, call)

    def call_off(self, call: Call) -> None:
        """End a call that was to be launched, unless it runs already. For interrupts: idempotent, and right wherever
        boarding was left."""
        flight = call.flight
        if flight is None:
            self._calls.discard(call)
            return
        with self._lock, flight.lock:
            if call.is_begun and call in flight.calls:
                return
            flight.announce(call, Abandoned())  # nothing was sent: whoever made it goes on himself
            told = self._close(flight, call, Abandoned())  # under the locks: it may begin at any moment
        self._given_back.release(self._leases)
        for tell in told:
            tell()

    # --- leases -------------------------------------------------------------------------------------------------------

    def try_lease(self, call: Call) -> bool:
        """True when a call may be sent, as far as other processes are concerned."""
        flight = call.flight
        if flight is None:
            return False
        with self._lock:
            if call.slot >= 0:
                return True
            if not self._may_hold_lease(call, flight):
                return False
            held = {slot for other in flight.calls for slot in other.slots_held()}
            call.tries = [slot for slot in call.slots(time.monotonic()) if slot not in held]
        got = next((slot for slot in call.tries if self._leases.acquire(flight.key, slot, flight.token)), None)
        with self._lock:
            call.tries = []
            if got is not None and self._may_hold_lease(call, flight):
                call.slot = got
                if got == call.base:  # whoever held it holds it no more; a further one is taken beside him
                    call.waiting_since = None
                return True
            call.waited = True
            if got is not None:  # it was ended meanwhile
                self._given_back.append((flight.key, got, flight.token))
        self._given_back.release(self._leases)
        return False

    def _may_hold_lease(self, call: Call, flight: Flight) -> bool:
        # Of one that has ended, no end would let go, and other processes would wait for ever.
        return call in self._calls and self._by_key.get(flight.key) is flight

    # --- ends ---------------------------------------------------------------------------------------------------------

    def close(self, call: Call, landing: Landing) -> None:
        """A call is over; with its flight, if that has landed by it or it was the last: off the registry, lease
        dropped, readers told. Idempotent."""
        flight = call.flight
        if flight is None:
            return
        with self._lock:
            told = self._close(flight, call, landing)
        self._given_back.release(self._leases)
        for tell in told:
            tell()

    def _close(self, flight: Flight, call: Call, landing: Landing) -> list[Callable[[], None]]:
        """Under the lock; whom to tell outside it."""
        if call.waiting_since is not None and not call.cleared and isinstance(landing, Abandoned):
            self._waits.remember(flight.key, call.waiting_since)
        with flight.lock:
            flight.close(call, landing)
            self._release(flight, call)
        for own, _ in self._waiting:
            own.discard(call)
        now_free = [then for own, then in self._waiting if not own]
        self._waiting = [(own, then) for own, then in self._waiting if own]
        told = [bell.ring for bell in self._bells] + now_free
        self._calls.discard(call)  # last: until then sweep takes the call for unfinished, should we be interrupted
        return told

    def _release(self, flight: Flight, call: Call) -> None:
        """Let go of what a closed call, or with it the whole flight, holds of the lease. Under both locks."""
        if flight.is_over:
            self._let_go(flight, [call])
            self._dismiss(flight)
        elif call.slot >= 0 and any(other.slot > call.slot for other in flight.calls):
            # A call made later goes on. Its own slot alone would let another process send at once.
            heir = max(flight.calls, key=lambda other: other.slot)
            heir.spare += call.slots_held()
            call.slot, call.spare, call.tries = -1, [], []
        else:
            self._let_go(flight, [call])

    def _dismiss(self, flight: Flight) -> None:
        """A flight is over: off the registry. Calls of it that go on are late, and hold up nobody. Under both locks."""
        if self._by_key.get(flight.key) is flight:
            del self._by_key[flight.key]
        self._let_go(flight, flight.calls)

    def overtake(self, flight: Flight, landing: Overtaken) -> None:
        """Another process has stored an answer while a flight is silent: it lands with that. Idempotent."""
        with self._lock, flight.lock:
            if flight.landing is None:
                flight.overtake(landing)
                self._dismiss(flight)
        self._given_back.release(self._leases)

    def _let_go(self, flight: Flight, calls: list[Call]) -> None:
        """Give up what calls hold of the lease. Under the lock; what is given back is released outside it."""
        for call in calls:
            self._given_back.extend((flight.key, slot, flight.token) for slot in call.slots_held())
            call.slot, call.spare, call.tries = -1, [], []

    def give_up(self, call: Call) -> None:
        """End a call from outside, and book the outcome of the request that made it, if nobody has. Idempotent."""
        flight = call.flight
        if flight is None:
            return
        told = flight.announce(call, Abandoned())
        cleared = call.cleared
        self.close(call, Abandoned())
        if call.claim():
            call.book(cleared, told.served, told.left)
            call.is_written = True
        if not call.in_thread and not call.is_running():
            call.let_go()

    def sweep(self, *, every: float = 0.0) -> None:
        """End what cannot end by itself: calls of loops that were closed or dropped, or stand still and nobody has
        waited for them for finish_timeout; calls that never began. every: not again within that many seconds."""
        self._given_back.release(self._leases)  # of whoever was interrupted as he did
        while self.unbooked:
            try:
                book = self.unbooked.popleft()
            except IndexError:
                break
            book()
        now = time.monotonic()
        if not self._calls or now - self._swept < every:
            return
        self._swept = now
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            flight = call.flight
            if flight is None:
                if now - call.made > DEAF:  # interrupted as it was made
                    self._calls.discard(call)
                continue
            if call.landing is not None:  # interrupted in close
                self.close(call, call.landing)
            elif not call.is_begun and not call.is_dead() and now - call.made > DEAF:  # interrupted before its launch
                self.call_off(call)
            elif call.is_dead() or (flight.is_overdue(call, now) and (call.in_thread or not call.is_running())):
                self.give_up(call)

    def _end_dead_calls(self, flight: Flight) -> None:
        with flight.lock:
            dead = [call for call in flight.calls if call.is_dead()]
        for call in dead:
            self.give_up(call)

    def settle(self) -> None:
        """The process ends: book what nobody waits for and nothing would be lost with, late calls above all."""
        calls = list(self._calls)
        for call in calls:
            flight = call.flight
            if flight is not None and (call.is_dead() or not flight.is_needed(call)):
                self.give_up(call)
        until = time.monotonic() + TICK
        while any(call.awaits_writing() for call in calls) and time.monotonic() < until:
            time.sleep(_STEP)  # its thread is a daemon, and would be stopped before it has written

    # --- what is under way --------------------------------------------------------------------------------------------

    def wait_idle(self, timeout: float) -> int:
        """Wait until no call is under way; the number that still are after timeout seconds.

        Loops that stand still (`run_until_complete` has returned), of this thread or of one that has ended, are stepped
        until our calls on them have ended; what else is scheduled there goes on meanwhile. Calls of the running loop
        are not waited for: they need that loop to go on.
        """
        deadline = time.monotonic() + timeout
        if asyncio._get_running_loop() is None:
            for loop in self._loops_to_step():
                try:
                    loop.run_until_complete(self._until_landed(loop, deadline))
                except RuntimeError:  # somebody runs or closes it just now
                    continue
        bell = Bell()
        self._bells.add(bell)
        try:
            while True:
                here = asyncio._get_running_loop()
                busy = sum(call.in_thread or call.loop is not here for call in self._living())
                left = deadline - time.monotonic()
                if not busy or left <= 0:
                    return busy
                bell.wait(min(left, TICK))
        finally:
            self._bells.discard(bell)

    def _loops_to_step(self) -> set[asyncio.AbstractEventLoop]:
        others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
        loops = {call.loop for call in self._needed() if call.thread not in others}
        return {loop for loop in loops if loop is not None and not loop.is_running() and not loop.is_closed()}

    async def _until_landed(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        while True:
            if time.monotonic() >= deadline or not any(call.loop is loop for call in self._needed()):
                return
            await asyncio.sleep(_STEP)

    async def wait_idle_async(self, timeout: float) -> int:
        """Like wait_idle, for a task: lets the running loop's own calls go on meanwhile."""
        deadline = time.monotonic() + timeout
        pause = 0.002
        while self.count() and time.monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.1)
        return self.count()

    def count(self) -> int:
        """Calls under way in this process whose answers somebody needs. Those of loops that stand still are left out:
        they may never end."""
        return len(self._living())

    def _living(self) -> list[Call]:
        return [call for call in self._needed() if call.is_running()]

    def paid_for(self) -> int:
        """Calls that were sent and may still land: the provider may be working, and billing."""
        return sum(call.sent or call.is_answered for call in self._needed())

    def _needed(self) -> list[Call]:
        self.sweep()
        return self._needed_now()

    def _needed_now(self) -> list[Call]:
        # A loop that stands still may be run again; a closed one may not.
        with self._lock:
            calls = [call for call in self._calls if not call.is_dead()]
        return [call for call in calls if call.flight is not None and call.flight.is_needed(call)]

    def after_all_flights(self, then: Callable[[], None]) -> bool:
        """True: no call is under way. False: `then` will be called once those that are have ended."""
        with self._lock:
            own = set(self._needed_now())
            if own:
                self._waiting.append((own, then))
        return not own

    def let_go(self) -> None:
        """Let go of the leases' file, unless a lease is held."""
        self._machine_leases.close()


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


def _settle_all() -> None:
    for flights in list(_all):
        flights.settle()


before_the_end.append(_settle_all)


def _begin_anew() -> None:
    for flights in list(_all):
        flights._begin_anew()


forks.in_child(_begin_anew)
forks.hold(_lock)
