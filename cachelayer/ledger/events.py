"""The durable list of outcomes: written to segments, folded exactly once into ``ledger.sqlite3``, read as
one table.

Only the life of events on disk lives here; what a line looks like is in ``lines``, whose a segment is in
``segments``, what is asked of the table in ``reports``.

Exactly once: the rows of a segment and the offset up to which it was read are committed together, and a
segment is deleted only after the commit that holds its end is on the disk. Its offset row goes when its
file is gone; names are random and never come back.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, Final, cast

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Cost, Event, Outcome, Pricing
from cachelayer.ledger import segments
from cachelayer.ledger.lines import LINE_LIMIT, Damaged, add, decode, encode, plain

log = logging.getLogger("cachelayer")

FOLD_WAIT: Final = 30.0
"""Seconds that ``fold`` waits for another process's fold (100,000 outcomes take about two)."""

_COLUMNS = (
    "at, outcome, namespace, operation, model, host, key, reason, status, upstream, "
    "spent_usd, spent_pricing, spent_reason, saved_usd, saved_pricing, saved_reason, "
    "images, wait, latency, broken, normalized, tags"
)
_INSERT = f"({_COLUMNS}) VALUES ({', '.join('?' * 22)})"
_TABLE = """(
    at REAL NOT NULL,
    outcome TEXT NOT NULL,
    namespace TEXT NOT NULL,
    operation TEXT NOT NULL,
    model TEXT NOT NULL,
    host TEXT NOT NULL,
    key TEXT,
    reason TEXT,
    status INTEGER,
    upstream INTEGER NOT NULL,
    spent_usd TEXT,
    spent_pricing TEXT,
    spent_reason TEXT,
    saved_usd TEXT,
    saved_pricing TEXT,
    saved_reason TEXT,
    images INTEGER NOT NULL,
    wait REAL NOT NULL,
    latency REAL,
    broken INTEGER NOT NULL,
    normalized TEXT NOT NULL,
    tags TEXT NOT NULL
)"""
_SCHEMA = {
    "events": f"CREATE TABLE events {_TABLE}",
    "events_at": "CREATE INDEX events_at ON events (at)",
    "segments": "CREATE TABLE segments (name TEXT PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID",
    "counters": "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
}
_Row = tuple[str | int | float | None, ...]

# fcntl locks do not hold among threads. Replaced in a forked child, whose copy may be held by a thread that
# it does not have.
_fold_lock = threading.Lock()


def _forked() -> None:
    global _fold_lock
    _fold_lock = threading.Lock()


os.register_at_fork(after_in_child=_forked)


class _Unreadable(Exception):
    """ledger.sqlite3 is no database of ours."""


class Ledger:
    """The ledger in one folder. Any number of objects, threads and processes may use one folder at once.

    Constructing touches no file. Every method raises LedgerError, and nothing else, when the folder cannot
    do it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
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

    def close(self) -> None:
        """Let go of this process's segment and its descriptors, of other Ledgers of this folder too. Idempotent; a
        later record opens them anew. Not closing loses nothing."""
        self._writer.close()

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

    def events(self, since: float | None = None) -> Iterator[Event]:
        """The outcomes from ``since`` (unix seconds) on, oldest first. Folds wait while the iterator is open."""
        with self.reading() as db:
            where = "" if since is None else "WHERE at >= ?"
            parameters = () if since is None else (since,)
            for row in db.execute(f"SELECT {_COLUMNS} FROM outcomes {where} ORDER BY at", parameters):  # noqa: S608
                yield _event(row)

    def damaged(self) -> int:
        """Lines that were skipped because their checksum was wrong or their end was missing."""
        with self.reading() as db:
            return sum(int(value) for (value,) in db.execute("SELECT value FROM damage"))

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A consistent view of all outcomes recorded before: table ``outcomes``, with the columns of
        ``events`` in docs/storage.md and the aggregate decimal_sum(TEXT).

        Folds first where it can. Where it cannot (read-only, another fold under way) what is not folded yet
        is read into memory, so that the view is as complete. Raises LedgerError.
        """
        with contextlib.suppress(LedgerError):
            self._fold(wait=0)
        try:
            with contextlib.closing(self._view()) as db:
                yield db
        except (sqlite3.Error, OSError, _Unreadable) as error:
            if isinstance(error, sqlite3.DatabaseError) and _is_corrupt(error):
                # Damage in pages that a fold does not touch is found only here; the next reading begins anew.
                self._set_aside()
            raise LedgerError(f"cannot read the ledger in {self.folder}: {error}") from error

    def _fold(self, *, wait: float) -> int | None:
        """As ``fold``; None when somebody else is folding."""
        if not self.folder.is_dir():
            return 0
        if not _fold_lock.acquire(timeout=wait if wait else 0):
            return None
        try:
            with segments.folding(self.folder, wait=wait) as right:
                return self._fold_alone(right, wait) if right else None
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"cannot fold the ledger in {self.folder}: {error}") from error
        finally:
            _fold_lock.release()

    def _fold_alone(self, right: segments.Folding, wait: float) -> int:
        found = segments.names(self.folder)
        path = self.folder / "ledger.sqlite3"
        if not found and not path.exists():
            return 0
        # Before sqlite does, which would go by the umask; its journals take the mode of the database.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            with contextlib.closing(self._writable(path, wait)) as db:
                return self._fold_into(db, found, right)
        except (_Unreadable, sqlite3.DatabaseError) as error:
            if not isinstance(error, _Unreadable) and not _is_corrupt(error):
                raise
        self._move_aside(path)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with contextlib.closing(self._writable(path, wait)) as db:
            return self._fold_into(db, found, right)

    def _fold_into(self, db: sqlite3.Connection, found: list[str], right: segments.Folding) -> int:
        moved = damaged = 0
        finished: list[str] = []
        db.execute("BEGIN IMMEDIATE")
        offsets = dict(db.execute("SELECT name, offset FROM segments").fetchall())
        db.executemany("DELETE FROM segments WHERE name = ?", [(name,) for name in offsets if name not in set(found)])
        for name in found:
            # Asked BEFORE reading: what a writer adds between reading and asking would be deleted unread.
            dead = right.is_dead(name)
            file = segments.open_segment(self.folder, name)
            if file is None:
                continue
            with file:
                tail = _Tail(file, offsets.get(name, 0), dead)
                db.executemany(f"INSERT INTO events {_INSERT}", map(_row, tail))
            moved += tail.whole
            damaged += tail.damaged
            db.execute("INSERT OR REPLACE INTO segments VALUES (?, ?)", (name, tail.offset))
            if dead:
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

    def _set_aside(self) -> None:
        """Move the database away if it is still the corrupt one: another process may have been faster."""
        path = self.folder / "ledger.sqlite3"
        with contextlib.suppress(OSError), _fold_lock, segments.folding(self.folder, wait=0) as right:
            try:
                with contextlib.closing(_connect(path, "ro", 0)) as db:
                    whole = db.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
            except sqlite3.DatabaseError as error:
                whole = not _is_corrupt(error)
            if right and not whole:
                self._move_aside(path)

    def _move_aside(self, path: Path) -> None:
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

    def _writable(self, path: Path, wait: float) -> sqlite3.Connection:
        db = _connect(path, "rw", wait)
        try:
            # A rollback journal, not WAL: a WAL database cannot be read in a read-only folder.
            # EXTRA: segments are deleted after the commit, which must then outlive a power cut.
            for pragma in ("journal_mode = DELETE", "synchronous = EXTRA"):
                db.execute(f"PRAGMA {pragma}").fetchall()
            db.execute("BEGIN IMMEDIATE")
            if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA.values():
                    db.execute(statement)
            _check_schema(db)
            for kind, name in db.execute(
                "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'index') AND sql IS NOT NULL"
            ).fetchall():
                # A planted trigger would run at our inserts, a planted unique index refuse them.
                if name not in _SCHEMA:
                    quoted = name.replace('"', '""')
                    db.execute(f'DROP {kind} "{quoted}"')
                    log.warning("A %s that is not ours was dropped from %s: %s", kind, path, name)
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    def _view(self) -> sqlite3.Connection:
        for _ in range(100):
            with contextlib.ExitStack() as stack:
                # Opened BEFORE the snapshot: what is folded and deleted meanwhile is seen once, here or
                # there.
                files: dict[str, BinaryIO] = {}
                for name in segments.names(self.folder):
                    if (file := segments.open_segment(self.folder, name)) is not None:
                        files[name] = stack.enter_context(file)
                path = self.folder / "ledger.sqlite3"
                db = _connect(path, "ro", FOLD_WAIT) if path.exists() else _connect(Path(":memory:"), "memory", 0)
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
            _check_schema(db)
            offsets = dict(db.execute("SELECT name, offset FROM segments").fetchall())
        db.execute(f"CREATE TEMP TABLE tail {_TABLE}")
        damaged = 0
        for name, file in files.items():
            if name not in offsets and not os.fstat(file.fileno()).st_nlink:
                return False
            tail = _Tail(file, offsets.get(name, 0), dead=False)
            db.executemany(f"INSERT INTO temp.tail {_INSERT}", map(_row, tail))
            damaged += tail.damaged
        both = "UNION ALL SELECT * FROM main.events" if folded else ""
        db.execute(f"CREATE TEMP VIEW outcomes AS SELECT * FROM temp.tail {both}")  # noqa: S608
        counted = "UNION ALL SELECT value FROM main.counters WHERE name = 'damaged'" if folded else ""
        db.execute(f"CREATE TEMP VIEW damage AS SELECT {damaged} AS value {counted}")
        return True


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


class DecimalSum:
    """SQL aggregate: the exact sum of money kept as TEXT, as TEXT; NULL of no rows."""

    def __init__(self) -> None:
        self._sum = Decimal(0)

    def step(self, usd: str | None) -> None:
        if usd is not None:
            self._sum = add(self._sum, Decimal(usd))

    def finalize(self) -> str:
        return plain(self._sum)


def _connect(path: Path, mode: str, wait: float) -> sqlite3.Connection:
    target = ":memory:" if mode == "memory" else f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(target, uri=mode != "memory", timeout=wait, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "temp_store = MEMORY"):
            db.execute(f"PRAGMA {pragma}")
        db.create_aggregate("decimal_sum", 1, DecimalSum)  # type: ignore[arg-type]  # finalize gives TEXT
    except BaseException:
        db.close()
        raise
    return db


def _check_schema(db: sqlite3.Connection) -> None:
    """Raise _Unreadable unless our tables are exactly ours (a table could be a view, or have a trap for a
    column)."""
    found = dict(db.execute("SELECT name, sql FROM main.sqlite_master").fetchall())
    if any(found.get(name) != sql for name, sql in _SCHEMA.items()):
        raise _Unreadable("its tables are not those of this version")


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _row(event: Event) -> _Row:
    return (
        event.at,
        event.outcome.value,
        event.namespace,
        event.operation,
        event.model,
        event.host,
        event.key,
        event.reason,
        event.status,
        event.upstream,
        *_cost_columns(event.spent),
        *_cost_columns(event.saved),
        event.images,
        event.wait,
        event.latency,
        event.broken,
        json.dumps(event.normalized, ensure_ascii=False, separators=(",", ":")),
        json.dumps(event.tags, ensure_ascii=False, separators=(",", ":")),
    )


def _cost_columns(cost: Cost | None) -> _Row:
    if cost is None:
        return None, None, None
    return None if cost.usd is None else plain(cost.usd), cost.pricing, cost.reason


def _event(row: tuple[str, ...]) -> Event:
    (at, outcome, namespace, operation, model, host, key, reason, status, upstream, *costs) = row[:16]
    images, wait, latency, broken, normalized, tags = row[16:]
    return Event(
        outcome=Outcome(outcome),
        at=cast(float, at),
        namespace=namespace,
        operation=operation,
        model=model,
        host=host,
        key=key,
        reason=reason,
        status=cast(int | None, status),
        upstream=cast(int, upstream),
        spent=_cost(*costs[:3]),
        saved=_cost(*costs[3:]),
        images=cast(int, images),
        wait=cast(float, wait),
        latency=cast(float | None, latency),
        broken=cast(int, broken),
        normalized=tuple(json.loads(normalized)),
        tags=tuple(json.loads(tags)),
    )


def _cost(usd: str | None, pricing: str | None, reason: str) -> Cost | None:
    if pricing is None:
        return None
    return Cost(None if usd is None else Decimal(usd), cast(Pricing, pricing), reason)
