"""The right to fly a key, among the processes of one machine: byte-range locks in one file.

A key has one byte for its first call, and seven more (slots) for those that are made beside it when a provider is
silent.

Rejected: a file per key, which piles up. Why byte ranges and not flock: machine/locks.py.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

from cachelayer.machine.locks import LockFile

_OFFSET_DIGITS = 15
"""Hex digits of the key that name its byte: with three bits of the slot above them they fit a file offset of 63. Two
keys on one byte would only wait in turn."""


class Leases(Protocol):
    """What the registry needs of leases. It holds no lock of its own while it asks: they may lie behind a network.

    A lease is a flight's, by its token, and lost when its process dies.
    """

    def acquire(self, key: str, slot: int, token: str) -> bool:
        """True: the flight has a slot (0 to 7) of the key's lease now. False: another process has it.

        Within a process the flight that asks last has it: an older one has ended, or stands still. Also True where
        leases cannot be had, in a folder that cannot be written: one flight per key in this process still holds.
        """
        ...

    def release(self, key: str, slot: int, token: str) -> None:
        """Let go of it, unless it is another flight's by now. Idempotent, and never raises."""
        ...


class MachineLeases:
    """The leases of one folder, for this process. Safe for threads."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "leases.lock"
        self._lock = threading.RLock()  # reentrant: a signal handler may make a request of its own
        self._file: LockFile | None = None
        self._held: dict[tuple[str, int], str] = {}

    def acquire(self, key: str, slot: int, token: str) -> bool:
        with self._lock:
            try:
                if not self._lock_file().try_lock(_offset(key, slot)):
                    return False
            except OSError:
                return True
            self._held[key, slot] = token
            return True

    def release(self, key: str, slot: int, token: str) -> None:
        with self._lock:
            if self._held.get((key, slot)) != token:
                return
            try:
                self._lock_file().unlock(_offset(key, slot))
            except OSError:
                pass  # its file was removed, and nobody waits for it there
            del self._held[key, slot]

    def close(self) -> None:
        """Let go of the file, unless a lease of it is held; a later acquire() opens it anew."""
        with self._lock:
            if self._file is not None and not self._held:
                file, self._file = self._file, None
                file.leave()

    def forked(self) -> None:
        """In a forked child: the leases, and the file, are the parent's, and so may be whoever holds the lock."""
        self._lock = threading.RLock()
        self._held.clear()
        self._file = None

    def _lock_file(self) -> LockFile:
        # One that was removed with its folder is shared with nobody any more.
        if self._file is not None and self._file.is_removed():
            self.close()
        if self._file is None or self._file.is_removed():
            self._file = LockFile.use(self._path)
        return self._file


def _offset(key: str, slot: int) -> int:
    return int(key[:_OFFSET_DIGITS], 16) | slot << 60
