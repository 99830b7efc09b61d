"""The durable list of outcomes: written to segments, folded exactly once into ``ledger.sqlite3``, read as one.

Only what others see of the ledger lives here; what a line looks like is in ``lines``, whose a segment is in
``segments`` and ``locks``, how lines get into the database in ``fold``, how it looks in ``database``, how it is read in
``view``, what is asked of it in ``reports``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Final, TypeVar

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Asked, Cost, Event
from cachelayer.ledger import segments
from cachelayer.ledger.background import background
from cachelayer.ledger.database import Unreadable, is_whole
from cachelayer.ledger.faults import faults
from cachelayer.ledger.fold import Fold
from cachelayer.ledger.lines import Evicted, Fault, NotKept, encode, encode_begun
from cachelayer.ledger.locks import Folding, fold_alone
from cachelayer.ledger.pace import Breath
from cachelayer.ledger.view import View, looked_at
from cachelayer.machine.files import identity_of
from cachelayer.machine.sqlite import ERRORS, forbids_writing, inside_sqlite, is_damage

log = logging.getLogger("cachelayer")

T = TypeVar("T")

FOLD_WAIT: Final = 30.0
"""Seconds that ``fold`` waits for another fold, and a report for other processes' locks on the database."""
_BRIEFLY: Final = 0.5
"""Seconds that a fold nobody has asked for waits for them."""
_CLOSING: Final = 2.0
"""Seconds that ``close`` folds; what is left is folded by whoever comes next."""


class Ledger:
    """The ledger in one folder. Any number of objects, threads and processes may use one folder at once.

    Constructing touches no file. Every method raises LedgerError, and nothing else, when the folder cannot
    do it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._path = self.folder / "ledger.sqlite3"
        self._writer = segments.writer(self.folder)
        self._background = background(self.folder)
        self._faults = faults(self.folder)

    def begin(self, asked: Asked, at: float) -> str:
        """Write down that a call is about to be sent; the id that its Event will carry. Not synced: some microseconds.

        at: unix seconds. If this process dies before an Event with that id is recorded, the call is booked as an ERROR
        with reason ``lost``, upstream 1, unpriced.
        """
        try:
            call = self._writer.begin(lambda call: encode_begun(call, asked, at))
        except OSError as error:
            raise self._cannot_write(error) from error
        self._fold_if_rotated()
        return call

    def record(self, event: Event, *, sync: bool = False, wrote: list[int] | None = None) -> None:
        """Write one outcome down, by one write() to this process's segment.

        When it returns, the outcome survives the death of the process; with ``sync`` that of the machine
        too. When it raises LedgerError the outcome is lost, or (a failed sync) may be counted once; others
        are untouched.
        wrote: not empty from the moment on at which the line is written, for whoever is interrupted meanwhile.
        """
        self._append(encode(event), sync=sync, ends=event.call, wrote=wrote)

    def record_not_kept(self, asked: Asked, reason: str, spent: Cost | None, at: float) -> None:
        """Write down that a good answer, whose outcome is recorded as ever, could not be stored. spent: its cost."""
        self._append(encode(NotKept(at, reason, asked.namespace, asked.model, asked.host, spent)))

    def record_evicted(self, entries: int, usd: Decimal) -> None:
        """Write down that entries had to go to make room. usd: what they had cost, as far as it is known."""
        if entries:
            self._append(encode(Evicted(time.time(), entries, usd)))

    def record_fault(self, what: str, error: str) -> None:
        """Count a failure of ours that a call went on without. what: "read an entry". error: the exception's class.

        At most one line a minute and kind; what comes in between is counted, and written with the next or at close.
        """
        kind = self._faults.add(what, error, now=time.monotonic())
        if kind is not None:
            self._faults.take(time.time(), self._write_fault, kind)

    def close(self) -> None:
        """Let go of this process's segment and its descriptors, of other Ledgers of this folder too, and fold
        what is there unless somebody else does, or segments would pile up where nobody asks for a report.

        Idempotent; a later record opens them anew. Not closing loses nothing. While a call that was begun has not
        ended, one descriptor stays: the lock that says that we live.
        """
        with contextlib.suppress(LedgerError):
            self._faults.take(time.time(), self._write_fault)
        self._writer.close()
        self._background.stopping = True
        until = time.monotonic() + _CLOSING
        try:
            with contextlib.suppress(LedgerError):
                self._fold(wait_here=_CLOSING, wait=0, stop=lambda: time.monotonic() > until)
        finally:
            self._background.stopping = False

    def fold(self) -> int:
        """Move what the segments hold into ledger.sqlite3; the number of outcomes moved.

        Damaged lines are skipped and counted. An unfinished last line of a living writer is left for later,
        that of a dead one dropped and counted. Finished segments are deleted. Calls that a dead process had begun are
        booked as lost. Raises LedgerError where the folder cannot be written, or when another process folds for
        FOLD_WAIT seconds.
        """
        moved = self._fold(wait_here=FOLD_WAIT, wait=FOLD_WAIT)
        if moved is None:
            raise LedgerError(f"another process has been folding the ledger in {self.folder} for {FOLD_WAIT:.0f} s")
        return moved

    def events(self, since: float | None = None) -> list[Event]:
        """The outcomes from ``since`` (unix seconds) on, oldest first. All of them in memory: for looking at, not for
        sums."""
        return self.look(lambda view: view.events(since))

    def damaged(self) -> int:
        """Lines that were skipped because their checksum was wrong or their end was missing, and rows that are
        skipped because what they hold is none of ours (``database.WHOLE``)."""
        return self.look(View.damaged)

    def faults_waiting(self) -> int:
        """Faults of this process that no line tells yet."""
        return self._faults.waiting()

    def look(self, work: Callable[[View], T]) -> T:
        """What work makes of a consistent view of all that was recorded before. It may be called again.

        Folds first where it can. Where it cannot (read-only, another fold under way) what is not folded yet
        is read into memory, so that the view is as complete. Raises LedgerError; when that was for a damaged
        database, it has been moved aside and the next look begins anew.
        """
        with contextlib.suppress(LedgerError):
            # A fold of ours under way is waited for: reading all that it has still to move would take as long.
            self._fold(wait_here=FOLD_WAIT, wait=0)
        read = None
        try:
            read = identity_of(self._path)
            return looked_at(lambda: View(self.folder, self._path, FOLD_WAIT), work)
        except (*ERRORS, OSError, Unreadable, ValueError, ArithmeticError) as error:
            if isinstance(error, Unreadable) or is_damage(error):
                # Damage in pages that a fold does not touch is found only here.
                self._set_aside(read)
            raise LedgerError(f"cannot read the ledger in {self.folder}: {error}") from error

    def _append(
        self, line: bytes, *, sync: bool = False, ends: str | None = None, wrote: list[int] | None = None
    ) -> None:
        try:
            self._writer.append(line, sync=sync, ends=ends, wrote=wrote)
        except OSError as error:
            raise self._cannot_write(error) from error
        self._fold_if_rotated()

    def _write_fault(self, fault: Fault) -> None:
        self._append(encode(fault))

    def _cannot_write(self, error: OSError) -> LedgerError:
        return LedgerError(f"cannot write to the ledger in {self.folder}: {error}")

    def _fold_if_rotated(self) -> None:
        if self._writer.rotated:
            self._writer.rotated = False
            self._background.start(self._fold_in_background)

    def _fold_in_background(self) -> None:
        with contextlib.suppress(LedgerError):
            self._fold(wait_here=0, wait=0, stop=lambda: self._background.stopping, breath=Breath(self._is_unawaited))

    def _is_unawaited(self) -> bool:
        return time.monotonic() > self._background.awaited_until

    def _fold(
        self, *, wait_here: float, wait: float, stop: Callable[[], bool] = lambda: False, breath: Breath | None = None
    ) -> int | None:
        """As ``fold``; None when somebody else is folding: another thread for wait_here seconds, another process for
        wait. breath: how gently; by default as fast as nobody else minds."""
        try:
            if not self.folder.is_dir():
                return 0
            self._background.awaited_until = max(self._background.awaited_until, time.monotonic() + wait_here)
            return fold_alone(
                self.folder,
                lambda right: self._fold_with(right, wait, stop, breath or Breath()),
                wait_here=wait_here,
                wait=wait,
            )
        except (OSError, Unreadable, *ERRORS) as error:
            raise LedgerError(f"cannot fold the ledger in {self.folder}: {error}") from error

    def _fold_with(self, right: Folding, wait: float, stop: Callable[[], bool], breath: Breath) -> int:
        fold = Fold(self.folder, self._path, right, wait=max(wait, _BRIEFLY), stop=stop, breath=breath)
        try:
            return fold.run()
        except (Unreadable, *ERRORS) as error:
            if not self._is_damaged(error):
                raise
        self._move_aside()
        return fold.run()

    def _is_damaged(self, error: Exception) -> bool:
        """Whether the database is to be moved aside for an error. What SQLite says is checked by reading all of the
        file: a statement of ours that an old SQLite does not know must not cost a ledger."""
        if isinstance(error, Unreadable):
            return True
        if forbids_writing(error):
            return os.access(self._path, os.W_OK)
        if not is_damage(error):
            return False
        with inside_sqlite:
            return not is_whole(self._path)

    def _set_aside(self, read: tuple[int, int] | None) -> None:
        """Move the database away if it is damaged, and still the one that was read: another process may have been
        faster."""

        def look(right: Folding) -> None:
            if read is not None and identity_of(self._path) == read:
                with inside_sqlite:
                    damaged = not is_whole(self._path)
                if damaged:
                    self._move_aside()

        with contextlib.suppress(OSError):
            fold_alone(self.folder, look, wait_here=FOLD_WAIT, wait=0)

    def _move_aside(self) -> None:
        path = self._path
        number = 1
        while (aside := path.with_name(f"ledger.sqlite3.damaged-{number}")).exists():
            number += 1
        path.rename(aside)
        # A journal belongs to the file that is gone: left behind, it would be played into the new one.
        for suffix in ("-journal", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
        log.warning(
            "The ledger %s cannot be read and was moved to %s; a new one begins. Outcomes folded into the "
            "old one are missing from reports; cached entries and outcomes not yet folded are untouched.",
            path,
            aside.name,
        )
