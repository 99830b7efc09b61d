"""A stretch of the segments' lines, decoded and ready to be put into the tables or to be added up.

Reading a batch takes milliseconds of Python and touches no database: nothing of this happens inside ``inside_sqlite``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from cachelayer.core.model import Event
from cachelayer.ledger.lines import LINE_LIMIT, Begun, Damaged, Later, decode, payload_of, sealed
from cachelayer.ledger.pace import Breath
from cachelayer.ledger.rows import Row, note_row, to_row
from cachelayer.ledger.tally import Note

LINES: Final = 1_000
"""At most in a batch that is folded: one short transaction, for which a fork or a writer waits."""
_BLOCK: Final = 1_048_576


class Batch:
    """What lines of any number of segments hold."""

    def __init__(self, breath: Breath) -> None:
        self._breath = breath
        self.rows: list[Row] = []
        self.notes: list[tuple[Note, str | None]] = []
        self.begun: dict[str, str] = {}
        """Calls of which this batch holds the beginning only, and the JSON of their lines."""
        self.ended: list[str] = []
        """Calls of which this batch holds the end only."""
        self.later: list[str] = []
        self.damaged = 0
        self.lines = 0
        self.offsets: dict[str, int] = {}
        """How far each segment was read."""
        self.was: dict[str, int] = {}
        """How far it had been read before."""

    def take(self, name: str, fd: int, offset: int, *, ended: bool, limit: int) -> bool:
        """Read a segment on from an offset, until the batch holds `limit` lines; True when all was read.

        ended: the segment will not grow, so that a last line without an end is damage.
        """
        self.was.setdefault(name, offset)
        self.offsets[name] = offset
        for line in _lines(fd, offset, ended):
            self.offsets[name] += len(line)
            if line != b"\n":  # ends a line that was interrupted, or proved whole after all
                self._add(line)
                self.lines += 1
                self._breath.after_one()
                if self.lines >= limit:
                    return False
        return True

    def note_rows(self) -> list[Row]:
        """The notes as rows."""
        return [note_row(note, extra) for note, extra in self.notes]

    def add_kept(self, payload: str) -> None:
        """Add the JSON of a line that an older version has kept, as it could not read it."""
        self._add(sealed(payload.encode()))

    def _add(self, line: bytes) -> None:
        try:
            what, extra = decode(line)
        except Damaged:
            self.damaged += 1
            return
        match what:
            case Event():
                self.rows.append(to_row(what, extra))
                if what.call is not None and self.begun.pop(what.call, None) is None:
                    self.ended.append(what.call)
            case Begun(call):
                self.begun[call] = payload_of(line)
            case Later(payload):
                self.later.append(payload)
            case _:
                self.notes.append((what, extra))


def _lines(fd: int, offset: int, ended: bool) -> Iterator[bytes]:
    """Lines with their ends; what is longer than any line in pieces."""
    while True:
        data = os.pread(fd, _BLOCK, offset)
        start = 0
        while True:
            end = data.find(b"\n", start, start + LINE_LIMIT) + 1
            if not end:
                left = len(data) - start
                if left >= LINE_LIMIT:
                    end = start + LINE_LIMIT
                elif len(data) < _BLOCK and ended and left:
                    end = len(data)
                else:
                    break
            yield data[start:end]
            start = end
        if len(data) < _BLOCK:
            return
        offset += start
