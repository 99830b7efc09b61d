"""Cleaning up that nothing depends on: room is also made when it is needed, and what has expired is never served.

In a running service it happens by itself, once an hour in a folder, by one process of the machine. The file
``maintained`` is empty; its time of change says when the last one began.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cachelayer.core.errors import StoreError
from cachelayer.core.policy import CLOCK_LEEWAY
from cachelayer.machine.interrupts import start_thread
from cachelayer.machine.locks import locked
from cachelayer.stores.local.blobs import BlobFiles
from cachelayer.stores.local.collection import BATCH
from cachelayer.stores.local.measure import Need, measure
from cachelayer.stores.local.rows import clamp_times, column, drop_entry
from cachelayer.stores.local.space import PAGES, Space

_log = logging.getLogger("cachelayer")

FILE = "maintained"
EVERY = 3600.0
"""Seconds from one clean-up of a folder to the next."""
_LOOK_EVERY = 60.0
"""Seconds between two looks at the file."""


class Maintenance:
    """When a process cleans up a folder. A clean-up runs in a thread of its own, and nobody waits for it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._looked = float("-inf")
        self._thread: threading.Thread | None = None

    def run_when_due(self, now: float, clean_up: Callable[[], None]) -> None:
        """Start ``clean_up`` where it is time, and no other process has. now: unix seconds. Never raises."""
        if self._looked <= now < self._looked + _LOOK_EVERY or (self._thread is not None and self._thread.is_alive()):
            return
        self._looked = now
        if self._is_mine(now):
            thread = threading.Thread(target=_run, args=(clean_up,), name="cachelayer-maintenance", daemon=True)
            with suppress(RuntimeError):  # the interpreter is shutting down
                start_thread(thread)
                self._thread = thread

    def _is_mine(self, now: float) -> bool:
        try:
            if not self._is_due(now):
                return False
            with locked(self._file, 0.0):
                if not self._is_due(now):
                    return False
                os.utime(self._file, (now, now))
                return True
        except (OSError, TimeoutError):  # another process is just taking it, or nothing can be written
            return False

    def _is_due(self, now: float) -> bool:
        try:
            status = os.stat(self._file, follow_symlinks=False)
        except FileNotFoundError:
            # A new folder is clean: an hour from now.
            file = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.fchmod(file, 0o600)  # whatever the umask
                os.utime(file, (now, now))
            finally:
                os.close(file)
            return False
        last = status.st_mtime
        due = now - last >= EVERY or last > now + CLOCK_LEEWAY  # by a clock that was ahead
        return due and stat.S_ISREG(status.st_mode)  # opening a planted pipe would wait for ever


def _run(clean_up: Callable[[], None]) -> None:
    try:
        clean_up()
    except StoreError as error:  # of a store that was closed meanwhile, too; the next one comes
        _log.debug("the store was not cleaned up: %s", error)


def clean_up(space: Space, files: BlobFiles, clock: Callable[[], float], go_on: Callable[[], bool]) -> None:
    """After dead writers, entries out of the future and expired ones, blobs without references, free pages, the
    write-ahead log. Many short transactions: writers at work wait for none of them for long.

    go_on: asked between them.
    """
    space.recency.flush()
    space.collector.reclaim()
    for step in (
        lambda: _clamp(space, clock),
        lambda: _expire(space, clock),
        lambda: space.collector.adopt_strays(go_on),
        space.collector.collect_idle,
        lambda: _shrink(space, files),
    ):
        while go_on() and step():
            pass
    space.index.checkpoint()


# Each does a part, and says whether there is more.


def _clamp(space: Space, clock: Callable[[], float]) -> bool:
    with space.index.writing() as sql:
        return clamp_times(sql, clock()) > 0


def _expire(space: Space, clock: Callable[[], float]) -> bool:
    with space.index.writing() as sql:
        keys = column(sql, "SELECT key FROM Entry WHERE expires <= ? LIMIT ?", (clock(), BATCH))
        doomed = [digest for key in keys for digest in drop_entry(space.index, sql, key)]
    space.collector.collect(doomed)
    return len(keys) == BATCH


def _shrink(space: Space, files: BlobFiles) -> bool:
    """Give back free pages that no writer waits for."""
    with space.index.writing() as sql:
        pages = min(measure(sql, files.folder).surplus(Need()), PAGES)
        space.index.give_back(pages)
    return pages > 0
