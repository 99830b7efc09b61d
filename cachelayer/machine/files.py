"""Folders of our own and what a file is: made for the owner alone, made durable, told apart. No content is handled."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from cachelayer.machine.interrupts import close_all, keep

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Identity = tuple[int, int]
"""Device and inode: one for all paths and descriptors of a file."""


def identity(status: os.stat_result) -> Identity:
    """Which file a status is of."""
    return status.st_dev, status.st_ino


def identity_of(path: Path) -> Identity | None:
    """Which file lies at a path, links followed; None when there is none. Raises OSError."""
    try:
        return identity(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def make_folder(path: Path) -> None:
    """Make a folder of mode 0700, whatever the umask. One that is there stays; a link or a file in its place raises
    NotADirectoryError. Raises OSError."""
    try:
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(path)) from None


def make_folders(path: Path) -> None:
    """Make a folder like `make_folder`, and before it those it stands in, as far as they are missing."""
    if not path.is_dir():
        if not path.parent.exists():
            make_folders(path.parent)
        make_folder(path)


def sync_folder(path: Path) -> None:
    """Put the names in a folder on the disk. Raises OSError."""
    held: list[int] = []
    try:
        keep(held, os.open, path, _DIRECTORY)
        os.fsync(held[0])
    finally:
        close_all(held)
