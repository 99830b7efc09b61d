"""A tier, as the runtime uses it: a store that may fail and never breaks the call.

Every failure ends as "not there", one warning per kind, and a count. After a few failures in a row the tier is left
alone for a while (a circuit breaker): reads and writes apart, for a full disk still serves hits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from cachelayer.core.errors import NoRoom
from cachelayer.core.reasons import Reason
from cachelayer.machine.interrupts import came_from_a_handler
from cachelayer.runtime.log import logger
from cachelayer.stores.base import NONE, Evicted, Store

T = TypeVar("T")


TRIES = 3
"""Failures in a row after which the breaker opens."""
REST = 10.0
"""Seconds for which an open breaker keeps calls away; one call then tries again."""


class _Breaker:
    def __init__(self, clock: Callable[[], float], *, resting: bool = False) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = TRIES if resting else 0
        self._rest_until = clock() + REST

    def allows(self) -> bool:
        # Unlocked on the way of every hit: a fork meanwhile would leave the child a held lock.
        if self._failures < TRIES:
            return True
        with self._lock:
            now = self._clock()
            if now < self._rest_until:
                return False
            # This call tries. The others rest on: a tier that hangs would hold up every one of them.
            self._rest_until = now + REST
            return True

    def succeeded(self) -> None:
        if self._failures:  # unlocked on the way of every hit: a failure that comes just now is counted after us
            with self._lock:
                self._failures = 0

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            self._rest_until = self._clock() + REST


class Tier:
    """A store behind its breakers. store None: the tier could not be opened, and is not there.

    reopen: how to open it again; what keeps a store from being opened (a full disk, a folder that is not mounted yet)
    may pass while a program runs. None: it stays as it is. clock: seconds that never go back.
    """

    def __init__(
        self,
        name: str,
        store: Store | None,
        *,
        reopen: Callable[[], Store] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.store = name, store
        self._reopen = reopen
        self._closed = False
        self._openings = _Breaker(clock, resting=True)
        self.failures = 0
        """Calls that failed, those kept away by the breaker not counted."""
        self.on_failure: Callable[[str, Exception], None] = lambda what, error: None
        """Told of each of them: "read the local tier", and what was raised."""
        self._reads, self._writes = _Breaker(clock), _Breaker(clock)
        self._lock = threading.Lock()
        self._warned: set[str] = set()

    def get(self, key: str) -> bytes | None:
        """The record, None when there is none or the tier cannot tell."""
        return self._try(self._reads, "read", lambda store: store.get(key))

    def read_blob(self, digest: str, buffer: memoryview, start: int = 0) -> int | None:
        """Fill a buffer with a blob's bytes from ``start`` on; how many there were, None when there is no blob or the
        tier cannot tell."""
        return self._try(self._reads, "read", lambda store: store.read_blob(digest, buffer, start))

    def put(
        self, key: str, record: bytes, blobs: Mapping[str, bytes], *, canonical: bytes, expires: float | None
    ) -> str | None:
        """None: kept. Else the reason: ``tier-down`` or ``no-room``."""

        def write(store: Store) -> str | None:
            try:
                store.put(key, record, blobs, canonical=canonical, expires=expires)
            except NoRoom as error:
                # Not a failure of the tier: another, smaller answer may fit.
                self._warn("store", error)
                return Reason.NO_ROOM
            return "kept"

        self._open_again()
        outcome = self._try(self._writes, "write", write)
        return None if outcome == "kept" else outcome or Reason.TIER_DOWN

    def take_evicted(self) -> Evicted:
        """What the store had to drop for room, told once."""
        store = self.store
        return NONE if store is None else store.take_evicted()

    def close(self) -> None:
        """Close the store, if there is one, for good. Raises what the store raises."""
        with self._lock:
            self._closed = True
            store = self.store
        if store is not None:
            store.close()

    def _open_again(self) -> None:
        """Try to open a store that could not be opened. Only on the way of a write: opening may wait for others, and a
        write is in a flight, for which a caller waits no longer than HANDOVER_WAIT."""
        if self.store is not None or self._reopen is None or self._closed or not self._openings.allows():
            return
        try:
            store = self._reopen()
        except Exception:  # whoever opened it first has said why
            self._openings.failed()
            return
        with self._lock:
            wanted = not self._closed
            if wanted:
                self.store = store
        if wanted:
            logger.info("the %s tier is there again", self.name)
        else:
            store.close()

    def _try(self, breaker: _Breaker, verb: str, call: Callable[[Store], T | None]) -> T | None:
        if self.store is None or not breaker.allows():
            return None
        try:
            result = call(self.store)
        except Exception as error:  # whatever a store may raise, the call goes on without it
            if came_from_a_handler(error):
                raise
            breaker.failed()
            with self._lock:
                self.failures += 1
            self._warn(verb, error)
            self.on_failure(f"{verb} the {self.name} tier", error)
            return None
        breaker.succeeded()
        return result

    def _warn(self, verb: str, error: Exception) -> None:
        kind = f"{verb} {type(error).__name__}"
        with self._lock:
            if kind in self._warned:
                return
            self._warned.add(kind)
        logger.warning(
            "the %s tier cannot %s (%s: %s); requests are forwarded without it",
            self.name,
            verb,
            type(error).__name__,
            error,
        )
