"""The right to fly a key, among the processes of one machine: byte-range locks in one file.

A key has one byte for its first call, and seven more (slots) for those that are made beside it when a provider is
silent.

Why not flock, or a file per key: flock is inherited by fork, so that a killed leader's child would hold the lease for
ever; a file per key piles up. A byte-range lock (fcntl.lockf) belongs to the process, is free at the moment of its
SIGKILL and costs 2 us. Its one trap: closing ANY descriptor of the file drops every lock of the process. So the file is
opened once per process, and closed only while the process holds no lease of it.
"""

from __future__ import annotations

import errno
import os
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # not Linux or macOS: single-flight holds within one process only (Cache warns)
    fcntl = None  # type: ignore[assignment]

_OFFSET_DIGITS = 15
"""Hex digits of the key that name its byte: with three bits of the slot above them they fit a file offset of 63. Two
keys on one byte would only wait in turn."""


def leases_hold() -> bool:
    """Whether this platform has leases among processes."""
    return fcntl is not None


class Leases:
    """The leases of one folder, for this process. The caller sees to it that a process asks once per slot at a time,
    and that no two threads are in here at once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "leases.lock"
        self._fd: int | None = None
        self._held: set[tuple[str, int]] = set()
        _all.add(self)

    def take(self, key: str, slot: int = 0) -> bool:
        """True: this process holds a slot (0 to 7) of the key's lease now. False: another one does.

        Raises OSError when the folder's lock file cannot be opened for writing.
        """
        if not leases_hold():
            return True
        try:
            fcntl.lockf(self._file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key, slot))
        except (BlockingIOError, PermissionError) as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES) or error.filename is not None:
                raise
            return False
        self._held.add((key, slot))
        return True

    def drop(self, key: str, slot: int = 0) -> None:
        """Let go of a slot of the key's lease. Raises OSError."""
        self._held.discard((key, slot))
        if leases_hold():
            fcntl.lockf(self._file(), fcntl.LOCK_UN, 1, _offset(key, slot))

    def close(self) -> None:
        """Let go of the file, unless a lease of it is held; a later take() opens it anew."""
        if self._fd is None or self._held:
            return
        file = os.fstat(self._fd)
        for other in list(_all):  # the same file by another path: two mounts of one folder
            if other is not self and other._fd is not None and os.path.samestat(os.fstat(other._fd), file):
                return
        fd, self._fd = self._fd, None
        os.close(fd)

    def forked(self) -> None:
        """In a forked child: the leases are the parent's."""
        self._held.clear()

    def _file(self) -> int:
        # A file that was removed with its folder is shared with nobody any more.
        if self._fd is not None and os.fstat(self._fd).st_nlink == 0:
            self.close()
        if self._fd is None or os.fstat(self._fd).st_nlink == 0:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        return self._fd


_all: weakref.WeakSet[Leases] = weakref.WeakSet()


def _offset(key: str, slot: int) -> int:
    return int(key[:_OFFSET_DIGITS], 16) | slot << 60
