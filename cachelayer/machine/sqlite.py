"""SQLite, as the store and the ledger both need it: when a process may fork, and which errors mean a damaged file.

No connection, no statement and no file is handled here. Both are rooms of their own and may not know each other.

SQLite's allocator has one mutex for the whole process and no fork handler: a child forked while another thread holds it
waits for ever in its first sqlite3_open(). And SQLite's own list of what this process has locked is copied to the
child, which then reads and writes without a lock. So every transaction lies inside this gate as a whole, and a fork
waits until nobody is inside. Costs a hit 0.5 us.
"""

from __future__ import annotations

import contextlib
import inspect
import sqlite3
import sys
import threading
import time
from types import FrameType
from typing import Final

from cachelayer.machine import forks

FORK_WAIT = 10.0
"""Seconds that a fork waits for the transactions of other threads to end. After that it goes on: one of them may be
waiting for the thread that forks."""

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
    """Knows the threads inside, and holds newcomers back while this process forks. A call enters it once at a time.

    A signal handler may raise between any two bytecodes of the main thread, also within `__enter__` and `__exit__`, so
    a visit may be noted that nobody is making any more. A count would be wrong for ever; a visit names the call that
    makes it, and one whose call is no longer on its thread's stack counts for nothing.
    """

    def __init__(self) -> None:
        self.turnstile = threading.Lock()
        """Held by a fork, from before it until after it; a hook of its own takes it and lets it go, in C: a hook in
        Python could be interrupted before its first line, and then the gate would stay shut."""
        self._inside: dict[int, tuple[FrameType | None, ...]] = {}
        self._forking: int | None = None

    def __enter__(self) -> None:
        me, call = threading.get_ident(), _call_of(sys._getframe(1))
        while True:
            earlier = self._inside.get(me, ())
            if earlier:  # a visit within a visit, or one that was interrupted; no call makes two at once
                earlier = tuple(visit for visit in earlier if visit is not call and _is_made(visit, sys._getframe(1)))
            self._inside[me] = (*earlier, call)
            # Asked after it is noted: a fork that we do not see here sees us.
            if earlier or not self.turnstile.locked() or self._forking == me:
                return
            del self._inside[me]
            with self.turnstile:
                pass

    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        left = self._inside.get(me, ())[:-1]
        if left:
            self._inside[me] = left
        else:
            self._inside.pop(me, None)

    def wait_for_others(self) -> None:
        """Wait, FORK_WAIT at most, until no other thread is inside. The turnstile is held."""
        self._forking = me = threading.get_ident()
        until = time.monotonic() + FORK_WAIT
        pause = 0.0001
        while self._others_inside(me) and time.monotonic() < until:
            time.sleep(pause)
            pause = min(pause * 2, 0.005)

    def _others_inside(self, me: int) -> bool:
        visits = [(thread, calls) for thread, calls in list(self._inside.items()) if thread != me]
        if not visits:
            return False
        stacks = sys._current_frames()  # after the visits: whoever makes one is on his stack by now
        return any(
            thread in stacks and any(_is_made(call, stacks[thread]) for call in calls) for thread, calls in visits
        )

    def forget_others(self) -> None:
        """In a forked child: those who were inside are not in it."""
        me = threading.get_ident()
        self._inside = {me: self._inside[me]} if me in self._inside else {}


_RESUMED: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def _call_of(frame: FrameType | None) -> FrameType | None:
    """The call that makes a visit, given the frame that enters; it is on the stack as long as the visit lasts.

    A generator is not: of a context manager made of one it is the call with the ``with`` statement. None where nobody
    can tell; such a visit lasts until it is left.
    """
    while frame is not None and frame.f_code.co_flags & _RESUMED:
        driver = frame.f_back
        if driver is None or driver.f_code is not _ENTER_GENERATOR:
            return None
        frame = driver.f_back
    return None if frame is None or frame.f_code.co_filename == _CONTEXTLIB else frame


_ENTER_GENERATOR: Final = contextlib._GeneratorContextManager.__enter__.__code__
_CONTEXTLIB: Final = _ENTER_GENERATOR.co_filename


def _is_made(call: FrameType | None, stack: FrameType | None) -> bool:
    while stack is not None and stack is not call:
        stack = stack.f_back
    return call is None or stack is not None


inside_sqlite = Gate()

# Hooks before a fork run in reverse order: first the turnstile, then the wait.
forks.wait_before(inside_sqlite.wait_for_others)
forks.in_child(inside_sqlite.forget_others)
forks.hold(inside_sqlite.turnstile)


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
