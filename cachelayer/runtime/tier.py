"""A tier, as the runtime uses it: a store that may fail and never breaks the call. Here a store's exceptions end, and
nowhere else: each is one warning per kind, a count, and "not there"."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from cachelayer.core.entry import Take, Version
from cachelayer.core.errors import NoRoom
from cachelayer.core.reasons import Reason
from cachelayer.machine.interrupts import let_through
from cachelayer.runtime.log import logger
from cachelayer.stores.base import NONE, Contents, Damaged, Evicted, Parcel, Store
from cachelayer.stores.layers import Breaker, Reopening, Resting

T = TypeVar("T")


class Tier:
    """A store in its layers. store None: it could not be opened, and is not there.

    reopen: how to open it again. None: it stays as it is. clock: seconds that never go back.
    """

    def __init__(
        self,
        name: str,
        store: Store | None,
        *,
        reopen: Callable[[], Store] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._given = store
        self._reopening: Reopening | None = None
        if store is None and reopen is not None:
            self._reopening = Reopening(reopen, on_open=self._say_that_it_is_there, clock=clock)
        under = store or self._reopening
        self._layers = None if under is None else Breaker(under, clock=clock)
        self.failures = 0
        """Calls that failed; those that were kept away, because the store is left alone, are not counted."""
        self.on_failure: Callable[[str, Exception], None] = lambda what, error: None
        """Told of each of them: "read the local tier", and what was raised."""
        self._lock = threading.Lock()
        self._warned: set[str] = set()

    @property
    def store(self) -> Store | None:
        """The store itself, for who wants to know what it holds; None as long as it is not there."""
        return self._reopening.opened if self._reopening is not None else self._given

    def fetch(self, key: str) -> Parcel | Damaged | None:
        """What lies under a key; None when nothing does or the tier cannot tell; likewise its contents."""
        if self._layers is None:
            return None
        found = self._try("read", self._layers.fetch, key)
        if not isinstance(found, Parcel):
            return found
        return Parcel(found.key, found.record, _SafeContents(self, found.contents), found.version)

    def put(self, parcel: Parcel, *, expires: float | None = None, replace: Version | None = None) -> bool | Reason:
        """True: kept. False: another entry is there. Else why not: ``tier-down`` or ``no-room``."""
        layers = self._layers
        if layers is None:
            return Reason.TIER_DOWN

        def write() -> bool | Reason:
            try:
                return layers.put(parcel, expires=expires, replace=replace)
            except NoRoom as error:
                self._warn("store", error)
                return Reason.NO_ROOM

        outcome = self._try("write", write)
        return Reason.TIER_DOWN if outcome is None else outcome

    def take_evicted(self) -> Evicted:
        """What the store had to drop for room, told once."""
        return NONE if self._layers is None else self._layers.take_evicted()

    def close(self) -> None:
        """Close the store, if there is one, for good. Raises what the store raises."""
        if self._layers is not None:
            self._layers.close()

    def _try(self, verb: str, call: Callable[..., T], *arguments: object) -> T | None:
        try:
            return call(*arguments)
        except Resting:
            return None
        except Exception as error:  # whatever a store may raise, the call goes on without it
            let_through(error)
            with self._lock:
                self.failures += 1
            self._warn(verb, error)
            self.on_failure(f"{verb} the {self.name} tier", error)
            return None

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

    def _say_that_it_is_there(self) -> None:
        logger.info("the %s tier is there again", self.name)


class _SafeContents:
    """Contents that are not there where the tier cannot tell."""

    __slots__ = ("_contents", "_tier")

    def __init__(self, tier: Tier, contents: Contents) -> None:
        self._tier, self._contents = tier, contents

    def pour(self, digest: str, buffer: memoryview, take: Take) -> bool:
        return self._tier._try("read", self._contents.pour, digest, buffer, take) or False

    def blob(self, digest: str) -> bytes | None:
        return self._tier._try("read", self._contents.blob, digest)

    def canonical(self) -> bytes | None:
        return self._tier._try("read", self._contents.canonical)
