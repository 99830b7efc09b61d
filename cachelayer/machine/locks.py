"""Locks among the processes of a machine: byte ranges of a lock file, and a whole file for a moment. What a byte means
is its owner's business: a lease, a living writer, the right to fold.

A byte-range lock (fcntl.lockf) belongs to the process: it is free at the moment of its SIGKILL, a forked child does not
inherit it, it knows no process ids, which come back and mean nothing in another container, and it costs 2 us. Its one
trap: closing ANY descriptor of the file drops every lock that the process has on it. So a process opens such a file
once, whoever uses it and however its path is spelled, and closes it when the last user has left, who has given back
his locks before.

An exception out of a signal handler (Ctrl-C, an alarm) may strike wherever the interpreter looks for signals: after
every call. So what is acquired goes into a list within the call, what is let go of is first forgotten and then closed,
and a lost moment leaves something open at worst, never something closed that is taken for open.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from cachelayer.machine import forks
from cachelayer.machine.files import Identity, identity
from cachelayer.machine.interrupts import close_all, keep

try:
    import fcntl
except ImportError:  # not Linux or macOS
    fcntl = None  # type: ignore[assignment]

# Of this process, whatever the file. Reentrant, as a signal handler may make a request of its own while its thread is
# in here.
guard = threading.RLock()
_files: dict[Identity, LockFile] = {}
"""One that holds no descriptor is closed."""
_never_closed: list[int] = []


def are_had() -> bool:
    """Whether this platform has locks among processes. Where it has none, every lock is had at once."""
    return fcntl is not None


class LockFile:
    """The one descriptor of a lock file in this process, shared by all who use it. The file stays empty.

    An fcntl lock does not say "held by you": two users in one process see to it themselves that they ask for different
    bytes, or in turn. Get it with `use`.
    """

    def __init__(self, held: list[int], file: Identity) -> None:
        self._held, self._users = held, 0
        self.identity = file

    @staticmethod
    def use(path: Path) -> LockFile:
        """Open it, or share it; it is made where it is missing. Every use ends with `leave`. Raises OSError."""
        with guard:
            with contextlib.suppress(FileNotFoundError):
                # Looked up by inode BEFORE opening: closing a second descriptor would drop every lock.
                file = identity(os.lstat(path))
                # No call from the question to the count: a signal handler that closes would come in between.
                if file in _files and _files[file]._held:
                    found = _files[file]
                    found._users += 1
                    return found
            held: list[int] = []
            keep(held, os.open, path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with contextlib.suppress(PermissionError):
                os.fchmod(held[0], 0o600)  # whatever the umask; another user's file is as he made it
            file = identity(os.fstat(held[0]))
            new = LockFile(held, file)
            if file not in _files or not _files[file]._held:
                _files[file] = new
            found = _files[file]
            found._users += 1
            if found is not new:
                _never_closed.extend(held)  # a signal handler has opened it too; closing ours would drop its locks
            return found

    def leave(self) -> None:
        """This user's locks were given back, and he is done. Not twice."""
        with guard:
            self._users -= 1
            if not self._users:
                held, self._held = self._held, []
                close_all(held)

    def is_removed(self) -> bool:
        """The file has no name any more: its locks are shared with nobody who comes later. Raises OSError."""
        return not os.fstat(self._held[0]).st_nlink

    def try_lock(self, offset: int) -> bool:
        """Whether this process has the lock on one byte now; it may have had it before. Raises OSError."""
        if not are_had():
            return True
        try:
            fcntl.lockf(self._held[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def unlock(self, offset: int) -> None:
        """Give back the lock on one byte; without effect where it is not held. Raises OSError."""
        if are_had():
            fcntl.lockf(self._held[0], fcntl.LOCK_UN, 1, offset)

    def _forked(self) -> None:
        # Closing our copy drops no lock: those of the parent are the parent's.
        close_all(self._held)


@contextlib.contextmanager
def locked(path: Path, wait: float) -> Iterator[None]:
    """Hold a whole file against all other threads and processes, for as long as a `with` lasts.

    By flock: a byte range would not keep the threads of one process apart. A child that is forked meanwhile holds the
    same lock, so it is given back by name, not by closing. Raises TimeoutError when it was not had within `wait`
    seconds; OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        deadline = time.monotonic() + wait
        while not _try_flock(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} has been locked for {wait:g} s")
            time.sleep(0.005)
        try:
            yield
        finally:
            if are_had():
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _try_flock(descriptor: int) -> bool:
    if not are_had():
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _forked() -> None:
    for file in list(_files.values()):
        file._forked()
    _files.clear()


# First the guard is released, then all begins anew: `_forked` may be interrupted, and nobody else is in the child.
forks.hold(guard)
forks.in_child(_forked)
