"""Segments: the append-only files in which what happens is first written down.

A process writes one segment at a time, ``OWNER-NNNNNN.segment``, under the name that says whether it lives (locks.py).
A segment is finished, and never grows again, when its owner is dead or has begun a later one. Only what touches segment
files may live here.

Order of birth: lock the name's byte, then create the file, so that whoever sees a segment whose byte is free knows
it dead.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from cachelayer.ledger.locks import Owner
from cachelayer.ledger.room import FULL, MARGIN, lay_reserve, reserve_ahead, take_reserve
from cachelayer.machine import forks
from cachelayer.machine.files import make_folders, sync_folder
from cachelayer.machine.interrupts import close_all, keep
from cachelayer.machine.locks import guard

T = TypeVar("T")

ROTATE_AT: Final = 1_000_000
"""Bytes. A segment that has reached this is left for folding, and its writer starts another one."""

_NAME = re.compile(r"([0-9a-f]{15}-[0-9]{6,15})\.segment", re.ASCII)

# fdatasync is not there on macOS.
_sync = getattr(os, "fdatasync", os.fsync)

_writers: dict[Path, Writer] = {}


class Writer:
    """What this process appends to in one folder. Use ``writer``: there is one per folder and process.

    An exception out of a signal handler, or a handler that records something itself, may come after any call in here:
    see machine/locks.py. So the open segment is always the first of ``_fds``, looked up anew for every use.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._fds: list[int] = []
        self._owner: Owner | None = None
        self._number = 0
        self._entered = -1
        """The number of the segment whose name is on the disk."""
        self._whole = True
        """The segment ends with a whole line, as far as we know."""
        self._has_room = 0
        """Bytes up to which the segment has blocks."""
        self._calls: set[str] = set()
        """Begun under our name and not ended."""
        self._call_numbers = itertools.count()
        self._closing = False
        self.rotated = False
        """A segment was finished since this was last set to False."""

    def append(self, line: bytes, *, sync: bool, ends: str | None = None, wrote: list[int] | None = None) -> None:
        """Write one line; with ``sync`` it is on the disk when this returns.

        ends: the call whose outcome it is. wrote: gets an item when it is written. Raises OSError when
        it is not written; after a failed sync it may be written all the same. A failure never damages another line.
        """
        copies: list[int] = []
        try:
            with guard:
                self._insist(lambda: self._put(line, wrote))
                if ends is not None:
                    self._end(ends)
                if not sync:
                    return
                # Synced outside the lock, or every thread would wait for the disk. A copy, as a rotation may
                # close the descriptor meanwhile.
                self._insist(lambda: self._copy(copies))
                number, entered = self._number, self._entered
            for copy in copies:
                _sync(copy)
        finally:
            close_all(copies)
        if entered != number:
            sync_folder(self._folder)
            with guard:
                self._entered = number

    def begin(self, line_of: Callable[[str], bytes]) -> str:
        """Write the line of a new call, which is lost if this process dies before a line that ends it. Its id.

        Raises OSError.
        """

        def attempt() -> str:
            self._open()
            owner = self._owner
            if owner is None:
                raise IndexError
            call = f"{owner.name}-{next(self._call_numbers)}"
            self._calls.add(call)
            try:
                if owner is not self._owner:  # a signal handler has closed the ledger before it could see this call
                    raise IndexError
                self._put(line_of(call))
            except (OSError, IndexError):
                self._calls.discard(call)
                raise
            return call

        with guard:
            self._closing = False
            return self._insist(attempt)

    def close(self) -> None:
        """Leave the segment to be folded and deleted; a later append starts another. The name is kept while a call
        is under way."""
        with guard:
            self._closing = bool(self._calls)
            if self._closing:
                self._leave()
            else:
                self._leave_all()

    def _end(self, call: str) -> None:
        self._calls.discard(call)
        if self._closing and not self._calls:
            self._closing = False
            self.close()

    def _copy(self, copies: list[int]) -> None:
        """A descriptor of the open segment that nobody else closes; none where a signal handler has closed it."""
        if self._fds:
            try:
                keep(copies, os.dup, self._fds[0])
            except OSError as error:
                if error.errno == errno.EBADF:  # and has done so between our looking and copying
                    raise IndexError from error
                raise

    def _insist(self, attempt: Callable[[], T]) -> T:
        for _ in range(10):
            try:
                return attempt()
            except IndexError:  # a signal handler has closed the segment, just now
                continue
            except OSError as error:
                if error.errno not in FULL:
                    raise
                with contextlib.suppress(IndexError):
                    if not self._begin_in_reserve():
                        raise
        raise OSError(errno.EAGAIN, "the segment is closed again and again")

    def _put(self, line: bytes, wrote: list[int] | None = None) -> None:
        size = self._open()
        if size + len(line) + MARGIN > self._has_room:
            self._has_room = reserve_ahead(self._fds[0], size)
        # A line that an interrupt or a full disk has cut off is ended first, and damages itself alone.
        begun, number = b"" if self._whole else b"\n", self._number
        self._whole = False
        wrote = [] if wrote is None else wrote
        # The descriptor comes out of the list within this one call of C: with a Python function in between, a signal
        # handler could close it, and another thread's file have its number by the time of the write.
        wrote.extend(map(os.write, self._fds, (begun + line,)))
        written = wrote[-1]
        if written == len(begun + line):
            self._whole = True
            return
        wrote.clear()
        with contextlib.suppress(OSError):
            if os.fstat(self._fds[0]).st_size == size + written and self._number == number:
                os.ftruncate(self._fds[0], size)
                self._whole = not begun
        raise OSError(errno.ENOSPC, "the disk took only a part of the line")

    def _open(self) -> int:
        """See to it that a segment is open; its size."""
        if self._fds:
            status = os.fstat(self._fds[0])
            if not status.st_nlink:
                # Somebody removed the folder under us. Lines written now would be lost.
                self._leave_all()
            elif status.st_size >= ROTATE_AT and self._has_room > status.st_size:
                # On a full disk the rest of its blocks is used up first: the next one may get none.
                self._leave()
                self.rotated = True
            else:
                return status.st_size
        while not self._fds:
            self._begin()
        return os.fstat(self._fds[0]).st_size

    def _begin(self) -> None:
        make_folders(self._folder)
        owner, number = self._next_name()
        try:
            self._adopt(owner, number, os.O_CREAT | os.O_EXCL)
        except OSError as error:
            if error.errno not in FULL or not self._begin_in_reserve():
                raise
            return
        if self._has_room:
            lay_reserve(self._folder)

    def _begin_in_reserve(self) -> bool:
        """Go on in the segment that was laid aside for a full disk; False when there is none."""
        owner, number = self._next_name()
        if not take_reserve(self._folder, _file_name(owner, number)):
            return False
        self._leave()
        self._adopt(owner, number, 0)
        return True

    def _next_name(self) -> tuple[Owner, int]:
        owner = self._owner
        if owner is None:
            owner = Owner(self._folder)
            if self._owner is not None:  # a signal handler was faster
                owner.leave()
                raise IndexError
            self._owner = owner
        # Taken before it is used: a signal handler may begin one of its own at any moment.
        self._number = number = self._number + 1
        return owner, number

    def _adopt(self, owner: Owner, number: int, flags: int) -> None:
        fds = self._fds
        flags |= os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            keep(fds, os.open, self._folder / _file_name(owner, number), flags, 0o600)
        except FileExistsError as error:  # a signal handler took that number before we had it, and closed the ledger
            raise IndexError from error
        if fds is not self._fds or owner is not self._owner or number != self._number or len(fds) > 1:
            # A signal handler has closed the ledger, or begun a segment of its own, which stays the open one, or was:
            # one before a later one counts as finished, and what is written to it is deleted unread.
            extra = fds[-1]
            del fds[-1]
            os.close(extra)
            raise IndexError
        self._whole = True
        self._has_room = reserve_ahead(self._fds[0], 0)

    def _leave(self) -> None:
        fds, self._fds = self._fds, []
        close_all(fds)

    def _leave_all(self) -> None:
        # Name and segment in one moment: what is written under a name that is free gets deleted.
        fds, owner = self._fds, self._owner
        self._fds, self._owner, self._number = [], None, 0
        close_all(fds)
        if owner is not None:
            owner.leave()

    def forked(self) -> None:
        """In a forked child: segment, name and calls are the parent's."""
        self._leave()
        self._begin_anew()


def _file_name(owner: Owner, number: int) -> str:
    return f"{owner.name}-{number:06d}.segment"


def writer(folder: Path) -> Writer:
    """The writer of this process for a folder. Touches no file."""
    with guard:
        return _writers.setdefault(folder, Writer(folder))


def names(folder: Path) -> list[str]:
    """The segments in a folder, oldest first as far as the clock tells; empty when there is no folder."""
    found: list[tuple[int, str]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if match := _NAME.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        found.append((entry.stat(follow_symlinks=False).st_mtime_ns, match[1]))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for _, name in sorted(found)]


def owner_of(name: str) -> str:
    """The writer of a segment or of a call."""
    return name.partition("-")[0]


def finished(found: list[str], dead: set[str]) -> set[str]:
    """Which of these segments will never grow again. dead: owners that were found dead BEFORE the segments were
    listed; asked afterwards, one of theirs might have been begun in between."""
    last: dict[str, int] = {}
    numbers = {name: int(name.partition("-")[2]) for name in found}
    for name, number in numbers.items():
        last[owner_of(name)] = max(number, last.get(owner_of(name), 0))
    return {name for name in found if owner_of(name) in dead or numbers[name] < last[owner_of(name)]}


def open_segment(held: list[int], folder: Path, name: str) -> bool:
    """Open a segment for reading and put its descriptor into a list; False when it is gone, or no regular file (a
    planted FIFO would block for ever)."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        keep(held, os.open, folder / f"{name}.segment", flags)
    except FileNotFoundError:
        return False
    except OSError:
        if (folder / f"{name}.segment").is_symlink():
            return False
        raise
    if stat.S_ISREG(os.fstat(held[-1]).st_mode):
        return True
    descriptor = held[-1]
    del held[-1]
    os.close(descriptor)
    return False


def remove(folder: Path, name: str) -> None:
    """Delete a segment that is finished and folded."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(folder / f"{name}.segment")


def _forked() -> None:
    for each in _writers.values():
        each.forked()


forks.in_child(_forked)
