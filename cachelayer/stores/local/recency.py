"""When entries were last used: kept in memory, written in small batches off the hit path. Only that lives here.

A hit must not write (a write per hit costs three times the hit, and serialises readers). What is not yet written when
a process is killed is lost; the entry is then merely as old as it was.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from cachelayer.core.errors import StoreError
from cachelayer.machine.interrupts import start_thread
from cachelayer.machine.sqlite import ERRORS

BATCH = 100
"""Keys written in one transaction: 3-7 ms with the write lock held at a million entries (FLIGHT-FACTS)."""


class Recency:
    """Uses that are not in the index yet. Safe for threads."""

    def __init__(self, writing: Callable[[], AbstractContextManager[sqlite3.Connection]]) -> None:
        self._writing = writing
        self._used: dict[str, float] = {}
        self._flusher: threading.Thread | None = None

    def note(self, key: str, now: float) -> None:
        """Remember a use. When BATCH keys have come together, a short-lived thread writes them."""
        self._used[key] = now
        if len(self._used) >= BATCH and self._flusher is None:
            self._flusher = threading.Thread(target=self._flush_in_thread, name="cachelayer-recency", daemon=True)
            with suppress(RuntimeError):  # the interpreter is shutting down: close() writes them
                start_thread(self._flusher)

    def write(self, sql: sqlite3.Connection) -> None:
        """Write up to BATCH uses in the caller's transaction."""
        batch: list[tuple[float, str, float]] = []
        with suppress(KeyError):  # empty
            while len(batch) < BATCH:
                key, used = self._used.popitem()
                batch.append((used, key, used))
        if batch:
            sql.executemany("UPDATE Entry SET used = ? WHERE key = ? AND used < ?", batch)

    def flush(self) -> None:
        """Write all uses, a batch to a transaction."""
        while self._used:
            with self._writing() as sql:
                self.write(sql)

    def stop(self) -> None:
        """Wait for the thread, then write the rest."""
        flusher = self._flusher
        if flusher is not None and flusher.is_alive():
            flusher.join()
        self.flush()

    def _flush_in_thread(self) -> None:
        try:
            self.flush()
        except (StoreError, OSError, *ERRORS):
            self._used.clear()  # a disk that cannot be written must not cost memory, nor a thread per hit
        finally:
            self._flusher = None
