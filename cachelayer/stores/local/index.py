"""The index: a strict diskcache (strict.py), on connections that we own.

How rows get in and out of entries/cache.db lives here; which rows, and what they mean, does not.

diskcache keeps a connection per thread. Threads that end would leave it open (a ResourceWarning from Python 3.13 on)
and every new thread would pay 400 us for its first look-up, so the Cache is lent connections from a pool instead: any
thread takes an idle one to read, writers take turns at a single one. In WAL a reader waits for no writer.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import diskcache

from cachelayer.core.errors import StoreError
from cachelayer.machine.files import Identity, identity_of
from cachelayer.machine.sqlite import ERRORS, Damaged, code, forbids_writing, inside_sqlite, is_damage
from cachelayer.stores.local import formats, tables
from cachelayer.stores.local.strict import StrictCache

FILE = diskcache.core.DBNAME
WRITE_WAIT = 10.0
"""Seconds that a writer waits for the others. Writes take well under 10 ms; what takes longer hangs, and then the
answer is rather not stored than its flight held up (diskcache's own default is 60)."""
READ_WAIT = 1.0
"""Seconds. A reader waits only while a killed writer's log is being recovered."""
CHECKPOINT_AT = 6_000_000
"""Bytes of write-ahead log at which a writer has it written into the database. Rejected: SQLite's own checkpoints,
after every commit beyond a size. They wait for nobody, so that among several writers none ever came to the end of the
log, which grew to a hundred times a small limit; and each keeps all others from checkpointing."""
CHECKPOINT_WAIT, CHECKPOINT_PAUSE = 0.1, 0.2
"""Seconds that a checkpoint waits for readers, and keeps other writers waiting; seconds until the next one after one
that readers kept from its end."""
CHECKPOINT_BY, LAST_WAIT = 11_000_000, 2.0
"""Bytes at which it waits longer, and comes after every transaction: one adds up to four million."""
IDLE_READERS = 8
"""Connections kept open for reading between look-ups; more are opened as threads ask at once, and closed again."""

_PER_CONNECTION = (
    "cache_size",
    "mmap_size",
    "secure_delete",
    "synchronous",
    "journal_size_limit",
    "wal_autocheckpoint",
)


def build(folder: Path, *, fill: Any) -> None:
    """Make a fresh index in an empty folder; ``fill(connection)`` adds what must be in it from the start."""
    with inside_sqlite:
        _build(folder, fill)


def _build(folder: Path, fill: Any) -> None:
    with open(os.open(folder / FILE, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)) as file:
        os.fchmod(file.fileno(), 0o600)  # sqlite gives its log and shared memory the mode of this file
    connection = _connect(folder, "mode=rw", WRITE_WAIT)
    try:
        tables.prepare(connection)
        connection.execute("BEGIN IMMEDIATE")
        tables.create(connection)
        connection.execute(f"PRAGMA user_version = {formats.FORMAT}")
        fill(connection)
        connection.execute("COMMIT")
    finally:
        connection.close()


def find_fault(folder: Path) -> str | None:
    """Why the index in this folder must not be opened; None when it may. Changes nothing."""
    for name in (FILE, FILE + "-wal", FILE + "-shm"):
        path = folder / name
        if path.is_symlink() or (path.exists() and not path.is_file()):
            return f"{name} is not a plain file"
    try:
        with inside_sqlite:
            connection = _connect_to_read(folder)
            try:
                formats.refuse_newer(folder.parent, formats.number_in(connection))
                return tables.find_fault(connection)
            finally:
                connection.close()
    except ERRORS as error:
        if not is_damage(error):
            raise
        return str(error)


@contextmanager
def to_upgrade(folder: Path) -> Iterator[sqlite3.Connection]:
    """An older index, for formats.upgrade()."""
    with inside_sqlite:
        connection = _connect(folder, "mode=rw", WRITE_WAIT)
        try:
            yield connection
        finally:
            connection.close()


def holds_entries(folder: Path) -> bool:
    """Whether there is anything in an index, one that was set aside. True in doubt."""
    if not os.path.lexists(folder / FILE):
        return False
    try:
        with inside_sqlite:
            connection = _connect(folder, "immutable=1", READ_WAIT)
            try:
                log = folder / f"{FILE}-wal"
                in_log = log.exists() and log.stat().st_size > 0
                return in_log or connection.execute("SELECT 1 FROM Cache LIMIT 1").fetchone() is not None
            finally:
                connection.close()
    except (*ERRORS, OSError):
        return True


class Index:
    """An index that find_fault() has passed. Safe for threads; not usable in a forked child."""

    def __init__(self, folder: Path, *, read_only: bool) -> None:
        self._folder = folder
        self._read_only = read_only
        self.identity = identity(folder)
        self._cache = StrictCache(str(folder), timeout=WRITE_WAIT)
        self._idle: list[sqlite3.Connection] = []  # append and pop are atomic
        self._closed = False
        self._turn = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._given_back = 0
        self._no_checkpoint_until = 0.0

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of one's own, on which nothing can be written. Not for keeping: a fork waits for its end."""
        with inside_sqlite, self._borrowed() as connection:
            yield connection

    def get(self, key: str) -> bytes | None:
        """The record in a row: one SELECT. Raises Refused for a row that we did not write."""
        # Not through reading(): of three generators one inside the other, the way of every hit.
        with inside_sqlite:
            connection = self._borrow()
            try:
                value: bytes | None = self._cache.get_on(connection, key)
            except BaseException:  # a SELECT cut off half-way would show today's index to all later ones
                connection.close()
                raise
            self._give_back(connection)
            return value

    @contextmanager
    def _borrowed(self) -> Iterator[sqlite3.Connection]:
        connection = self._borrow()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)

    def _borrow(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            pass
        connection = _connect_to_read(self._folder) if self._read_only else _connect(self._folder, "mode=rw", READ_WAIT)
        connection.execute("PRAGMA query_only = 1")
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if len(self._idle) < IDLE_READERS:
            self._idle.append(connection)
        else:
            connection.close()
        if self._closed:
            self._drain()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that has the write lock. Commits at the end, rolls back on an exception."""
        if self._read_only:
            raise StoreError("the store is read-only")
        if not self._turn.acquire(timeout=WRITE_WAIT):
            raise StoreError("the index is busy")
        try:
            with inside_sqlite:
                with self._transaction() as connection:
                    yield connection
                self._bound_log()
        finally:
            self._turn.release()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._write_connection()
        try:
            with self._cache.on(connection), self._cache.transact():
                # Under the write lock: a newer version may have upgraded it since it was opened.
                formats.refuse_newer(self._folder.parent, formats.number_in(connection))
                yield connection
        except diskcache.Timeout as error:  # raised for whatever kept the transaction from beginning
            raise StoreError(f"the index cannot be written: {error.__context__}") from None
        except sqlite3.Error as error:
            if forbids_writing(error) and _may_write(self._folder):
                raise Damaged("its header forbids writing") from error
            raise
        finally:
            if connection.in_transaction:  # the commit itself failed (disk full)
                connection.rollback()

    def _write_connection(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError("the store is closed")
        if self._writer is None:
            self._writer = _connect(self._folder, "mode=rw", WRITE_WAIT)
        return self._writer

    def set(self, key: str, record: bytes) -> None:
        """Write a record. Only inside writing()."""
        self._cache.set(key, record)

    def remove(self, key: str) -> bool:
        """Delete a record; True when there was one. Only inside writing()."""
        return bool(self._cache.delete(key))

    def give_back(self, pages: int) -> None:
        """Cut up to so many free pages off the file's end, moving others into their place. Only inside writing()."""
        connection = self._write_connection()
        for _ in range(pages):
            # One at a time: Python's module steps a statement without columns once, whatever number it names.
            connection.execute("PRAGMA incremental_vacuum(1)")
        self._given_back += pages

    def _bound_log(self) -> None:
        """Keep the write-ahead log from growing beyond CHECKPOINT_AT by much. Between transactions, holding the turn.

        What was given back is still in the file until a checkpoint cuts it, and counts likewise.
        """
        size = log_size(self._folder / FILE) + self._given_back * tables.PAGE
        if size <= CHECKPOINT_AT:
            return
        if size > CHECKPOINT_BY:
            self._checkpoint("RESTART", LAST_WAIT)
        elif time.monotonic() >= self._no_checkpoint_until and not self._checkpoint("RESTART", CHECKPOINT_WAIT):
            self._no_checkpoint_until = time.monotonic() + CHECKPOINT_PAUSE

    def _checkpoint(self, how: str, wait: float) -> bool:
        """Whether all of the log is in the database now."""
        connection = self._write_connection()
        deadline = time.monotonic() + wait
        try:
            connection.execute(f"PRAGMA busy_timeout = {int(wait * 1000)}").fetchall()
            while True:
                ((busy, _, _),) = connection.execute(f"PRAGMA wal_checkpoint({how})").fetchall()
                if not busy or time.monotonic() >= deadline:
                    break
                time.sleep(0.005)  # another one is under way, for which SQLite does not wait
        except sqlite3.Error as error:
            if is_damage(error):
                raise
            return False  # a full disk, say: what was committed stays so
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(WRITE_WAIT * 1000)}").fetchall()
        if not busy:
            self._given_back = 0
        return not busy

    def checkpoint(self) -> bool:
        """Move the write-ahead log into the database and cut it to nothing, as far as readers allow; whether they
        did."""
        with self._turn, inside_sqlite:
            return self._checkpoint("TRUNCATE", LAST_WAIT)

    def close(self) -> None:
        """Close every connection; those in use are closed when they come back."""
        self._closed = True
        with self._turn, inside_sqlite:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._drain()

    def _drain(self) -> None:
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return


def identity(folder: Path) -> Identity | None:
    """Which file the index is now; None when it is gone. Tells an open index that it was replaced."""
    return identity_of(folder / FILE)


def log_size(file: Path) -> int:
    """Bytes of the write-ahead log and of the shared memory beside an index file."""
    total = 0
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError, NotADirectoryError):
            total += os.stat(f"{file}{suffix}", follow_symlinks=False).st_size
    return total


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK) and os.access(folder / FILE, os.W_OK)


def _connect(folder: Path, how: str, wait: float) -> sqlite3.Connection:
    # Never mode=rwc: an index that was deleted is not to come back empty and unseen.
    connection = sqlite3.connect(
        f"{(folder / FILE).absolute().as_uri()}?{how}",
        uri=True,
        timeout=wait,
        isolation_level=None,
        check_same_thread=False,  # lent to one thread at a time
        cached_statements=64,
    )
    try:
        connection.execute("PRAGMA trusted_schema = 0")
        for name in _PER_CONNECTION:
            connection.execute(f"PRAGMA {name} = {tables.SETTINGS['sqlite_' + name]}").fetchall()
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()  # what cannot be read fails here
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_to_read(folder: Path) -> sqlite3.Connection:
    try:
        return _connect(folder, "mode=ro", READ_WAIT)
    except sqlite3.OperationalError as error:
        if code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
    # WAL needs its shared-memory file, which nobody can make in a read-only folder. Nobody can write there either
    # (and if another user can, a torn read fails the record's checksum).
    return _connect(folder, "immutable=1", READ_WAIT)
