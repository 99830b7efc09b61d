"""The right to fly a key, among the processes of one machine: byte-range locks in one file.

A key has one byte for its first call, and seven more (slots) for those that are made beside it when a provider is
silent.

Rejected: a file per key, which piles up. Why byte ranges and not flock: machine/locks.py.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path
from typing import Protocol

from cachelayer.machine.locks import LockFile

_OFFSET_DIGITS = 15
"""Hex digits of the key that name its byte: with three bits of the slot above them they fit a file offset of 63. Two
keys on one byte would only wait in turn."""

_RETRY = 10.0
"""Seconds for which a wait for a lease that nobody goes on with is remembered: SDKs pause up to 8 s before they retry,
and who comes back goes on with it. The call itself was not left waiting so long: it would hold a thread."""


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


class GivenBack(deque[tuple[str, int, str]]):
    """Leases that were let go of under the registry's lock, to be released when it is not held: key, slot, token."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()

    def release(self, leases: Leases) -> None:
        """Release them, one after the other: a flight may have acquired again what would be released twice."""
        if not self:
            return
        with self._lock:
            while self:
                one = self[0]
                leases.release(*one)
                if self and self[0] is one:  # else a signal handler of this thread was here
                    self.popleft()


class Waits:
    """Waits for leases that were left, remembered for a while. Under the registry's lock."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}
        """By key: since when, and until when that is remembered. The oldest first."""

    def recall(self, key: str) -> float | None:
        """Since when somebody has waited, where that is to go on."""
        since, until = self._left.pop(key, (0.0, 0.0))
        return since if time.monotonic() < until else None

    def remember(self, key: str, since: float) -> None:
        """Whoever waited has left."""
        now = time.monotonic()
        self._left.pop(key, None)
        while self._left and next(iter(self._left.values()))[1] <= now:
            del self._left[next(iter(self._left))]
        self._left[key] = since, now + _RETRY


def _offset(key: str, slot: int) -> int:
    return int(key[:_OFFSET_DIGITS], 16) | slot << 60
