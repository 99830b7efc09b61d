"""Which processes of a ledger are alive, and who may fold. Only the locks live here.

``segments.lock`` is never written. Each process that writes holds an fcntl lock on ONE byte of it for as long as it
lives (or has closed the ledger, with no call under way), at the offset that its name spells; its segments and calls
bear that name. Such locks are free at SIGKILL, are not inherited by a forked child and know no pids, so that none can
be reused. Rejected: flock (a forked child keeps it alive), a pid in the name (pids come back). Their one trap is that
closing any descriptor of the file drops all locks of the process: a process opens it once, and closes it only while it
holds no lock of it.

An exception out of a signal handler (Ctrl-C, an alarm) may strike wherever the interpreter looks for signals: after
every call. So what a call acquires goes into a list WITHIN the call (``keep``), what is let go of is first forgotten
and then closed, and a lost moment leaves something open at worst, never something closed that is taken for open.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")

FILE: Final = "segments.lock"
_FOLD_BYTE: Final = 2**62
"""Offset of the byte that a folding process holds; names (60 bits) never reach it."""

# Of this process, whatever the folder: an fcntl lock does not say "held by you", so we have to remember.
# Reentrant, as a signal handler may make a request of its own while its thread is in here.
guard = threading.RLock()
_own: set[str] = set()
_files: dict[tuple[int, int], _LockFile] = {}
"""By device and inode; one that holds no descriptor is closed."""
_never_closed: list[int] = []


def keep(held: list[T], call: Callable[..., T], *arguments: Any) -> None:
    """Call, and put what comes back into a list, with no moment between in which an exception out of a signal handler
    would lose it."""
    held.extend(map(call, *((argument,) for argument in arguments)))


def close_all(held: list[int]) -> None:
    """Close descriptors that ``keep`` has put into a list, each once."""
    while held:
        descriptor = held[-1]
        del held[-1]
        os.close(descriptor)


class _LockFile:
    """The one descriptor of a ``segments.lock`` in this process, shared by all who hold a lock of it."""

    def __init__(self, held: list[int]) -> None:
        self._held = held
        self._users = 0

    @staticmethod
    def use(folder: Path) -> _LockFile:
        """Open it, or share it. Every use ends with ``leave``. Under ``guard``; raises OSError."""
        path = folder / FILE
        with contextlib.suppress(FileNotFoundError):
            # Looked up by inode BEFORE opening: closing a second descriptor would drop every lock.
            status = path.stat()
            inode = (status.st_dev, status.st_ino)
            # No call from the question to the count: a signal handler that closes would come in between.
            if inode in _files and _files[inode]._held:
                found = _files[inode]
                found._users += 1
                return found
        held: list[int] = []
        keep(held, os.open, path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        status = os.fstat(held[0])
        inode = (status.st_dev, status.st_ino)
        new = _LockFile(held)
        if inode not in _files or not _files[inode]._held:
            _files[inode] = new
        found = _files[inode]
        found._users += 1
        if found is not new:
            _never_closed.extend(held)  # a signal handler has opened it too, and closing ours would drop its locks
        return found

    def leave(self) -> None:
        """Under ``guard``, after the user's locks were given back, and not twice."""
        self._users -= 1
        if not self._users:
            held, self._held = self._held, []
            close_all(held)

    def forked(self) -> None:
        # Closing our copy drops no lock: those of the parent are the parent's.
        close_all(self._held)

    def try_lock(self, offset: int) -> bool:
        try:
            fcntl.lockf(self._held[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def unlock(self, offset: int) -> None:
        fcntl.lockf(self._held[0], fcntl.LOCK_UN, 1, offset)


class Owner:
    """This process as a writer in one folder: its name, and the byte that says that it lives."""

    def __init__(self, folder: Path) -> None:
        """Under ``guard``. Raises OSError."""
        self._file = _LockFile.use(folder)
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

    def __init__(self, file: _LockFile) -> None:
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
    lock, got, files = _fold_lock, list[bool](), list[_LockFile]()
    try:
        keep(got, lock.acquire, True, wait_here)
        if not got[0]:
            return None
        _folder_thread = threading.get_ident()
        with guard:
            keep(files, _LockFile.use, folder)
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


_in_child: list[Callable[[], None]] = []


def at_fork(call: Callable[[], None]) -> None:
    """Have a call made in each forked child, under ``guard``, after its locks were put right."""
    _in_child.append(call)


def _forked() -> None:
    global _fold_lock, _folder_thread
    _fold_lock, _folder_thread = threading.Lock(), None
    try:
        for file in _files.values():
            file.forked()
        _own.clear()
        _files.clear()
        for call in _in_child:
            call()
    finally:
        guard.release()


os.register_at_fork(before=guard.acquire, after_in_parent=guard.release, after_in_child=_forked)
