"""One flight: where those who wait for a key's answer and the calls that fetch it meet.

    FLYING -> LANDED -> OVER
       |        ^
       +-> STRUCK

    FLYING   on the registry; whoever asks for the key joins. It has at least one call
    STRUCK   off the registry, since every event loop of its calls stands still: those who wait elsewhere go to another
             flight. It is not ended: if such a loop goes on after all, whoever waits there gets his answer, once
    LANDED   a call was answered well, or its last one failed. What a good answer brought is handed over when it has
             been stored, or in HANDOVER_WAIT seconds; calls that go on beside it are late from now on
    OVER     the landing is final: off the registry, the lease given back. Also at once, where it is overtaken by what
             another process has stored

A Flight has one call (call.py, which has the states of a call) as a rule, a second one when a provider is silent for
hedge_after, and as many seats (seat.py) as callers. It decides, under its one lock, what landed it, who is told what
and when. Who flies a key at all is the registry's business (flights.py), starting calls that of launch.py.

Locks are bare (no Condition): an exception out of a signal handler cannot leave one held.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
import weakref
from enum import Enum

from cachelayer.core.policy import HANDOVER_WAIT
from cachelayer.core.reasons import Reason
from cachelayer.core.tables import InAir
from cachelayer.core.trip import (
    Abandoned,
    Answered,
    Arrived,
    Clearance,
    Landing,
    Lease,
    Overtaken,
    Silent,
    TimedOut,
    Told,
)
from cachelayer.runtime.call import SLOTS, TICK, Call, CallState, GivenUp
from cachelayer.runtime.seat import Bell, Seat, wake, waker


class FlightState(Enum):
    """How far a flight has got; the rules stand at the head of this file."""

    FLYING = "flying"
    STRUCK = "struck"
    LANDED = "landed"
    OVER = "over"


class Flight:
    """The calls under way for one key, and those who wait for their answer.

    The lock comes after the registry's, never before it.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.token = secrets.token_hex(8)
        """Whose its leases are."""
        self.lock = threading.RLock()
        self.calls: list[Call] = []
        """Under way, the oldest first."""
        self.landing: Landing | None = None
        self._landed_by: weakref.ref[Call] | None = None
        self._landed_credential = b""
        self._state = FlightState.FLYING
        self.failed_at = float("-inf")
        """When a call last failed beside another one."""
        self._seats: weakref.WeakSet[Seat] = weakref.WeakSet()
        self._came = float("-inf")
        self._hand_over_at = float("inf")
        self._next_hedger_at = self._next_look_at = float("-inf")

    @property
    def has_landed(self) -> bool:
        """What it ends with is known."""
        return self._state in (FlightState.LANDED, FlightState.OVER)

    @property
    def is_over(self) -> bool:
        """The landing is final."""
        return self._state is FlightState.OVER

    @property
    def passengers(self) -> int:
        """Callers who wait now."""
        with self.lock:
            return sum(seat.waits() for seat in self._seats)

    # The calls' side

    def step(self, call: Call, *, paused: bool = False) -> None:
        """A call moved: readers' timers start anew, or stand still while paused. Raises GivenUp."""
        with self.lock:
            now = time.monotonic()
            if call.is_ended or self.is_overdue(call, now):
                raise GivenUp
            changed = (call.sent, call.paused) != (not paused, paused)
            if call.step(now, paused=paused):
                self._came = now
        if changed:  # what only puts off a reader's end need not wake him
            self._wake_all()

    def answer(self, call: Call) -> None:
        """All has come, however late: what is left is our own work, and no timer of a reader runs. Raises GivenUp
        when the call was booked as given up."""
        with self.lock:
            if call.is_ended:
                raise GivenUp
            call.advance(CallState.ANSWERED)
        self._wake_all()

    def depart(self, call: Call, lease: Lease) -> Clearance:
        """Whether a call may be sent now."""
        with self.lock:
            if self.has_landed or call.is_ended or (self._state is FlightState.STRUCK and not call.cleared):
                return Clearance.END
            unwanted = self._unwanted_for(call, time.monotonic())
            if unwanted is not None and (unwanted >= TICK or (lease.held and lease.waited)):
                return Clearance.END  # nobody asks here any more, or another process flew and failed meanwhile
            if lease.held:
                call.advance(CallState.CLEARED)
            return Clearance.GO if lease.held else Clearance.WAIT

    def announce(self, call: Call, landing: Landing) -> Told:
        """A call has ended so. The first good answer lands the flight, and so does the failure of its last call; handed
        over when the call is closed, or in HANDOVER_WAIT seconds."""
        with self.lock:
            call.advance(CallState.ANSWERED)
            first, left = not self.has_landed, call.how_left()
            others = [other for other in self.calls if other is not call]
            if first and (_is_good(landing) or not others):
                self._land(call, landing)
                self._hand_over_at = time.monotonic() + HANDOVER_WAIT
                if _is_good(landing):
                    for other in others:
                        other.serve()
            if not call.cleared and left is None:
                call.hand_back()
        self._wake_all()
        self._tell_unwanted()
        return Told(first, call.served, left)

    def close(self, call: Call, landing: Landing) -> None:
        """A call is over. Under the registry's lock; idempotent."""
        with self.lock:
            if call.landing is None:
                call.landing = landing
            call.advance(CallState.ENDED)
            self.calls = [other for other in self.calls if other is not call]
            if not self.has_landed and self.calls:
                self.failed_at = time.monotonic()
            elif not self.has_landed:
                self._land(call, landing)
                self._state = FlightState.OVER
            elif self._is_landed_by(call) and not self.is_over:
                # What was announced stands, whatever became of storing it.
                self.landing = landing if isinstance(landing, type(self.landing)) else self.landing
                self._state = FlightState.OVER
        self._wake_all()
        self._tell_unwanted()

    def strike(self) -> None:
        """Off the registry: every loop of its calls stands still. Under its lock."""
        if not self.has_landed:
            self._state = FlightState.STRUCK

    def overtake(self, landing: Overtaken) -> None:
        """Another process has stored an answer. It serves all who wait, and the calls under way are late from now on.
        Under the registry's lock."""
        with self.lock:
            self.landing, self._state = landing, FlightState.OVER
            for call in self.calls:
                call.serve()
        self._wake_all()
        self._tell_unwanted()

    def _land(self, call: Call, landing: Landing) -> None:
        self._state = FlightState.LANDED
        # Weakly: a cycle would keep the answer in memory until the collector comes.
        self.landing, self._landed_by, self._landed_credential = landing, weakref.ref(call), call.credential

    def _is_landed_by(self, call: Call | None) -> bool:
        return self._landed_by is not None and call is not None and self._landed_by() is call

    def is_overdue(self, call: Call, now: float) -> bool:
        """Whether nobody has waited for a call for its finish_timeout."""
        with self.lock:
            unwanted = None if call.is_answered else self._unwanted_for(call, now)
            return unwanted is not None and unwanted >= call.finish_timeout

    def is_needed(self, call: Call) -> bool:
        """Whether something would be lost with a call: it was sent and is not late, or somebody waits for it."""
        with self.lock:
            late = self.has_landed and not self._is_landed_by(call)
            return not late and (call.cleared or any(seat.waits() for seat in self._seats))

    def _unwanted_for(self, call: Call, now: float) -> float | None:
        """Seconds since somebody last waited for a call; None while somebody does."""
        late = self.has_landed and not self._is_landed_by(call)
        if not late and any(seat.waits() for seat in self._seats):
            call.unwanted_since = None
            return None
        if call.unwanted_since is None:
            call.unwanted_since = now
        return now - call.unwanted_since

    def _tell_unwanted(self) -> None:
        with self.lock:
            now = time.monotonic()
            told = [call.on_unwanted for call in self.calls if self._unwanted_for(call, now) is not None]
        for reference in told:
            tell = None if reference is None else reference()
            if tell is not None:
                tell()

    def _wake_all(self) -> None:
        with self.lock:
            wakes = [seat.wake for seat in self._seats]
        for tell in wakes:
            tell()

    # The passengers' side

    def board(self, seat: Seat) -> None:
        """One more caller waits."""
        with self.lock:
            seat.flight = self
            for call in self.calls:
                call.unwanted_since = None
            self._seats.add(seat)

    def stands_still(self, now: float) -> bool:
        """Whether no call goes on. Under the lock."""
        return not self.has_landed and (
            self._state is FlightState.STRUCK or all(call.stands_still(now) for call in self.calls)
        )

    def change(self, seat: Seat) -> None:
        """A caller leaves a struck flight for another one, where his time goes on."""
        with self.lock:
            self._seats.discard(seat)
            seat.flight = None

    def seen_by(self, seat: Seat, now: float, *, blocks_loop: bool) -> InAir:
        """How one caller, aboard or about to board, finds it. blocks_loop: he waits in a thread; if an event loop runs
        in it, a flight all of whose calls need that loop would never land. Under the lock."""
        here = asyncio._get_running_loop()
        return InAir(
            landed=self.has_landed,
            stands_still=self.stands_still(now),
            silent=self.hedge_in(seat.hedge_after, now) <= 0,
            full=len(self.calls) >= SLOTS,
            his_call=seat.call is not None or seat.taken,
            needs_him=blocks_loop and here is not None and all(call.loop is here for call in self.calls),
        )

    def make_call(self, seat: Seat, call: Call) -> None:
        """A caller aboard makes a call."""
        with self.lock:
            call.base = 1 + max((other.slot for other in self.calls), default=-1)
            call.waited = bool(self.calls)
            call.flight, call.seat, seat.call = self, weakref.ref(seat), call
            self.calls.append(call)

    def leave(self, seat: Seat, reason: Reason) -> bool:
        """A caller goes without an answer; whether his outcome is his own to book. Idempotent."""
        with self.lock:
            self._leave(seat, reason)
            books = seat.books_himself()
        self._tell_unwanted()
        return books

    def _leave(self, seat: Seat, reason: Reason | None) -> None:
        self._seats.discard(seat)
        if seat.call is not None and not seat.taken:
            seat.call.left = reason
        seat.taken = True

    def wait(self, seat: Seat) -> Arrived:
        """Block this thread until something can be had."""
        bell = Bell()
        seat.wake = bell.ring
        while True:
            arrived, pause = self._look(seat)
            if arrived is not None:
                return arrived
            bell.wait(pause)

    async def wait_async(self, seat: Seat) -> Arrived:
        """Like wait, for a task of any event loop."""
        loop = asyncio.get_running_loop()
        while True:
            future: asyncio.Future[None] = loop.create_future()
            seat.wake = waker(loop, future)
            arrived, pause = self._look(seat)
            if arrived is not None:
                return arrived
            timer = loop.call_later(pause, wake, future)
            try:
                await future
            finally:
                timer.cancel()

    def _look(self, seat: Seat) -> tuple[Arrived | None, float]:
        """What a caller can have now, or None and the seconds to wait before looking again."""
        with self.lock:
            now = time.monotonic()
            landing, own = self._landing_for(seat, now)
            if landing is not None:
                arrived: Arrived | None = self._take(seat, landing, own=own)
                pause = 0.0
            else:
                arrived, pause = self._go_on(seat, now)
        if arrived is not None and not isinstance(arrived.landing, Silent):
            self._tell_unwanted()
        return arrived, pause

    def _landing_for(self, seat: Seat, now: float) -> tuple[Landing | None, bool]:
        """What a caller can have now, and whether his own call brought it."""
        own = None if seat.call is None else seat.call.landing
        if own is not None and not isinstance(own, Abandoned):
            return own, True
        if self.landing is not None and (self.is_over or now >= self._hand_over_at):
            return self.landing, self._is_landed_by(seat.call)
        return own, True

    def _take(self, seat: Seat, landing: Landing | TimedOut, *, own: bool) -> Arrived:
        booked = not seat.books_himself()
        if isinstance(landing, Abandoned) and seat.call is not None and seat.call.is_booked and booked:
            landing = TimedOut()  # his loop stood still for so long that he was booked as gone
        self._leave(seat, Reason.READ_TIMEOUT if isinstance(landing, TimedOut) else None)
        return Arrived(landing, own, booked, shares=seat.credential == self._landed_credential)

    def _go_on(self, seat: Seat, now: float) -> tuple[Arrived | None, float]:
        look = self._look_in(seat.hedge_after, now)
        if look <= 0:
            self._next_look_at = now + TICK  # for one at a time
            return Arrived(Silent()), 0.0
        pause = min(TICK, max(self._hand_over_at - now, 0.0), look)
        if seat.call is None:
            hedge = max(self.hedge_in(seat.hedge_after, now), self._next_hedger_at - now)
            if hedge <= 0 or self.stands_still(now):
                self._next_hedger_at = now + TICK  # for one at a time; another, should he not come to it
                return Arrived(Silent()), 0.0
            pause = min(pause, hedge)
        # His own call's connection is his; who has none goes by the oldest, and a hedge does not begin his time anew.
        call = seat.call or next(iter(self.calls), None)
        paused = any(other.is_answered for other in self.calls) or (call is not None and call.paused)
        # Nor does his time run while we get his call ready; but no disk that hangs may hold him up for long.
        own = seat.call
        paused |= own is not None and not (own.has_moved or own.waited) and now - seat.boarded < TICK
        if seat.read_timeout is not None and not paused:
            moved = max(seat.boarded, self._came, seat.boarded if call is None else call.moved)
            left = moved + seat.read_timeout - now
            if left <= 0:
                return self._take(seat, TimedOut(), own=False), 0.0
            pause = min(pause, left)
        return None, max(pause, 0.0005)

    def _look_in(self, hedge_after: float, now: float) -> float:
        """Seconds until one of those who wait looks in the store: a call is silent, and another process, which waits
        for this one's lease, may have made a call of its own and been answered."""
        if self.has_landed or any(call.is_answered for call in self.calls):
            return float("inf")
        silent_at = min((call.moved for call in self.calls if call.sent), default=float("inf")) + hedge_after
        return max(silent_at, self._next_look_at) - now

    def hedge_in(self, hedge_after: float, now: float) -> float:
        """Seconds until one of those who wait may make a call of his own: nothing has come for hedge_after since the
        first was sent, for twice as long since the second was, and so on. Queueing, connecting and uploading are no
        silence. Under the lock."""
        if self.has_landed or not self.calls:
            return float("inf")
        if max(call.slot for call in self.calls) + 1 >= SLOTS:
            return float("inf")
        moving = [call for call in self.calls if not call.stands_still(now)]
        if not moving or any(call.is_answered or call.paused or not call.sent for call in moving):
            return float("inf")
        quiet_since = max(self.failed_at, *(call.moved for call in moving))
        return quiet_since + hedge_after * 2.0 ** max(0, *(call.slot for call in self.calls)) - now


def _is_good(landing: Landing) -> bool:
    return isinstance(landing, Overtaken) or (isinstance(landing, Answered) and landing.is_good)
