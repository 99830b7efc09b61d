"""Segments: the append-only files, one per process at a time, in which outcomes are first written down.

Only what touches segment files and the lock that tells living writers from dead ones may live here.

``segments.lock`` is never written. Each living writer holds an fcntl lock on ONE byte of it, at the offset
that its segment's name spells. Such locks are free at SIGKILL, are not inherited by a forked child and know
no pids, so that none can be reused. Rejected: flock (a forked child keeps it alive), a pid in the name
(pids come back). Their one trap is that closing any descriptor of the file drops all locks of the process:
a process opens it once, and closes it only while it holds no lock of it.

Order of birth: lock the byte, then create the file, so that whoever sees a segment whose byte is free knows
it dead.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

ROTATE_AT: Final = 8_000_000
"""Bytes. A segment that has reached this is left for folding, and its writer starts another one."""

_NAME = re.compile(r"([0-9a-f]{15})\.segment")
_FOLD_BYTE: Final = 2**62
"""Offset of the byte that a folding process holds; segment names (60 bits) never reach it."""

# fdatasync is not there on macOS.
_sync = getattr(os, "fdatasync", os.fsync)

# All of this process, whatever the folder: an fcntl lock does not say "held by you", so we have to remember.
# Reentrant, as a signal handler may make a request of its own while its thread is in here.
_guard = threading.RLock()
_own: set[str] = set()
_lock_files: dict[tuple[int, int], _LockFile] = {}
_writers: dict[Path, Writer] = {}


class _LockFile:
    """The one descriptor of a ``segments.lock`` in this process, shared by all who hold a lock of it."""

    def __init__(self, fd: int, inode: tuple[int, int]) -> None:
        self._fd = fd
        self._inode = inode
        self._users = 0

    @staticmethod
    def use(folder: Path) -> _LockFile:
        """Open it, or share it. Every use ends with ``leave``. Under ``_guard``; raises OSError."""
        path = folder / "segments.lock"
        found = None
        with contextlib.suppress(FileNotFoundError):
            # Looked up by inode BEFORE opening: closing a second descriptor would drop every lock.
            status = path.stat()
            found = _lock_files.get((status.st_dev, status.st_ino))
        if found is None:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            status = os.fstat(fd)
            inode = (status.st_dev, status.st_ino)
            found = _lock_files.setdefault(inode, _LockFile(fd, inode))
        found._users += 1
        return found

    def leave(self) -> None:
        """Under ``_guard``, after the user's locks were given back."""
        self._users -= 1
        if not self._users and self._fd >= 0:
            del _lock_files[self._inode]
            os.close(self._fd)
            self._fd = -1

    def forked(self) -> None:
        os.close(self._fd)
        self._fd = -1

    def try_lock(self, offset: int) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def unlock(self, offset: int) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, offset)


class Writer:
    """The segment this process appends to in one folder. Use ``writer``: there is one per folder and
    process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd: int | None = None
        self._name = ""
        self._size = 0
        self._entered = False
        self._lock: _LockFile | None = None

    def append(self, line: bytes, *, sync: bool) -> None:
        """Write one line; with ``sync`` it is on the disk when this returns. Raises OSError when it is not
        written; after a failed sync it may be written all the same. A failure never damages another
        line."""
        with _guard:
            fd = self._open()
            self._write(fd, line)
            if not sync:
                return
            name, entered = self._name, self._entered
            # Synced outside the lock, or every thread would wait for the disk. A copy, as a rotation may
            # close the descriptor meanwhile.
            copy = os.dup(fd)
        try:
            _sync(copy)
        finally:
            os.close(copy)
        if not entered:
            sync_folder(self._folder)
            with _guard:
                self._entered = self._name == name

    def _write(self, fd: int, line: bytes) -> None:
        try:
            written = os.write(fd, line)
        except OSError:
            self._mend(fd)
            raise
        if written != len(line):
            self._mend(fd)
            raise OSError(errno.ENOSPC, "the disk took only a part of the line")
        self._size += written

    def _mend(self, fd: int) -> None:
        """Cut off a line that was written in part; where that fails, leave the segment: its end is dropped
        later."""
        try:
            os.ftruncate(fd, self._size)
        except OSError:
            self._leave()

    def close(self) -> None:
        """Leave the segment to be folded and deleted; a later append starts another."""
        with _guard:
            if self._fd is not None:
                self._leave()

    def _open(self) -> int:
        if self._fd is not None and (self._size >= ROTATE_AT or not os.fstat(self._fd).st_nlink):
            # No link: somebody removed the folder under us. Lines written now would be lost.
            self._leave()
        if self._fd is None:
            make_folder(self._folder)
            lock = _LockFile.use(self._folder)
            try:
                self._fd = self._begin(lock)
            except BaseException:
                lock.leave()
                raise
            self._lock = lock
        return self._fd

    def _begin(self, lock: _LockFile) -> int:
        name = f"{secrets.randbits(60):015x}"
        while not lock.try_lock(int(name, 16)):
            name = f"{secrets.randbits(60):015x}"
        try:
            path = self._folder / f"{name}.segment"
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except BaseException:
            lock.unlock(int(name, 16))
            raise
        _own.add(name)
        self._name, self._size, self._entered = name, 0, False
        return fd

    def _leave(self) -> None:
        assert self._fd is not None
        assert self._lock is not None
        os.close(self._fd)
        _own.discard(self._name)
        self._lock.unlock(int(self._name, 16))
        self._lock.leave()
        self._fd = self._lock = None

    def forked(self) -> None:
        """In a forked child: the segment is the parent's, as is its lock."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = self._lock = None


def writer(folder: Path) -> Writer:
    """The writer of this process for a folder. Touches no file."""
    with _guard:
        return _writers.setdefault(folder, Writer(folder))


def make_folder(folder: Path) -> None:
    """Create a folder and what it stands in, for the owner alone. Raises OSError."""
    if not folder.is_dir():
        if not folder.parent.exists():
            make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def names(folder: Path) -> list[str]:
    """The segments in a folder, oldest first as far as the clock tells; empty when there is no folder."""
    found: list[tuple[int, str]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if match := _NAME.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        found.append((entry.stat(follow_symlinks=False).st_mtime_ns, match[1]))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for _, name in sorted(found)]


def open_segment(folder: Path, name: str) -> BinaryIO | None:
    """A segment for reading; None when it is gone, or no regular file (a planted FIFO would block for
    ever)."""
    try:
        fd = os.open(folder / f"{name}.segment", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:
        if (folder / f"{name}.segment").is_symlink():
            return None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return open(fd, "rb")


def remove(folder: Path, name: str) -> None:
    """Delete a segment that is dead and folded."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(folder / f"{name}.segment")


class Folding:
    """The right to fold a folder's segments, held against all other processes."""

    def __init__(self, lock: _LockFile) -> None:
        self._lock = lock

    def is_dead(self, name: str) -> bool:
        """Whether a segment that was seen in the folder will never grow again."""
        with _guard:
            if name in _own or not self._lock.try_lock(int(name, 16)):
                return False
            self._lock.unlock(int(name, 16))
            return True


@contextlib.contextmanager
def folding(folder: Path, *, wait: float) -> Iterator[Folding | None]:
    """The right to fold; None when another process has not given it up within ``wait`` seconds.

    Threads are the caller's care. Raises OSError in a read-only folder.
    """
    with _guard:
        lock = _LockFile.use(folder)
    held = False
    try:
        until = time.monotonic() + wait
        # Not a blocking lock: a process that was stopped while it folds would stop us too.
        while not (held := lock.try_lock(_FOLD_BYTE)) and time.monotonic() < until:
            time.sleep(0.005)
        yield Folding(lock) if held else None
    finally:
        with _guard:
            if held:
                lock.unlock(_FOLD_BYTE)
            lock.leave()


def _forked() -> None:
    # Closing our copies of the lock files drops no lock: those of the parent are the parent's.
    try:
        for each in _writers.values():
            each.forked()
        for file in _lock_files.values():
            file.forked()
        _own.clear()
        _lock_files.clear()
    finally:
        _guard.release()


os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_forked)
