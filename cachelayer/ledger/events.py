"""The durable list of outcomes: written to segments, folded exactly once into ``ledger.sqlite3``, read as
one table.

Only the life of events on disk lives here; what a line looks like is in ``lines``, whose a segment is in
``segments``, how the table looks in ``table``, what is asked of the table in ``reports``.

Exactly once: the rows of a segment and the offset up to which it was read are committed together, and a
segment is deleted only after the commit that holds its end is on the disk. Its offset row goes when its
file is gone; names are random and never come back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, Final

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Event
from cachelayer.ledger import segments
from cachelayer.ledger.lines import LINE_LIMIT, Damaged, decode, encode
from cachelayer.ledger.table import (
    COLUMNS,
    INSERT,
    TABLE,
    WHOLE,
    Unreadable,
    check_schema,
    connect,
    is_whole,
    open_writable,
    read_offsets,
    to_event,
    to_row,
)
from cachelayer.sqlite import ERRORS, forbids_writing, inside_sqlite, is_damage

log = logging.getLogger("cachelayer")

FOLD_WAIT: Final = 30.0
"""Seconds that ``fold`` waits for another process's fold (100,000 outcomes take about two)."""

# fcntl locks do not hold among threads. Replaced in a forked child, whose copy may be held by a thread that
# it does not have.
_fold_lock = threading.Lock()


def _forked() -> None:
    global _fold_lock
    _fold_lock = threading.Lock()


os.register_at_fork(after_in_child=_forked)


class Ledger:
    """The ledger in one folder. Any number of objects, threads and processes may use one folder at once.

    Constructing touches no file. Every method raises LedgerError, and nothing else, when the folder cannot
    do it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._path = self.folder / "ledger.sqlite3"
        self._writer = segments.writer(self.folder)

    def record(self, event: Event, *, sync: bool = False) -> None:
        """Write one outcome down, by one write() to this process's segment.

        When it returns, the outcome survives the death of the process; with ``sync`` that of the machine
        too. When it raises LedgerError the outcome is lost, or (a failed sync) may be counted once; others
        are untouched.
        """
        line = encode(event)
        try:
            self._writer.append(line, sync=sync)
        except OSError as error:
            raise LedgerError(f"cannot write to the ledger in {self.folder}: {error}") from error

    def record_evicted(self, entries: int, usd: Decimal) -> None:
        """Write down entries that were dropped for room, and what they had cost."""

    def close(self) -> None:
        """Let go of this process's segment and its descriptors, of other Ledgers of this folder too, and fold
        what is there unless somebody else does, or segments would pile up where nobody asks for a report.
        Idempotent; a later record opens them anew. Not closing loses nothing."""
        self._writer.close()
        with contextlib.suppress(LedgerError):
            self._fold(wait=0)

    def fold(self) -> int:
        """Move what the segments hold into ledger.sqlite3; the number of outcomes moved.

        Damaged lines are skipped and counted. An unfinished last line of a living writer is left for later,
        that of a dead one dropped and counted. Segments of dead writers are deleted. Raises LedgerError
        where the folder cannot be written, or when another process folds for FOLD_WAIT seconds.
        """
        moved = self._fold(wait=FOLD_WAIT)
        if moved is None:
            raise LedgerError(f"another process has been folding the ledger in {self.folder} for {FOLD_WAIT:.0f} s")
        return moved

    def events(self, since: float | None = None) -> list[Event]:
        """The outcomes from ``since`` (unix seconds) on, oldest first. All of them in memory: for looking at, not for
        sums."""
        where = "" if since is None else "WHERE at >= ?"
        parameters = () if since is None else (since,)
        with self.reading() as db:
            rows = db.execute(f"SELECT {COLUMNS} FROM outcomes {where} ORDER BY at", parameters)  # noqa: S608
            return [to_event(row) for row in rows]

    def damaged(self) -> int:
        """Lines that were skipped because their checksum was wrong or their end was missing, and rows that are
        skipped because what they hold is none of ours (``table.WHOLE``)."""
        with self.reading() as db:
            return sum(int(value) for (value,) in db.execute("SELECT value FROM damage"))

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A consistent view of all outcomes recorded before: table ``outcomes``, with the columns of
        ``events`` in docs/storage.md and the aggregate decimal_sum(TEXT). Not for keeping: a fork waits for
        its end.

        Folds first where it can. Where it cannot (read-only, another fold under way) what is not folded yet
        is read into memory, so that the view is as complete. Raises LedgerError; when that was for a damaged
        database, it has been moved aside and the next reading begins anew.
        """
        with contextlib.suppress(LedgerError):
            self._fold(wait=0)
        read: tuple[int, int] | None = None
        try:
            read = _identity(self._path)
            # From the first statement to the closing in one stretch: what a connection has locked at a fork, the child
            # takes for locked by itself.
            with inside_sqlite, contextlib.closing(self._view()) as db:
                yield db
        except (*ERRORS, OSError, Unreadable, ValueError, ArithmeticError) as error:
            if isinstance(error, Unreadable) or is_damage(error):
                # Damage in pages that a fold does not touch is found only here.
                self._set_aside(read)
            raise LedgerError(f"cannot read the ledger in {self.folder}: {error}") from error

    def _fold(self, *, wait: float) -> int | None:
        """As ``fold``; None when somebody else is folding."""
        try:
            if not self.folder.is_dir():
                return 0
            if not _fold_lock.acquire(timeout=wait if wait else 0):
                return None
            try:
                with segments.folding(self.folder, wait=wait) as right:
                    return self._fold_alone(right, wait) if right else None
            finally:
                _fold_lock.release()
        except (OSError, Unreadable, *ERRORS) as error:
            raise LedgerError(f"cannot fold the ledger in {self.folder}: {error}") from error

    def _fold_alone(self, right: segments.Folding, wait: float) -> int:
        found = segments.names(self.folder)
        # Asked BEFORE reading: what a writer adds between reading and asking would be deleted unread.
        dead = {name for name in found if right.is_dead(name)}
        if not found and not self._path.exists():
            return 0
        try:
            return self._fold_once(found, dead, wait)
        except (Unreadable, *ERRORS) as error:
            if not self._is_damaged(error):
                raise
        self._move_aside()
        return self._fold_once(found, dead, wait)

    def _fold_once(self, found: list[str], dead: set[str], wait: float) -> int:
        if not self._path.exists():
            # Before sqlite does, which would go by the umask; its journals take the mode of the database. Never when it
            # is there: closing a descriptor of it would drop the locks of this process's readers.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with inside_sqlite, contextlib.closing(open_writable(self._path, wait)) as db:
            return self._fold_into(db, found, dead)

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

    def _fold_into(self, db: sqlite3.Connection, found: list[str], dead: set[str]) -> int:
        moved = damaged = 0
        finished: list[str] = []
        db.execute("BEGIN IMMEDIATE")
        offsets = read_offsets(db)
        db.executemany("DELETE FROM segments WHERE name = ?", [(name,) for name in offsets if name not in set(found)])
        for name in found:
            file = segments.open_segment(self.folder, name)
            if file is None:
                continue
            with file:
                tail = _Tail(file, offsets.get(name, 0), name in dead)
                db.executemany(f"INSERT INTO events {INSERT}", map(to_row, tail))
            moved += tail.whole
            damaged += tail.damaged
            db.execute("INSERT OR REPLACE INTO segments VALUES (?, ?)", (name, tail.offset))
            if name in dead:
                finished.append(name)
        if damaged:
            db.execute(
                "INSERT INTO counters VALUES ('damaged', ?) "
                "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                (damaged,),
            )
        db.execute("COMMIT")
        for name in finished:
            segments.remove(self.folder, name)
        return moved

    def _set_aside(self, read: tuple[int, int] | None) -> None:
        """Move the database away if it is damaged, and still the one that was read: another process may have been
        faster."""
        with contextlib.suppress(OSError), _fold_lock, segments.folding(self.folder, wait=0) as right:
            if right and read is not None and _identity(self._path) == read:
                with inside_sqlite:
                    damaged = not is_whole(self._path)
                if damaged:
                    self._move_aside()

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

    def _view(self) -> sqlite3.Connection:
        for _ in range(100):
            with contextlib.ExitStack() as stack:
                # Opened BEFORE the snapshot: what is folded and deleted meanwhile is seen once, here or
                # there.
                files: dict[str, BinaryIO] = {}
                for name in segments.names(self.folder):
                    if (file := segments.open_segment(self.folder, name)) is not None:
                        files[name] = stack.enter_context(file)
                there = self._path.exists()
                db = connect(self._path, "ro", FOLD_WAIT) if there else connect(Path(":memory:"), "memory", 0)
                try:
                    if self._view_in(db, files):
                        return db
                except BaseException:
                    db.close()
                    raise
                db.close()
        raise LedgerError(f"the ledger in {self.folder} changes too fast to be read")

    def _view_in(self, db: sqlite3.Connection, files: dict[str, BinaryIO]) -> bool:
        """Make ``outcomes`` and ``damage``; False when a segment went away so that it might be counted
        twice."""
        offsets: dict[str, int] = {}
        db.execute("BEGIN")
        folded = bool(db.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0])
        if folded:
            check_schema(db)
            offsets = read_offsets(db)
        db.execute(f"CREATE TEMP TABLE tail {TABLE}")
        damaged = 0
        for name, file in files.items():
            if name not in offsets and not os.fstat(file.fileno()).st_nlink:
                return False
            tail = _Tail(file, offsets.get(name, 0), dead=False)
            db.executemany(f"INSERT INTO temp.tail {INSERT}", map(to_row, tail))
            damaged += tail.damaged
        both = f"UNION ALL SELECT * FROM main.events WHERE {WHOLE}" if folded else ""  # noqa: S608
        db.execute(f"CREATE TEMP VIEW outcomes AS SELECT * FROM temp.tail {both}")  # noqa: S608
        counted = ""
        if folded:
            counted = "UNION ALL SELECT value FROM main.counters WHERE name = 'damaged' AND typeof(value) = 'integer'"
            counted += f" UNION ALL SELECT count(*) FROM main.events WHERE ({WHOLE}) IS NOT 1"  # noqa: S608
        db.execute(f"CREATE TEMP VIEW damage AS SELECT {damaged} AS value {counted}")
        return True


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


class _Tail:
    """The whole events of a segment from an offset on, counting as it goes."""

    def __init__(self, file: BinaryIO, offset: int, dead: bool) -> None:
        self._file = file
        self._dead = dead
        self.offset = offset
        self.whole = 0
        self.damaged = 0

    def __iter__(self) -> Iterator[Event]:
        self._file.seek(self.offset)
        while line := self._file.readline(LINE_LIMIT):
            if not line.endswith(b"\n") and len(line) < LINE_LIMIT and not self._dead:
                return
            self.offset += len(line)
            try:
                event = decode(line)
            except Damaged:
                self.damaged += 1
                continue
            self.whole += 1
            yield event
