"""Which writers of a store are alive. Only that lives here.

Room is reserved and temporary files are named under a writer's token. A writer is a process with the store open; it
holds the byte of ``writers.lock`` (machine/locks.py) that its token names, so a byte that can be locked names a dead
writer. Rejected: process ids (another container's mean nothing here) and ages (a slow writer is not a dead one).
"""

from __future__ import annotations

import itertools
import secrets
import threading
from pathlib import Path

from cachelayer.machine import forks
from cachelayer.machine.files import Identity
from cachelayer.machine.locks import LockFile

FILE = "writers.lock"

_registry: dict[Identity, Writer] = {}
_lock = threading.Lock()


class Writer:
    """This process as a writer of one folder. One per folder and process, shared by the stores open on it."""

    def __init__(self, file: LockFile) -> None:
        """Raises OSError."""
        self.file, self.users = file, 0
        self._numbers = itertools.count()
        self.token = secrets.token_hex(8)[1:]
        file.try_lock(int(self.token, 16))

    def name(self) -> str:
        """A name for a file or reservation that says whose it is, never given twice."""
        return f"{self.token}-{next(self._numbers)}"

    def is_alive(self, token: str) -> bool:
        """Whether the writer of a token still runs. True when in doubt."""
        if token == self.token:
            return True
        try:
            offset = int(token, 16)
            if not self.file.try_lock(offset):
                return True
            self.file.unlock(offset)
        except (OSError, ValueError):
            return True
        return False


def enter(folder: Path) -> Writer:
    """This process's writer of a folder; leave() it when done. Raises OSError."""
    with _lock:
        file = LockFile.use(folder / FILE)
        writer = _registry.get(file.identity)
        if writer is not None:
            file.leave()
        else:
            try:
                writer = _registry[file.identity] = Writer(file)
            except OSError:
                file.leave()
                raise
        writer.users += 1
        return writer


def leave(writer: Writer) -> None:
    """The counterpart of enter()."""
    with _lock:
        writer.users -= 1
        if writer.users == 0 and _registry.get(writer.file.identity) is writer:
            del _registry[writer.file.identity]
            writer.file.unlock(int(writer.token, 16))
            writer.file.leave()


def _forked() -> None:
    # The child holds none of the locks; its stores enter anew.
    global _lock
    _lock = threading.Lock()
    _registry.clear()


forks.in_child(_forked)
