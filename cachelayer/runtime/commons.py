"""What the Caches of one folder have in common in this process: the tier with its store, the ledger, flights and their
leases, worker threads. Who uses it, and when it is let go of, is decided here; what the parts do is not.

A program may make a Cache per request and close none. So what lies under a Cache is opened once for a folder and its
size_limit (the one setting that a store goes by), and let go of when the last Cache is closed or collected and no
flight is under way any more: an answer that is still being fetched was paid for, and is stored.
"""

from __future__ import annotations

import _thread
import logging
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from cachelayer.ledger.ledger import Ledger
from cachelayer.machine import forks
from cachelayer.machine.interrupts import undisturbed
from cachelayer.runtime import exit as program_end
from cachelayer.runtime.engine import Engine
from cachelayer.runtime.flights import flights_of
from cachelayer.runtime.tier import Tier
from cachelayer.runtime.workers import Workers
from cachelayer.stores.local import LocalStore

_log = logging.getLogger("cachelayer")


class Commons:
    """The parts, and the shares that Caches have in them. As program_end.Closable it is drained when the process ends.

    folder: of the ledger and the leases; not the store's where nothing may be written there.
    disabled: nothing is ever opened, so there is nothing to let go of.
    """

    def __init__(self, folder: Path, tier: Tier, *, disabled: bool = False) -> None:
        self.folder, self.tier, self._disabled = folder, tier, disabled
        self.ledger = Ledger(folder / "ledger")
        self.flights = flights_of(folder)
        self.workers = Workers()
        self.drain_timeout = 0.0
        """Seconds: the longest that one of the Caches waits."""
        self._shares: set[Share] = set()
        self._let_go = False

    def release(self) -> None:
        """Let go of everything now; later calls of all its Caches are BYPASS."""
        for share in list(self._shares):
            engine = None if share.engine is None else share.engine()
            if engine is not None:
                engine.closed = True
        with _lock:
            self._shares.clear()
            self._forget()
        undisturbed(self.close)

    def share(self, drain_timeout: float) -> Share:
        """A share for one more Cache."""
        share = Share(self)
        self._shares.add(share)
        self.drain_timeout = max(self.drain_timeout, drain_timeout)
        return share

    def settle(self) -> None:
        """Let go of everything once no Cache has a share and no flight is under way."""
        self.flights.sweep()  # outside the lock: what it ends may bring us here again
        with _lock:
            if self._shares or self._let_go or not self.flights.after_all_flights(self.settle):
                return
            self._forget()
        self.close()

    def _forget(self) -> None:
        self._let_go = True
        program_end.unregister(self)
        for key in [key for key, commons in _open.items() if commons is self]:
            del _open[key]

    def close(self) -> None:
        """Let go of threads, files and locks. May be called again: what is asked of a closed Cache is written down
        too, as BYPASS, and for that the ledger is opened once more."""
        if self._disabled:
            return
        self.workers.stop()
        for part in (self.tier.close, self.ledger.close, self.flights.let_go):
            try:
                part()
            except Exception as error:
                _log.warning("could not close: %s: %s", type(error).__name__, error)

    def stands(self) -> bool:
        """Whether the store that is open is the one that lies in the folder: it may have been deleted meanwhile."""
        store = self.tier.store
        return not isinstance(store, LocalStore) or store.stands()


class Share:
    """One Cache's share. It is left when the Cache is closed or, where nobody closes it, when its engine ends: wrapped
    clients and flights keep that alive."""

    def __init__(self, commons: Commons) -> None:
        self.commons = commons
        self.engine: weakref.ref[Engine] | None = None

    def serve(self, engine: Engine) -> None:
        """The share is this engine's."""
        self.engine = weakref.ref(engine)
        ended = weakref.finalize(engine, _engine_ended, self, engine.late)
        ended.atexit = False  # the drain at the end of the process closes all

    def leave(self) -> None:
        """Idempotent."""
        self.commons._shares.discard(self)
        self.commons.settle()


def share_of(path: Path, size_limit: int, open_tier: Callable[[], tuple[Tier, Path]], *, drain_timeout: float) -> Share:
    """A share for one more Cache of a folder, however the folder is spelled.

    open_tier: opens the tier, when no other Cache has; also says where ledger and leases are to lie. Somewhere else
    than in ``path`` they are this one Cache's.
    """
    key = (os.path.realpath(path), size_limit)
    with _lock:
        commons = _open.get(key)
        if commons is not None and commons.stands():
            return commons.share(drain_timeout)
    tier, folder = open_tier()  # outside the lock: it may wait for another process
    with _lock:
        faster = _open.get(key)
        if faster is None or faster is commons or folder != path:
            mine = Commons(folder, tier)
            program_end.register(mine)
            if folder == path:
                _open[key] = mine
            return mine.share(drain_timeout)
        share = faster.share(drain_timeout)
    tier.close()
    return share


def _engine_ended(share: Share, late: list[bool]) -> None:
    def leave() -> None:
        share.leave()
        if late[0] and share.commons._let_go:
            share.commons.close()

    if share not in share.commons._shares and not late[0]:
        return
    # The collector may bring us here in the middle of anything, whatever locks this thread holds. Not threading.Thread,
    # whose start takes one of its own.
    try:
        _thread.start_new_thread(leave, ())
    except RuntimeError:  # the interpreter is ending
        pass


_open: dict[tuple[str, int], Commons] = {}
_lock = threading.Lock()


def _forget_lock_after_fork() -> None:
    global _lock
    _lock = threading.Lock()


forks.in_child(_forget_lock_after_fork)
