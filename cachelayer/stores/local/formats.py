"""The layout of the folder by its number, and how an older one becomes today's. What a layout holds is not said here.

The number stands twice: in the file ``format``, for who looks at the folder, and in the header of the index
(``user_version``), for who has it open. An upgrade changes the index and its number in one transaction and the file
after it; killed in between, the next one finds the index done. A process that had the folder open sees the number at
its next write, inside its own transaction, and is out: it never writes yesterday's rows into tomorrow's tables.

What needs no new number, because older versions keep and pass over it: one more table, one more column that may be
left out (tables.py), one more field in an entry's head (core/entry.py).
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cachelayer.core.errors import NewerFormat, NotAStore
from cachelayer.machine.files import sync_folder

Upgrade = Callable[[sqlite3.Connection, Path], None]
"""Takes the index, in a transaction, and the folder from one format to the next. It may be killed at any point and run
again: what it does to files it must find done or undone."""

UPGRADES: tuple[Upgrade, ...] = ()
"""The first leads from format 1 to 2, and so on. None is ever taken out: a folder may be as old as it likes."""

FORMAT = 1 + len(UPGRADES)


def read_number(path: Path) -> int | None:
    """The format of a folder, None where there is no format file. Raises NotAStore when it is not one."""
    try:
        text = (path / "format").read_bytes()
    except FileNotFoundError:
        return None
    match = re.fullmatch(rb"cachelayer store ([0-9]{1,9})\n", text)
    if match is None:
        raise NotAStore(f"{path} is not a cachelayer store: its format file is not one")
    return int(match[1])


def refuse_newer(path: Path, number: int) -> None:
    """Raise NewerFormat where a folder is of a format that this version does not know."""
    if number > FORMAT:
        raise NewerFormat(
            f"{path} has store format {number}, this version knows {FORMAT}: update cachelayer or use another path"
        )


def number_in(sql: sqlite3.Connection) -> int:
    """The format that an index says it has."""
    return max(1, int(sql.execute("PRAGMA user_version").fetchone()[0]))


def write_new(path: Path) -> None:
    """Write the format file of a new folder, unless another process is faster."""
    temporary = path / f".format-{os.getpid()}-{time.monotonic_ns()}"
    try:
        _write(temporary, os.O_CREAT | os.O_EXCL, FORMAT)
        with suppress(FileExistsError):
            os.link(temporary, path / "format")
        sync_folder(path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def upgrade(sql: sqlite3.Connection, path: Path, upgrades: Sequence[Upgrade]) -> None:
    """Bring a folder up to the format that the last of the upgrades leads to. Under the format's lock.

    sql: its index, outside a transaction. Raises what SQLite and the disk raise; what was not committed is undone.
    """
    newest = 1 + len(upgrades)
    for number in range(number_in(sql), newest):
        sql.execute("BEGIN IMMEDIATE")
        try:
            upgrades[number - 1](sql, path)
            sql.execute(f"PRAGMA user_version = {number + 1}")
            sql.execute("COMMIT")
        except BaseException:
            if sql.in_transaction:
                sql.execute("ROLLBACK")
            raise
    # In place: a fresh file would be another lock than the one that others wait for.
    _write(path / "format", 0, newest)


def _write(file: Path, how: int, number: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | how, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        text = b"cachelayer store %d\n" % number
        os.write(descriptor, text)
        os.ftruncate(descriptor, len(text))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
