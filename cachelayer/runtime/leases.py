"""The right to fly a key, among the processes of one machine: byte-range locks in one file.

A key has one byte for its first call, and seven more (slots) for those that are made beside it when a provider is
silent.

Rejected: a file per key, which piles up. Why byte ranges and not flock: machine/locks.py.
"""

from __future__ import annotations

from pathlib import Path

from cachelayer.machine.locks import LockFile

_OFFSET_DIGITS = 15
"""Hex digits of the key that name its byte: with three bits of the slot above them they fit a file offset of 63. Two
keys on one byte would only wait in turn."""


class Leases:
    """The leases of one folder, for this process. The caller sees to it that a process asks once per slot at a time,
    and that no two threads are in here at once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "leases.lock"
        self._file: LockFile | None = None
        self._held: set[tuple[str, int]] = set()

    def take(self, key: str, slot: int = 0) -> bool:
        """True: this process holds a slot (0 to 7) of the key's lease now. False: another one does.

        Raises OSError when the folder's lock file cannot be opened for writing.
        """
        if not self._lock_file().try_lock(_offset(key, slot)):
            return False
        self._held.add((key, slot))
        return True

    def drop(self, key: str, slot: int = 0) -> None:
        """Let go of a slot of the key's lease. Raises OSError."""
        self._held.discard((key, slot))
        self._lock_file().unlock(_offset(key, slot))

    def close(self) -> None:
        """Let go of the file, unless a lease of it is held; a later take() opens it anew."""
        if self._file is not None and not self._held:
            file, self._file = self._file, None
            file.leave()

    def forked(self) -> None:
        """In a forked child: the leases, and the file, are the parent's."""
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
