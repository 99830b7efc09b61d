"""Layers that any store may lie under: a Store that wraps one, and changes when it is asked, not what it says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from cachelayer.core.entry import Take, Version
from cachelayer.core.errors import NoRoom, StoreError
from cachelayer.machine.interrupts import came_from_a_handler
from cachelayer.stores.base import NONE, Contents, Damaged, Evicted, Head, Parcel, Sizes, Store

T = TypeVar("T")

TRIES = 3
"""Failures in a row after which a breaker opens."""
REST = 10.0
"""Seconds for which an open breaker keeps calls away; one call then tries again."""


class Resting(StoreError):
    """The tier is left alone for a while, or is not there. Nobody was asked: no failure of its own."""


class Gate:
    """Lets calls through until TRIES of them have failed in a row; then one after each REST."""

    def __init__(self, clock: Callable[[], float], *, resting: bool = False) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = TRIES if resting else 0
        self._rest_until = clock() + REST

    def pass_through(self) -> None:
        """Raises Resting where it is shut."""
        # Unlocked on the way of every hit: a fork meanwhile would leave the child a held lock.
        if self._failures < TRIES:
            return
        with self._lock:
            now = self._clock()
            if now < self._rest_until:
                raise Resting("left alone for a while")
            # This call tries. The others rest on: a tier that hangs would hold up every one of them.
            self._rest_until = now + REST

    def succeeded(self) -> None:
        """What went through has come back."""
        if self._failures:  # unlocked on the way of every hit: a failure that comes just now is counted after us
            with self._lock:
                self._failures = 0

    def failed(self) -> None:
        """What went through has failed."""
        with self._lock:
            self._failures += 1
            self._rest_until = self._clock() + REST

    def run(self, call: Callable[..., T], *arguments: object) -> T:
        """The result of a call through the gate."""
        self.pass_through()
        try:
            result = call(*arguments)
        except NoRoom:  # of a store that works: another, smaller answer may fit
            self.succeeded()
            raise
        except Exception as error:
            if not came_from_a_handler(error):
                self.failed()
            raise
        self.succeeded()
        return result


class Breaker:
    """Leaves a store alone for a while after a few failures in a row: reads and writes apart, for a full disk still
    serves hits. Only what stands on a caller's way goes through the gates."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds that never go back."""
        self._store = store
        self._reads, self._writes = Gate(clock), Gate(clock)

    def fetch(self, key: str) -> Parcel | Damaged | None:
        found = self._reads.run(self._store.fetch, key)
        if isinstance(found, Parcel):
            return Parcel(found.key, found.record, _GatedContents(found.contents, self._reads), found.version)
        return found

    def put(self, parcel: Parcel, *, expires: float | None = None, replace: Version | None = None) -> bool:
        return self._writes.run(lambda: self._store.put(parcel, expires=expires, replace=replace))

    def delete(self, keys: Iterable[str]) -> int:
        return self._store.delete(keys)

    def heads(self, prefix: str = "") -> Iterator[Head]:
        return self._store.heads(prefix)

    def sizes(self) -> Sizes:
        return self._store.sizes()

    def take_evicted(self) -> Evicted:
        return self._store.take_evicted()

    def close(self) -> None:
        self._store.close()


class _GatedContents:
    __slots__ = ("_contents", "_reads")

    def __init__(self, contents: Contents, reads: Gate) -> None:
        self._contents, self._reads = contents, reads

    def pour(self, digest: str, buffer: memoryview, take: Take) -> bool:
        return self._reads.run(self._contents.pour, digest, buffer, take)

    def blob(self, digest: str) -> bytes | None:
        return self._reads.run(self._contents.blob, digest)

    def canonical(self) -> bytes | None:
        return self._reads.run(self._contents.canonical)


class Reopening:
    """A store that could not be opened, and is tried again: what keeps it from being opened (a full disk, a folder that
    is not mounted yet) may pass while a program runs. Until then every call raises Resting."""

    def __init__(
        self,
        reopen: Callable[[], Store],
        *,
        on_open: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """on_open: told once, when it is there. clock: seconds that never go back."""
        self._reopen, self._on_open = reopen, on_open
        self._store: Store | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._openings = Gate(clock, resting=True)

    @property
    def opened(self) -> Store | None:
        """The store, once it is there."""
        return self._store

    def fetch(self, key: str) -> Parcel | Damaged | None:
        return self._there().fetch(key)

    def put(self, parcel: Parcel, *, expires: float | None = None, replace: Version | None = None) -> bool:
        self._open_again()
        return self._there().put(parcel, expires=expires, replace=replace)

    def delete(self, keys: Iterable[str]) -> int:
        return self._there().delete(keys)

    def heads(self, prefix: str = "") -> Iterator[Head]:
        return self._there().heads(prefix)

    def sizes(self) -> Sizes:
        return self._there().sizes()

    def take_evicted(self) -> Evicted:
        return NONE if self._store is None else self._store.take_evicted()

    def close(self) -> None:
        """For good: it is not opened again."""
        with self._lock:
            self._closed = True
        if self._store is not None:
            self._store.close()

    def _there(self) -> Store:
        if self._store is None:
            raise Resting("it could not be opened")
        return self._store

    def _open_again(self) -> None:
        # Only on the way of a write: opening may wait for others, and a write is in a flight, for which a caller waits
        # no longer than HANDOVER_WAIT.
        if self._store is not None or self._closed:
            return
        self._openings.pass_through()
        try:
            store = self._reopen()
        except Exception as error:
            if came_from_a_handler(error):
                raise
            self._openings.failed()
            raise Resting("it could not be opened") from None  # whoever opened it first has said why
        with self._lock:
            wanted = not self._closed
            if wanted:
                self._store = store
        if wanted:
            self._on_open()
        else:
            store.close()
