"""Folding while a process lives: when one of its segments is finished, a thread of ours moves what is there into the
database, unless somebody else does. Only that thread lives here.

Without it a server that nobody asks for a report piles up 4 GB of segments a year.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cachelayer.machine import forks
from cachelayer.machine.interrupts import start_thread


class Background:
    """The folding thread of one folder in this process. Get it with ``background``."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may record something while its thread is in here.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._again = False
        self.stopping = False
        """A fold in the background ends after its batch: somebody wants to close, and will go on himself."""
        self.awaited_until = 0.0
        """Monotonic seconds until which somebody waits for it. Else it works gently."""

    def start(self, fold: Callable[[], object]) -> None:
        """Fold soon. fold must not raise. Returns at once; while a fold runs, another follows it."""
        with self._lock:
            self._again = True
            if self._thread is not None and self._thread.is_alive():
                return
            self._thread = threading.Thread(target=self._run, args=(fold,), name="cachelayer-fold", daemon=True)
            with contextlib.suppress(RuntimeError):  # no more threads, or the program is ending: tried again later
                start_thread(self._thread)

    def _run(self, fold: Callable[[], object]) -> None:
        while True:
            with self._lock:
                if not self._again or self.stopping:
                    self._thread = None
                    return
                self._again = False
            fold()


_of_folder: Final[dict[Path, Background]] = {}


def background(folder: Path) -> Background:
    """The one of a folder in this process."""
    return _of_folder.setdefault(folder, Background())


def _forked() -> None:
    for each in _of_folder.values():
        each.__init__()  # type: ignore[misc]  # the thread, and what it held, is the parent's


forks.in_child(_forked)
