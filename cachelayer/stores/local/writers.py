"""Which writers of a store are alive. Only that lives here.

Room is reserved and temporary files are named under a writer's token. A writer is a process with the store open; it
holds a byte-range lock on the byte of ``writers.lock`` that its token names. The kernel frees it when the process
ends, however it ends, and a forked child does not inherit it, so a byte that can be locked names a dead writer.
Rejected: process ids (another container's mean nothing here) and ages (a slow writer is not a dead one).
"""

from __future__ import annotations

import fcntl
import itertools
import os
import secrets
import threading
from pathlib import Path

FILE = "writers.lock"

_registry: dict[tuple[int, int], Writer] = {}
_lock = threading.Lock()


class Writer:
    """This process as a writer of one folder. One per folder and process, shared by the stores open on it: closing
    any descriptor of the file would drop every lock that the process has on it."""

    def __init__(self, descriptor: int, place: tuple[int, int]) -> None:
        self._descriptor = descriptor
        self._place = place
        self._users = 0
        self._numbers = itertools.count()
        self.token = secrets.token_hex(8)[1:]
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(self.token, 16))

    def name(self) -> str:
        """A name for a file or reservation that says whose it is, never given twice."""
        return f"{self.token}-{next(self._numbers)}"

    def is_alive(self, token: str) -> bool:
        """Whether the writer of a token still runs. True when in doubt."""
        if token == self.token:
            return True
        try:
            offset = int(token, 16)
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except (OSError, ValueError):
            return True
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, offset)
        return False


def enter(folder: Path) -> Writer:
    """This process's writer of a folder; leave() it when done."""
    path = folder / FILE
    with _lock:
        try:
            status = os.stat(path, follow_symlinks=False)
            writer = _registry.get((status.st_dev, status.st_ino))
        except FileNotFoundError:
            writer = None
        if writer is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(path, flags, 0o600)
            os.fchmod(descriptor, 0o600)
            status = os.fstat(descriptor)
            place = (status.st_dev, status.st_ino)
            writer = _registry[place] = Writer(descriptor, place)
        writer._users += 1
        return writer


def leave(writer: Writer) -> None:
    with _lock:
        writer._users -= 1
        if writer._users == 0 and _registry.get(writer._place) is writer:
            del _registry[writer._place]
            os.close(writer._descriptor)


def _forked() -> None:
    # The child holds none of the locks; its stores enter anew. The descriptors stay open: closing is harmless to the
    # parent, but the registry that knows them may have been caught half-changed.
    global _lock
    _lock = threading.Lock()
    _registry.clear()


os.register_at_fork(after_in_child=_forked)
