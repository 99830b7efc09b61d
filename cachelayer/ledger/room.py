"""Room on the disk that a segment has before it needs it, so that a full disk does not lose what is written down.

Only blocks are handled here: of a segment, ahead of its end, and of one file ``reserve``, an empty segment that has its
blocks already and lies ready for whoever can make no new one. Blocks ahead of the end change no size and no byte, so
nobody who reads a segment knows of them. Linux only; elsewhere a full disk loses outcomes, each with a LedgerError.

Rejected: a reserve that is deleted when the disk is full, since whoever filled the disk takes that room as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from cachelayer.machine.interrupts import close_all, keep

AHEAD: Final = 262_144
"""Bytes asked for ahead of a segment's end: some 600 outcomes."""
_LEAST_AHEAD: Final = 16_384
MARGIN: Final = AHEAD - 65_536
"""Bytes that stay ahead; below that more are asked for."""
RESERVE: Final = 1_048_576
_SHARE: Final = 16
"""The reserve takes no more than this part of what is free: on a tiny disk the store comes first."""
FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def reserve_ahead(fd: int, size: int) -> int:
    """Have blocks for what follows `size` bytes of a file: the size up to which it has them now.

    The given size when there are none to be had; where the question makes no sense, a size that is never reached.
    """
    length = AHEAD
    while length >= _LEAST_AHEAD:
        problem = _allocate()(fd, size, length)
        if not problem:
            return size + length
        if problem not in FULL:
            return 2**63
        length //= 2
    return size


def lay_reserve(folder: Path) -> None:
    """See to it that ``reserve`` lies ready, if there is room for it. Raises nothing."""
    held: list[int] = []
    with contextlib.suppress(OSError):
        try:
            path = folder / "reserve"
            keep(held, os.open, path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
            status, free = os.fstat(held[0]), os.fstatvfs(held[0])
            wanted = min(RESERVE, free.f_bavail * free.f_frsize // _SHARE)
            if stat.S_ISREG(status.st_mode) and not status.st_size and status.st_blocks * 512 < wanted:
                _allocate()(held[0], 0, wanted)
        finally:
            close_all(held)


def take_reserve(folder: Path, name: str) -> bool:
    """Make the reserve the segment of a name; False when there is none. Needs no room."""
    try:
        status = os.lstat(folder / "reserve")
        if not stat.S_ISREG(status.st_mode) or status.st_size:
            return False
        os.rename(folder / "reserve", folder / name)
    except OSError:
        return False
    return True


@cache
def _allocate() -> Callable[[int, int, int], int]:
    """(descriptor, offset, length) -> 0, or an errno. posix_fallocate was rejected: it moves the end of the file."""
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        call = getattr(libc, "fallocate64", None) or libc.fallocate
    except (ImportError, OSError, AttributeError):
        return lambda fd, offset, length: errno.ENOSYS
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    keep_size = 1
    return lambda fd, offset, length: 0 if not call(fd, keep_size, offset, length) else ctypes.get_errno()
