"""What the ledger holds, for reports: the totals of what was folded, its rows in short stretches, and what the segments
hold beyond it. Nothing is changed here.

No stay inside ``inside_sqlite`` is long: a report over millions of outcomes reads a few thousand rows at a time and
adds up in between, so that no fork, and nobody behind a fork, waits for it. What was there at the first look counts:
rows are only ever added behind it. The one exception, a call that was booked as lost and comes after all, is counted,
and who sees that the count has moved begins anew.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Event
from cachelayer.ledger import formats, segments
from cachelayer.ledger.batch import Batch
from cachelayer.ledger.database import WHOLE, is_empty, last_rows, read_counter, read_offsets, read_totals, visit
from cachelayer.ledger.pace import AT_ONCE, Breath, Pace, breathe
from cachelayer.ledger.rows import BRIEF, COLUMNS, NOTE_COLUMNS, brief_of, is_list, to_event, to_note
from cachelayer.ledger.tally import Brief, Note, Tally
from cachelayer.machine.files import identity_of
from cachelayer.machine.interrupts import close_all

T = TypeVar("T")

STRETCH: Final = 1_000
"""Rows that are read in one transaction, at most."""
_EVERYTHING: Final = 2**62


class Changed(Exception):
    """The rows are not those of the first look any more: look again."""


class Folded:
    """What was in the database at the first look."""

    def __init__(self, path: Path, wait: float) -> None:
        self._path, self._wait = path, wait
        self._file = identity_of(path)
        self.totals: Tally | None = Tally()
        self.damaged = 0
        self.offsets: dict[str, int] = {}
        self._last, self._taken_back, self._later = {"events": 0, "notes": 0}, 0, False
        if self._file is not None:
            visit(path, "read", self._look, wait)

    def _look(self, db: sqlite3.Connection) -> None:
        if is_empty(db):
            return
        self.offsets = read_offsets(db)
        self.totals = read_totals(db)
        self.damaged = read_counter(db, "damaged")
        self._last, self._taken_back = last_rows(db), read_counter(db, "taken-back")
        self._later = formats.number_in(db) > formats.FORMAT

    def outcomes(self, since: float | None) -> Iterator[list[Brief]]:
        """The whole rows of ``events`` in stretches, those from ``since`` on."""
        for rows in self._events(BRIEF, since):
            yield [Brief._make(row) for row, whole in rows if whole]

    def events(self, since: float | None) -> Iterator[list[Event]]:
        """The same in full."""
        for rows in self._events(COLUMNS, since):
            yield [to_event(row) for row, whole in rows if whole]

    def count_damaged(self) -> int:
        """Rows that are none of ours. None where a later format may have more kinds of them."""
        if self._later:
            return 0
        return sum(sum(not whole for _, whole in rows) for rows in self._events("rowid", None))

    def notes(self, since: float | None) -> Iterator[list[Note]]:
        """The rows of ``notes``, those that are none of ours left out."""
        for rows in self._stretches("notes", NOTE_COLUMNS, since):
            yield [note for row in rows if (note := to_note(row)) is not None]

    def sum_up(self) -> Tally:
        """The totals from the rows: for where they cannot be read."""
        tally = Tally()
        for outcomes in self.outcomes(None):
            for one in outcomes:
                tally.add(one)
        for notes in self.notes(None):
            for note in notes:
                tally.note(note)
        return tally

    def _events(self, columns: str, since: float | None) -> Iterator[list[tuple[tuple[Any, ...], bool]]]:
        """Rows of ``events``, and whether each can be one that we wrote."""
        for rows in self._stretches("events", f"{columns}, normalized, tags, {WHOLE}", since):
            yield [(row[:-3], row[-1] and is_list(row[-3]) and is_list(row[-2])) for row in rows]

    def _stretches(self, table: str, columns: str, since: float | None) -> Iterator[list[tuple[Any, ...]]]:
        last = self._last[table]
        place: tuple[float, ...]
        if since is None:
            order, where, place = "rowid", "rowid > ?", (-_EVERYTHING,)
        else:
            order, where, place = "at, rowid", "(at, rowid) > (?, ?)", (since, -_EVERYTHING)
        width = len(place)
        query = f"SELECT {order}, {columns} FROM {table} WHERE {where} AND rowid <= ? ORDER BY {order} LIMIT ?"  # noqa: S608
        pace, limit = Pace(STRETCH), 0

        def read(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
            if read_counter(db, "taken-back") != self._taken_back:
                raise Changed
            return db.execute(query, (*place, last, limit)).fetchall()

        while last:
            if identity_of(self._path) != self._file:
                raise Changed
            limit = pace.rows
            rows = visit(self._path, "read", read, self._wait, pace)
            for start in range(0, len(rows), AT_ONCE):
                yield [row[width:] for row in rows[start : start + AT_ONCE]]
                breathe()
            if len(rows) < limit:
                return
            place = rows[-1][:width]


class View:
    """A consistent view of all that was recorded before it was made."""

    def __init__(self, folder: Path, path: Path, wait: float) -> None:
        """Raises OSError, sqlite3.Error, Unreadable, LedgerError."""
        self.tail = Batch(Breath())
        for _ in range(100):
            held: list[int] = []
            try:
                # Opened BEFORE the first look: what is folded and deleted meanwhile is seen once, here or there.
                names = [name for name in segments.names(folder) if segments.open_segment(held, folder, name)]
                self.folded = Folded(path, wait)
                if self._read_on(names, held):
                    return
            finally:
                close_all(held)
        raise LedgerError(f"the ledger in {folder} changes too fast to be read")

    def _read_on(self, names: list[str], held: list[int]) -> bool:
        """Read what is not folded; False when a segment went away so that it might be counted twice."""
        self.tail = Batch(Breath())
        for name, fd in zip(names, held, strict=True):
            if name not in self.folded.offsets and not os.fstat(fd).st_nlink:
                return False
            self.tail.take(name, fd, self.folded.offsets.get(name, 0), ended=False, limit=_EVERYTHING)
        return True

    def totals(self) -> Tally:
        """The sums of everything."""
        tally = Tally()
        tally.merge(self.folded.totals or self.folded.sum_up())
        for row in self.tail.rows:
            tally.add(brief_of(row))
        for note, _ in self.tail.notes:
            tally.note(note)
        return tally

    def outcomes(self, since: float | None) -> Iterator[list[Brief]]:
        """Every outcome from ``since`` (unix seconds) on, in stretches. Raises Changed."""
        yield from self.folded.outcomes(since)
        tail = map(brief_of, self.tail.rows)
        yield [one for one in tail if since is None or one.at >= since]

    def notes(self, since: float | None) -> Iterator[list[Note]]:
        """Every note from ``since`` on, in stretches. Raises Changed."""
        yield from self.folded.notes(since)
        yield [note for note, _ in self.tail.notes if since is None or note.at >= since]

    def events(self, since: float | None) -> list[Event]:
        """Every outcome in full, oldest first. Raises Changed."""
        found = [event for events in self.folded.events(since) for event in events]
        found += [to_event(row) for row in self.tail.rows if since is None or row[0] >= since]  # type: ignore[operator, arg-type]
        return sorted(found, key=lambda event: event.at)

    def damaged(self) -> int:
        """Lines and rows that are none of ours. Raises Changed."""
        return self.folded.damaged + self.tail.damaged + self.folded.count_damaged()


def looked_at(look: Callable[[], View], work: Callable[[View], T]) -> T:
    """What work makes of a view, made anew where the rows changed under it."""
    for _ in range(10):
        try:
            return work(look())
        except Changed:
            continue
    raise LedgerError("the ledger changes too fast to be read")
