"""Failures of our own, counted so that a store that fails at every call does not fill the disk with lines. No I/O."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cachelayer.ledger.lines import Fault
from cachelayer.machine import forks

EVERY: Final = 60.0
"""Seconds between two lines of one kind."""
_KINDS: Final = 1_000
"""Kinds that are told apart."""


class Faults:
    """What is counted and not written yet, in one folder of this process. Get it with ``faults``."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may fail while its thread is in here.
        self._lock = threading.RLock()
        self._waiting: dict[tuple[str, str], int] = {}
        self._next: dict[tuple[str, str], float] = {}

    def add(self, what: str, error: str, *, now: float) -> tuple[str, str] | None:
        """Count a failure; its kind when it is time to write that down. now: seconds that never go back."""
        kind = (what, error)
        with self._lock:
            if kind not in self._next and len(self._next) >= _KINDS:
                kind = ("others", "")
            self._waiting[kind] = self._waiting.get(kind, 0) + 1
            if now < self._next.get(kind, now):
                return None
            self._next[kind] = now + EVERY
            return kind

    def take(self, at: float, write: Callable[[Fault], None], only: tuple[str, str] | None = None) -> None:
        """Write down what waits; what cannot be written goes on waiting. Raises what write raises."""
        for kind in list(self._waiting) if only is None else [only]:
            with self._lock:
                count = self._waiting.pop(kind, 0)
            if not count:
                continue
            try:
                write(Fault(at, *kind, count))
            except BaseException:
                with self._lock:
                    self._waiting[kind] = self._waiting.get(kind, 0) + count
                raise

    def waiting(self) -> int:
        """How many are not written yet."""
        return sum(list(self._waiting.values()))


_of_folder: Final[dict[Path, Faults]] = {}


def faults(folder: Path) -> Faults:
    """Those of a folder in this process."""
    return _of_folder.setdefault(folder, Faults())


def _forked() -> None:
    for each in _of_folder.values():
        each.__init__()  # type: ignore[misc]  # what the parent has counted, the parent writes


forks.in_child(_forked)
