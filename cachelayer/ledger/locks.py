"""Which processes of a ledger are alive, and who may fold. Only the meaning of its locks lives here.

``segments.lock`` is a lock file (machine/locks.py). Each process that writes holds ONE byte of it for as long as it
lives (or has closed the ledger, with no call under way), at the offset that its name spells; its segments and calls
bear that name. Names are random and never used again.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from cachelayer.machine import forks
from cachelayer.machine.interrupts import keep
from cachelayer.machine.locks import LockFile, guard

T = TypeVar("T")

FILE: Final = "segments.lock"
_FOLD_BYTE: Final = 2**62
"""Offset of the byte that a folding process holds; names (60 bits) never reach it."""

# Of this process, whatever the folder: an fcntl lock does not say "held by you", so we have to remember. Under guard.
_own: set[str] = set()


class Owner:
    """This process as a writer in one folder: its name, and the byte that says that it lives."""

    def __init__(self, folder: Path) -> None:
        """Under ``guard``. Raises OSError."""
        self._file = LockFile.use(folder / FILE)
        try:
            self.name = f"{secrets.randbits(60):015x}"
            while not self._file.try_lock(int(self.name, 16)):
                self.name = f"{secrets.randbits(60):015x}"
            _own.add(self.name)
        except OSError:
            self._file.leave()
            raise

    def leave(self) -> None:
        """What bears the name will not grow any more. Under ``guard``, once."""
        _own.discard(self.name)
        self._file.unlock(int(self.name, 16))
        self._file.leave()


class Folding:
    """The right to fold a folder's segments, held against all other processes."""

    def __init__(self, file: LockFile) -> None:
        self._file = file

    def is_dead(self, name: str) -> bool:
        """Whether nothing will be written any more under a name that was seen in the folder."""
        with guard:
            if name in _own or not self._file.try_lock(int(name, 16)):
                return False
            self._file.unlock(int(name, 16))
            return True


# fcntl locks do not hold among threads. Replaced in a forked child, whose copy may be held by a thread that
# it does not have.
_fold_lock = threading.Lock()
_folder_thread: int | None = None
"""Which thread has the lock."""


def fold_alone(folder: Path, work: Callable[[Folding], T], *, wait_here: float, wait: float) -> T | None:
    """What ``work`` returns, done with the right to fold; None when another thread of ours has not given it up within
    ``wait_here`` seconds, or another process within ``wait``. Raises OSError in a read-only folder.

    No context manager: one that is interrupted while it enters is left only when its traceback is forgotten.
    """
    global _folder_thread
    if _folder_thread == threading.get_ident():
        return None  # a signal handler, in the middle of our own fold
    lock, got, files = _fold_lock, list[bool](), list[LockFile]()
    try:
        keep(got, lock.acquire, True, wait_here)
        if not got[0]:
            return None
        _folder_thread = threading.get_ident()
        with guard:
            keep(files, LockFile.use, folder / FILE)
        until = time.monotonic() + wait
        # Not a blocking lock: a process that was stopped while it folds would stop us too.
        while not (ours := files[0].try_lock(_FOLD_BYTE)) and time.monotonic() < until:
            time.sleep(0.005)
        return work(Folding(files[0])) if ours else None
    finally:
        if got and got[0]:
            _folder_thread = None
            # Whether the byte was locked may be lost in an interrupt. No other thread of ours has it now.
            try:
                with guard:
                    while files:
                        file = files.pop()
                        file.unlock(_FOLD_BYTE)
                        file.leave()
            finally:
                lock.release()


def _forked() -> None:
    global _fold_lock, _folder_thread
    _fold_lock, _folder_thread = threading.Lock(), None
    _own.clear()


forks.in_child(_forked)
