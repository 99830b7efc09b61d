"""One call of a flight: a forward, and what is its own. Its state lives here, what follows from it in flight.py.

    MADE -> BEGUN -> CLEARED -> ANSWERED -> ENDED

A call only goes forward, and may leave out any of these: it ends unsent where an entry was found or nobody needs it,
and from anywhere when it is given up. Between CLEARED and ANSWERED it connects, is sent, is silent, answers, over and
over (a redirect, a proxy): `paused`, `sent` and `moved` say where it is.

    BEGUN      its thread or task runs; it waits for its lease
    CLEARED    it may be, or has been, sent: from here on its outcome is booked when it ends, whoever is aboard by then
    ANSWERED   all has come, or it is known that nothing will: nobody's leaving ends it any more
    ENDED      it has a landing, and holds nothing of the lease

Whoever made it is aboard until one of these, each at most once: he has left (`left`); another call has answered him
(`served`); nothing was sent, and he books his outcome himself (`handed_back`, never of a call that was cleared).

Its event loop is held weakly: one that its program has dropped goes, and it with it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import weakref
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING

from cachelayer.core.reasons import Reason
from cachelayer.core.trip import Landing

if TYPE_CHECKING:
    from cachelayer.runtime.flight import Flight
    from cachelayer.runtime.seat import Seat

SLOTS = 8
"""Calls of a key that a machine may have under way: the first, then one after 1, 3, 7, ... times hedge_after."""
TICK = 1.0
"""Seconds between two looks at whether a call's event loop is alive, and at the store while a lease is waited for."""
_CLEANUPS = 20
"""Waits within one another that a task may have in its cleanup."""
DEAF = 10.0
"""Seconds after which an event loop that answers no call is taken for blocked; long enough for a loop that computes."""


class CallState(IntEnum):
    """How far a call has got; the rules stand at the head of this file."""

    MADE = 0
    BEGUN = 1
    CLEARED = 2
    ANSWERED = 3
    ENDED = 4


class GivenUp(Exception):
    """The call was given up: nobody has waited for it for finish_timeout, or another one was answered long ago."""


class Call:
    """One forward within a flight, made by one caller.

    loop: where it runs; None: in a thread. book: records the outcome of the request that made it, should the call be
    given up: book(sent, served, left), as in `flow.no_answer`; left: how its maker left.
    """

    def __init__(
        self,
        credential: bytes,
        loop: asyncio.AbstractEventLoop | None,
        *,
        finish_timeout: float,
        hedge_after: float,
        book: Callable[[bool, bool, Reason | None], None],
    ) -> None:
        self.credential, self.finish_timeout, self.hedge_after, self.book = (
            credential,
            finish_timeout,
            hedge_after,
            book,
        )
        self.flight: Flight | None = None
        self.seat: weakref.ref[Seat] | None = None
        self.in_thread = loop is None
        self._loop = None if loop is None else weakref.ref(loop)
        self.thread = threading.get_ident()
        """Whose call it is: the thread that its loop belongs to."""
        self.made = self.moved = time.monotonic()
        self.task: weakref.ref[asyncio.Task[None]] | None = None
        self._state = CallState.MADE
        self.gone = False
        """Its task was destroyed unfinished, with its loop."""
        self.base, self.slot, self.waited = 0, -1, False
        """Of the lease: the first slot it tries, the one it holds (-1: none), whether it had to wait."""
        self.tries: list[int] = []
        """Slots that it is just about to acquire: nobody else tries them, and it may have them already."""
        self.spare: list[int] = []
        """Slots of calls of its flight that failed, held until it ends."""
        self.waiting_since: float | None = None
        """When somebody of this process began to wait for the lease it waits for."""
        self.cleared = False
        """It was CLEARED, whatever has become of it since."""
        self.begun_as: str | None = None
        """Its id in the ledger, which knows that it was begun; its outcome names it."""
        self.sent = False
        """The provider has all of it, and is silent or answers."""
        self.paused = False
        """Readers' timers stand still: it is connecting or being sent, under timeouts of its own."""
        self.has_moved = False
        """It has begun to connect or to be sent; before, what takes time is our own work, or another's lease."""
        self._steps = 0
        self.landing: Landing | None = None
        """How it ended; its maker gets this unless another call has served him."""
        self.left: Reason | None = None
        self.served = False
        """Another call's answer was its maker's too."""
        self.handed_back = False
        """Nothing was sent, and its maker is aboard: he books his outcome himself."""
        self.unwanted_since: float | None = None
        self.on_unwanted: weakref.ref[Callable[[], None]] | None = None
        """Called, from any thread, when nobody waits for it any more."""
        self._unbooked = [True]
        self.is_written = False
        """The outcome of the request that made it is in the ledger."""
        self._heard: tuple[float, bool] = (0.0, True)

    def advance(self, state: CallState) -> None:
        """It has got so far. Under the flight's lock."""
        self._state = max(self._state, state)
        self.cleared |= state is CallState.CLEARED

    @property
    def is_begun(self) -> bool:
        """Its thread or task runs, or ran."""
        return self._state >= CallState.BEGUN

    @property
    def is_answered(self) -> bool:
        """Nobody's leaving ends it any more."""
        return self._state >= CallState.ANSWERED

    @property
    def is_ended(self) -> bool:
        """It has its landing."""
        return self._state is CallState.ENDED

    def claim(self) -> bool:
        """True for the first who asks: he books the outcome of the request that made this call, and nobody else."""
        try:
            return self._unbooked.pop()
        except IndexError:
            return False

    @property
    def is_booked(self) -> bool:
        """Whether somebody has claimed it."""
        return not self._unbooked

    def awaits_writing(self) -> bool:
        """Whether somebody is just about to write its outcome down."""
        return self.is_booked and not self.is_written and not self.handed_back

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop it runs in; None: in a thread, or the loop is gone."""
        return None if self._loop is None else self._loop()

    def is_dead(self) -> bool:
        """It can never go on: its loop was closed, or is gone."""
        if self.in_thread:
            return False
        loop = self.loop
        return self.gone or loop is None or loop.is_closed()

    def is_running(self) -> bool:
        """In a thread, or in a loop that runs now."""
        loop = self.loop
        return self.in_thread or (loop is not None and loop.is_running())

    def stands_still(self, now: float) -> bool:
        """It does not go on: its event loop was closed or stopped, or is deaf, or it was never launched."""
        if self.is_dead() or (not self.is_begun and now - self.made > DEAF):
            return True
        loop = self.loop
        if loop is None or loop is asyncio._get_running_loop():
            return False
        asked_at, heard = self._heard
        if heard:
            self._heard = (now, False)
            try:
                loop.call_soon_threadsafe(self._hear)
            except RuntimeError:
                return True
            return False
        return now - asked_at >= (DEAF if loop.is_running() else 2 * TICK)

    def _hear(self) -> None:
        self._heard = (0.0, True)

    def let_go(self) -> None:
        """It was given up, and its loop does not run: its task holds nothing any more. Should the loop run again after
        all, the task ends at its first step."""
        task = None if self.task is None else self.task()
        if task is None or task.done():
            return
        _forget_in_anyio(task)
        coroutine = task.get_coro()
        for _ in range(_CLEANUPS):
            try:
                coroutine.close()
            except BaseException:  # it waits for something as it ends, which without a loop never comes
                continue
            return

    def how_left(self) -> Reason | None:
        """How its maker left without an answer; None while he is aboard. Under the flight's lock."""
        if self.left is not None:
            return self.left
        seat = None if self.seat is None else self.seat()
        return Reason.CANCELLED if seat is None or seat.is_gone() else None

    def serve(self) -> None:
        """Another call has landed the flight. Whoever made this one, and is aboard, is served, and booked when it ends
        if it was sent. Under the flight's lock."""
        if self.how_left() is None:
            if self.cleared:
                self.served = True
            else:
                self.hand_back()

    def hand_back(self) -> None:
        """Nothing was sent, and its maker is aboard: he books his outcome himself. Under the flight's lock."""
        if self.claim():
            self.handed_back = True

    def step(self, now: float, *, paused: bool) -> bool:
        """It moved; whether something of the answer came. Under the flight's lock."""
        # Sent, then the first read begins; whatever follows says that something came.
        self._steps = 0 if paused else self._steps + 1
        self.paused, self.sent, self.moved, self.has_moved = paused, not paused, now, True
        return self._steps > 2

    def slots_held(self) -> list[int]:
        """The slots of the lease that it holds, or may hold."""
        own = [] if self.slot < 0 else [self.slot]
        return own + self.spare + self.tries

    def wait_for_lease(self, now: float) -> float:
        """Seconds that it has waited for its lease."""
        if self.waiting_since is None:
            self.waiting_since = now
        return now - self.waiting_since

    def slots(self, now: float) -> range:
        """The slots of the lease that it may try by now: its own clock, each further slot after twice as long."""
        waited, end = self.wait_for_lease(now), self.base + 1
        while end < SLOTS and waited >= self.hedge_after * (2**end - 2**self.base):
            end += 1
        return range(self.base, min(end, SLOTS))


def _forget_in_anyio(task: asyncio.Task[None]) -> None:
    # Its table of tasks is weak, but what stands beside a task that waits in a timeout holds the task: each such task,
    # with its loop, its client and its pool, would stay as long as the program lives, and no collector would find it.
    states = getattr(sys.modules.get("anyio._backends._asyncio"), "_task_states", None)
    if isinstance(states, weakref.WeakKeyDictionary):
        states.pop(task, None)
