"""SQLite, as the store and the ledger both need it: when a process may fork, and which errors mean a damaged file.

No connection, no statement and no file is handled here. Both are rooms of their own and may not know each other.

SQLite's allocator has one mutex for the whole process and no fork handler: a child forked while another thread holds it
waits for ever in its first sqlite3_open(). And SQLite's own list of what this process has locked is copied to the
child, which then reads and writes without a lock. So every transaction lies inside this gate as a whole, and a fork
waits until nobody is inside. Costs a hit 0.3 us.
"""

from __future__ import annotations

import os
import sqlite3
import threading

FORK_WAIT = 10.0
"""Seconds that a fork waits for transactions to end. After that it goes on: who forks from within a transaction would
otherwise wait for himself for ever."""

ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite raises; the second for a damaged name inside its own message."""

_OF_THE_CALLER = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError)
_NOT_ITS_FAULT = (
    sqlite3.SQLITE_ABORT,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,  # another process was stopped (Ctrl-Z) in the middle of a lock
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_TOOBIG,
)


class Damaged(sqlite3.DatabaseError):
    """The file is not what we wrote, by our own finding."""


class Gate:
    """Counts the threads inside; shut while this process forks. Not to be entered twice by one thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0
        self._shut = False

    def __enter__(self) -> None:
        with self._changed:
            while self._shut:
                self._changed.wait()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            if self._shut:
                self._changed.notify_all()

    def shut(self) -> None:
        with self._changed:
            while self._shut:  # another thread forks
                self._changed.wait()
            self._shut = True
            self._changed.wait_for(lambda: self._inside == 0, FORK_WAIT)

    def open(self) -> None:
        with self._changed:
            self._shut = False
            self._changed.notify_all()


inside_sqlite = Gate()

os.register_at_fork(
    before=inside_sqlite.shut,
    after_in_parent=inside_sqlite.open,
    after_in_child=inside_sqlite.__init__,  # type: ignore[misc]  # those who were inside are not in the child
)


def code(error: sqlite3.Error) -> int:
    """The primary SQLite result code of an error, 0 when it has none (errors of the module itself)."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the file is not what we wrote, not that it cannot be reached or written now.

    Our statements are right, so whatever else SQLite has against them comes from the file. Excepted are the errors of
    Python's module: a connection closed under its user, a value that cannot be bound.
    """
    if isinstance(error, Damaged):
        return True
    error = _first(error)
    if isinstance(error, sqlite3.Error):
        return not isinstance(error, _OF_THE_CALLER) and code(error) not in _NOT_ITS_FAULT
    return isinstance(error, UnicodeDecodeError)


def is_full(error: BaseException) -> bool:
    """Whether SQLite found the disk full."""
    error = _first(error)
    return isinstance(error, sqlite3.Error) and code(error) == sqlite3.SQLITE_FULL


def forbids_writing(error: BaseException) -> bool:
    """Whether the file itself says that it must not be written (its header names another version), provided that the
    caller may write it. The header is not looked up: closing a descriptor of a database drops this process's locks."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY


def _first(error: BaseException) -> BaseException:
    # When SQLite has rolled back by itself (disk full, I/O error), diskcache's ROLLBACK fails too, and hides it.
    while isinstance(error.__context__, ERRORS):
        error = error.__context__
    return error
