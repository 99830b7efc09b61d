"""Folding: what segments hold is moved into ``ledger.sqlite3``, exactly once.

Exactly once: the rows of a batch and the offsets up to which its segments were read are committed together, and a
segment is deleted only after the commit that holds its end is on the disk. Its offset row goes when its file is gone;
names are random and never come back. Lines are decoded outside ``inside_sqlite``, and each batch is one short
transaction, so that a fork never waits for a fold.

Calls: a call that was begun stands in table ``calls`` until its outcome comes. When its owner is dead, and all his
segments were read, it is booked as lost. Should its outcome come after all (the lock that says who lives was deleted by
somebody), the lost one is taken back in the transaction that adds the outcome.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

from cachelayer.ledger import segments
from cachelayer.ledger.batch import LINES, Batch
from cachelayer.ledger.database import (
    WHOLE,
    insert,
    raise_counter,
    read_offsets,
    read_totals,
    visit,
    write_totals,
)
from cachelayer.ledger.formats import FORMAT
from cachelayer.ledger.lines import Begun, Damaged, read_payload
from cachelayer.ledger.locks import Folding
from cachelayer.ledger.pace import Breath, Pace
from cachelayer.ledger.rows import BRIEF, brief_of, to_row
from cachelayer.ledger.segments import owner_of
from cachelayer.ledger.tally import Brief, Tally
from cachelayer.ledger.view import Folded
from cachelayer.machine.interrupts import close_all, keep

T = TypeVar("T")

_TRIES: Final = 5


class _TotalsUnknown(Exception):
    """The totals are not those of the rows."""


class _Elsewhere(Exception):
    """The database is not the one that the fold began with: somebody has removed it."""


class Fold:
    """One fold, by whoever has the right to."""

    def __init__(
        self, folder: Path, path: Path, right: Folding, *, wait: float, stop: Callable[[], bool], breath: Breath
    ) -> None:
        """wait: seconds to wait for other processes' readers, each time. stop: whether to leave the rest to others."""
        self._folder, self._path, self._right, self._wait, self._stop = folder, path, right, wait, stop
        self._breath, self._pace = breath, Pace(LINES)
        self._moved = 0

    def run(self) -> int:
        """The number of outcomes moved. Raises OSError, sqlite3.Error, Unreadable."""
        if not segments.names(self._folder) and not self._path.exists():
            return 0
        for _ in range(_TRIES):
            try:
                self._run()
                break
            except _TotalsUnknown:
                self._sum_up_anew()
            except _Elsewhere:
                continue
        return self._moved

    def _run(self) -> None:
        self._make_file()
        while later := self._write(_unread):
            self._read_again(later)
        offsets, calls = self._write(_state)
        owners = {owner_of(name) for name in (*segments.names(self._folder), *offsets, *calls)}
        # Asked BEFORE the segments are listed: what a writer adds between reading and asking would be deleted unread.
        dead = {owner for owner in owners if self._right.is_dead(owner)}
        found = segments.names(self._folder)
        finished = segments.finished(found, dead)
        if gone := offsets.keys() - set(found):
            self._write(lambda db: _forget(db, gone))
        if self._fold_segments(found, finished, offsets) and dead:
            self._write(lambda db: _book_lost(db, dead))

    def _read_again(self, later: list[tuple[int, str]]) -> None:
        """Lines that an older version could not read and has kept."""
        batch = Batch(self._breath)
        for _, line in later:
            batch.add_kept(line)
        self._put_batch(batch, [(rowid,) for rowid, _ in later])

    def _fold_segments(self, found: list[str], finished: set[str], offsets: dict[str, int]) -> bool:
        """False: stopped before all was read."""
        batch, read = Batch(self._breath), list[str]()
        for name in found:
            held: list[int] = []
            try:
                if not segments.open_segment(held, self._folder, name):
                    continue
                ended = name in finished
                while not batch.take(name, held[0], offsets.get(name, 0), ended=ended, limit=self._pace.rows):
                    self._commit(batch, read)
                    offsets[name] = batch.offsets[name]
                    batch, read = Batch(self._breath), []
                    if self._stop():
                        return False
                if ended:
                    read.append(name)
            finally:
                close_all(held)
        self._commit(batch, read)
        return True

    def _commit(self, batch: Batch, read: list[str]) -> None:
        """Move a batch, and delete the segments that were read to their end with it."""
        if batch.offsets != batch.was:
            self._put_batch(batch, [])
        for name in read:
            segments.remove(self._folder, name)

    def _put_batch(self, batch: Batch, kept: list[tuple[int]]) -> None:
        """kept: the rows of ``later`` that the batch is made of."""
        fresh = Tally()
        for row in batch.rows:
            fresh.add(brief_of(row))
        for note, _ in batch.notes:
            fresh.note(note)

        def put(db: sqlite3.Connection) -> None:
            db.executemany("DELETE FROM later WHERE rowid = ?", kept)
            _put(db, batch, fresh)

        self._write(put, self._pace)
        self._moved += len(batch.rows)

    def _sum_up_anew(self) -> None:
        """Nobody else changes the rows meanwhile: the right to fold is ours."""
        tally = Folded(self._path, self._wait).sum_up()
        self._write(lambda db: write_totals(db, tally))

    def _make_file(self) -> None:
        # Before sqlite does, which would go by the umask; its journals take the mode of the database. Never when it
        # is there: closing a descriptor of it would drop the locks of this process's readers.
        if not self._path.exists():
            held: list[int] = []
            try:
                keep(held, os.open, self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            finally:
                close_all(held)

    def _write(self, work: Callable[[sqlite3.Connection], T], pace: Pace | None = None) -> T:
        return visit(self._path, "write", work, self._wait, pace)


def _state(db: sqlite3.Connection) -> tuple[dict[str, int], list[str]]:
    """How far the segments were read, and the calls that are not settled."""
    if read_totals(db) is None:
        raise _TotalsUnknown
    calls = db.execute("SELECT call FROM calls WHERE state != 'lost'").fetchall()
    return read_offsets(db), [call for (call,) in calls if _is_call(call)]


def _unread(db: sqlite3.Connection) -> list[tuple[int, str]]:
    """Some of the lines that no version as late as this one has tried to read."""
    query = "SELECT rowid, line FROM later WHERE format < ? LIMIT ?"
    return db.execute(query, (FORMAT, LINES)).fetchall()


def _forget(db: sqlite3.Connection, gone: Iterable[str]) -> None:
    # Returns no cursor: one that ends outside of the gate may still have something to say to SQLite.
    db.executemany("DELETE FROM segments WHERE name = ?", [(name,) for name in gone])


def _is_call(call: object) -> bool:
    # A damaged name: its owner cannot be asked for.
    return isinstance(call, str) and len(owner_of(call)) == 15 and not set(owner_of(call)) - set("0123456789abcdef")


def _put(db: sqlite3.Connection, batch: Batch, fresh: Tally) -> None:
    for name, was in batch.was.items():
        # Only of these: reading all of them in each stay would make it the longer, the more there is to fold.
        found = db.execute("SELECT offset FROM segments WHERE name = ?", (name,)).fetchone()
        if was != (0 if found is None else found[0]):
            raise _Elsewhere
    totals = read_totals(db)
    if totals is None:
        raise _TotalsUnknown
    insert(db, "events", batch.rows)
    insert(db, "notes", batch.note_rows())
    db.executemany("INSERT INTO later (line, format) VALUES (?, ?)", [(line, FORMAT) for line in batch.later])
    for call, begun in batch.begun.items():
        if not db.execute("DELETE FROM calls WHERE call = ? AND state = 'ended'", (call,)).rowcount:
            db.execute("INSERT OR IGNORE INTO calls (call, state, begun) VALUES (?, 'begun', ?)", (call, begun))
    for call in batch.ended:
        _end(db, call, totals)
    raise_counter(db, "damaged", batch.damaged)
    totals.merge(fresh)
    write_totals(db, totals)
    db.executemany("INSERT OR REPLACE INTO segments (name, offset) VALUES (?, ?)", batch.offsets.items())


def _end(db: sqlite3.Connection, call: str, totals: Tally) -> None:
    """The outcome of a call is there."""
    known = db.execute("SELECT state, event FROM calls WHERE call = ?", (call,)).fetchone()
    if known is None:
        # Its beginning lies in a segment that is read later, or is damaged.
        db.execute("INSERT INTO calls (call, state) VALUES (?, 'ended')", (call,))
        return
    db.execute("DELETE FROM calls WHERE call = ?", (call,))
    state, event = known
    if state != "lost":
        return
    query = f"SELECT {BRIEF} FROM events WHERE rowid = ? AND reason = 'lost' AND {WHOLE}"  # noqa: S608
    lost = db.execute(query, (event,)).fetchone()
    if lost is not None:
        db.execute("DELETE FROM events WHERE rowid = ?", (event,))
        totals.add(Brief._make(lost), -1)
        raise_counter(db, "taken-back", 1)


def _book_lost(db: sqlite3.Connection, dead: set[str]) -> None:
    totals = read_totals(db)
    if totals is None:
        raise _TotalsUnknown
    booked = False
    for call, state, begun in db.execute("SELECT call, state, begun FROM calls WHERE state != 'lost'").fetchall():
        if not _is_call(call) or owner_of(call) not in dead:
            continue
        if state == "ended":
            db.execute("DELETE FROM calls WHERE call = ?", (call,))
            continue
        try:
            line, extra = read_payload(begun)
        except Damaged:
            line, extra = None, None
        if not isinstance(line, Begun):
            db.execute("DELETE FROM calls WHERE call = ?", (call,))
            raise_counter(db, "damaged", 1)
            continue
        row = to_row(line.lost, extra)
        insert(db, "events", [row])
        (event,) = db.execute("SELECT last_insert_rowid()").fetchone()
        db.execute("UPDATE calls SET state = 'lost', begun = NULL, event = ? WHERE call = ?", (event, call))
        totals.add(brief_of(row))
        booked = True
    if booked:
        write_totals(db, totals)
