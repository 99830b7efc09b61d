"""One caller who waits for a flight, and how a thread or a task that waits is woken.

What he is told is decided in flight.py.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from cachelayer.runtime.call import Call

if TYPE_CHECKING:
    from cachelayer.runtime.flight import Flight


class Seat:
    """One caller who waits for a flight.

    read_timeout: his own, seconds, None: he waits for ever. hedge_after: seconds of silence after which he makes a call
    of his own.
    """

    def __init__(
        self,
        credential: bytes,
        loop: asyncio.AbstractEventLoop | None,
        *,
        read_timeout: float | None,
        hedge_after: float,
    ) -> None:
        self.credential, self.read_timeout, self.hedge_after = credential, read_timeout, hedge_after
        self.flight: Flight | None = None
        self.call: Call | None = None
        """The one that he made."""
        self.boarded = time.monotonic()
        self.taken = False
        """He has his answer, or left."""
        self.wake: Callable[[], None] = lambda: None
        self._in_thread = loop is None
        self._loop = None if loop is None else weakref.ref(loop)

    def is_gone(self) -> bool:
        """He can never take anything: his event loop was closed, or is gone."""
        loop = None if self._loop is None else self._loop()
        return not self._in_thread and (loop is None or loop.is_closed())

    def waits(self) -> bool:
        """Whether he waits now: in a thread, or in a loop that runs."""
        loop = None if self._loop is None else self._loop()
        return self._in_thread or (loop is not None and loop.is_running())

    def books_himself(self) -> bool:
        """Whether his outcome is his own to book. He reads only what is his: needs no lock."""
        return self.call is None or self.call.handed_back


class Bell:
    """Wakes one thread. A bare lock, since an exception out of a signal handler may leave that of a Condition held."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake it, now or when it comes to wait."""
        try:
            self._lock.release()
        except RuntimeError:  # rung already
            return

    def wait(self, timeout: float) -> None:
        """Until it rings, or timeout seconds have passed."""
        self._lock.acquire(timeout=timeout)


def waker(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> Callable[[], None]:
    """Wakes whoever awaits a future, from any thread."""

    def tell() -> None:
        try:
            loop.call_soon_threadsafe(wake, future)
        except RuntimeError:  # that reader's loop is closed
            return

    return tell


def wake(future: asyncio.Future[None]) -> None:
    """In its loop."""
    if not future.done():
        future.set_result(None)
