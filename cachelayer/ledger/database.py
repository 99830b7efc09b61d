"""``ledger.sqlite3``: how it is opened, and what is read and written through it. Which tables it has is said in
formats.py; what is moved into them, and when, is not decided here.

Others may have written to the file, so it is opened as untrusted: no schema but ours is used, and nothing in
it is executed or unpickled. A damaged value is none that we wrote: its row fails ``WHOLE`` and counts nowhere but as
damaged. Every function here that takes a path or a connection is called inside ``inside_sqlite``.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Literal, TypeVar

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Outcome
from cachelayer.ledger import formats
from cachelayer.ledger.lines import COUNT_LIMIT, PRICINGS, Damaged
from cachelayer.ledger.pace import Pace
from cachelayer.ledger.rows import Row
from cachelayer.ledger.tally import Tally, read_text
from cachelayer.machine.interrupts import keep
from cachelayer.machine.sqlite import ERRORS, code, inside_sqlite, is_damage

T = TypeVar("T")

log = logging.getLogger("cachelayer")


def _is_cost(name: str) -> str:
    usd, pricing = f"{name}_usd", f"{name}_pricing"
    known = ", ".join(f"'{each}'" for each in PRICINGS if each != "unpriced")
    # Of one length as text and as bytes: no byte that is no digit hides behind a NUL.
    return f"""(
        {usd} IS NULL AND {pricing} IS NULL
        OR typeof({name}_reason) = 'text' AND (
            {usd} IS NULL AND {pricing} = 'unpriced'
            OR {pricing} IN ({known}) AND typeof({usd}) = 'text' AND length({usd}) = length(CAST({usd} AS BLOB))
            AND {usd} GLOB '[0-9]*' AND {usd} NOT GLOB '*[^0-9.]*' AND {usd} NOT GLOB '*.*.*' AND {usd} NOT GLOB '*.'
            AND length({usd}) <= 81 AND instr({usd} || '.', '.') <= 41
        )
    )"""


WHOLE: Final = " AND ".join(
    (
        f"outcome IN ({', '.join(repr(outcome.value) for outcome in Outcome)})",
        *(f"typeof({name}) = 'text'" for name in ("namespace", "operation", "model", "host", "normalized", "tags")),
        *(f"typeof({name}) IN ('text', 'null')" for name in ("size", "key", "reason", "extra")),
        *(
            f"typeof({name}) = 'integer' AND {name} BETWEEN 0 AND {COUNT_LIMIT}"
            for name in ("upstream", "images", "broken")
        ),
        f"(status IS NULL OR typeof(status) = 'integer' AND status BETWEEN 0 AND {COUNT_LIMIT})",
        *(f"typeof({name}) = 'real' AND abs({name}) < 9e999" for name in ("at", "wait")),
        "(latency IS NULL OR typeof(latency) = 'real' AND abs(latency) < 9e999)",
        *(_is_cost(name) for name in ("spent", "saved")),
    )
)
"""SQL: whether a row of ``events`` can be one that we wrote. SQLite checks no type when it reads, and one row of
another would make every total fail for ever. Whether its lists are lists is asked of ``rows.is_list``. A figure that
became another figure is not found out."""

_SEGMENT: Final = re.compile(r"[0-9a-f]{15}-[0-9]{6,15}", re.ASCII)


class Unreadable(Exception):
    """ledger.sqlite3 is no database of ours."""


def connect(path: Path, mode: str, wait: float) -> sqlite3.Connection:
    target = ":memory:" if mode == "memory" else f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(target, uri=mode != "memory", timeout=wait, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "temp_store = MEMORY"):
            db.execute(f"PRAGMA {pragma}")
        # A damaged name is shown with a question mark in it; raised, it would hide all other rows.
        db.text_factory = lambda data: data.decode("utf-8", "replace")
    except BaseException:
        db.close()
        raise
    return db


def open_writable(path: Path, wait: float) -> sqlite3.Connection:
    """The database in a transaction, created where there is none, with our tables and nothing that acts on them.

    wait: seconds to wait for readers and writers. Raises Unreadable when it is not ours, sqlite3.Error.
    """
    db = connect(path, "rw", wait)
    try:
        # A rollback journal, not WAL: a WAL database cannot be read in a read-only folder.
        # EXTRA: segments are deleted after the commit, which must then outlive a power cut.
        for pragma in ("journal_mode = DELETE", "synchronous = EXTRA"):
            db.execute(f"PRAGMA {pragma}").fetchall()
        db.execute("BEGIN IMMEDIATE")
        if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            formats.create(db)
            write_totals(db, Tally())
        formats.upgrade(db, formats.UPGRADES)
        check_schema(db)
        _drop_what_acts(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _drop_what_acts(db: sqlite3.Connection, path: Path) -> None:
    """A planted trigger would run at our inserts, a planted unique index refuse them. An index of a later format stays
    if it is none of these; no format has triggers."""
    later = formats.number_in(db) > formats.FORMAT
    harmless = {
        name
        for table in (formats.COLUMNS if later else ())
        for _, name, unique, *_ in db.execute(f"PRAGMA main.index_list({table})").fetchall()
        if not unique
    }
    for kind, name in db.execute(
        "SELECT type, name FROM main.sqlite_master WHERE type IN ('trigger', 'index') AND sql IS NOT NULL"
    ).fetchall():
        if name not in formats.SCHEMA and name not in harmless:
            quoted = str(name).replace('"', '""')
            db.execute(f'DROP {kind} "{quoted}"')
            log.warning("A %s that is not ours was dropped from %s: %s", kind, path, name)


def open_readable(path: Path, wait: float) -> sqlite3.Connection:
    """The database for reading, in a transaction. Raises Unreadable, sqlite3.Error."""
    db = connect(path, "ro", wait)
    try:
        db.execute("BEGIN")
        if not is_empty(db):
            check_schema(db)
    except BaseException:
        db.close()
        raise
    return db


GATE_WAIT: Final = 0.05
"""Seconds for which another process's lock on the file is waited for INSIDE the gate, where a fork waits too."""
_HELD: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def visit(
    path: Path,
    mode: Literal["read", "write"],
    work: Callable[[sqlite3.Connection], T],
    wait: float,
    pace: Pace | None = None,
) -> T:
    """What work makes of a connection in a transaction of its own, inside ``inside_sqlite``; committed in mode write.

    Tried again, outside the gate, for `wait` seconds while other processes hold the file: work may be called again.
    pace: to be told how long the stay was. Raises Unreadable, sqlite3.Error and what work raises; nothing is written
    then.
    """

    def commit(db: sqlite3.Connection) -> T:
        result = work(db)
        db.execute("COMMIT")
        return result

    opened = open_writable if mode == "write" else open_readable
    until = time.monotonic() + wait
    while True:
        try:
            with inside_sqlite:
                begin = time.monotonic()
                result = using(opened, path, GATE_WAIT, commit)
                if pace is not None:
                    pace.took(time.monotonic() - begin)
                return result
        except sqlite3.OperationalError as error:
            if code(error) not in _HELD or time.monotonic() >= until:
                raise
        time.sleep(0.01)


_Open = Callable[[Path, float], sqlite3.Connection]


def using(opened: _Open, path: Path, wait: float, work: Callable[[sqlite3.Connection], T]) -> T:
    """What work makes of a connection, which is closed then. No context manager, for the reason in machine/locks.py."""
    held: list[sqlite3.Connection] = []
    try:
        keep(held, opened, path, wait)
        return work(held[0])
    finally:
        for db in held:
            db.close()


def is_empty(db: sqlite3.Connection) -> bool:
    """Whether there is no table at all: a fold has made the file, and has committed nothing yet."""
    return not db.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]


def check_schema(db: sqlite3.Connection) -> None:
    """Raise Unreadable unless our tables are exactly ours (a table could be a view, or have a trap for a
    column), or those of a later format; NewerLedger where that is not for us."""
    number = formats.number_in(db)
    found = dict(db.execute("SELECT name, sql FROM main.sqlite_master").fetchall())
    if number > formats.FORMAT:
        formats.check_later(db)
    elif number < formats.FORMAT:
        raise LedgerError(f"the ledger is of format {number}, and can be brought up to date only where it is written")
    elif any(found.get(name) != sql for name, sql in formats.SCHEMA.items()):
        raise Unreadable("its tables are not those of this version")
    if db.execute("PRAGMA main.auto_vacuum").fetchone() != (0,):
        raise Unreadable("its header is not one of this version")  # commits would end as "disk full"


def read_totals(db: sqlite3.Connection) -> Tally | None:
    """The sums of all that was folded; None when they are not those of the rows that are there."""
    texts = db.execute("SELECT value FROM totals LIMIT 2").fetchall()
    if len(texts) != 1:
        return None
    try:
        tally, last = read_text(texts[0][0])
    except Damaged:
        return None
    return tally if last == last_rows(db) else None


def write_totals(db: sqlite3.Connection, tally: Tally) -> None:
    """Put the sums beside the rows, in the transaction that changed those."""
    db.execute("DELETE FROM totals")
    db.execute("INSERT INTO totals (value) VALUES (?)", (tally.text(**last_rows(db)),))


def last_rows(db: sqlite3.Connection) -> dict[str, int]:
    """The last row of the tables that the totals add up."""
    (events, notes) = db.execute("SELECT (SELECT max(rowid) FROM events), (SELECT max(rowid) FROM notes)").fetchone()
    return {"events": events or 0, "notes": notes or 0}


def read_counter(db: sqlite3.Connection, name: str) -> int:
    """A counter, 0 where it is damaged."""
    found = db.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
    return found[0] if found is not None and type(found[0]) is int else 0


def raise_counter(db: sqlite3.Connection, name: str, by: int) -> None:
    """Add to a counter."""
    if by:
        db.execute(
            "INSERT OR REPLACE INTO counters (name, value) VALUES (?, ?)",
            (name, min(read_counter(db, name) + by, 2**62)),
        )


def insert(db: sqlite3.Connection, table: Literal["events", "notes"], rows: Iterable[Row]) -> None:
    """Put rows into a table."""
    columns = formats.COLUMNS[table]
    marks = ", ".join("?" * len(columns))
    db.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)  # noqa: S608


def read_offsets(db: sqlite3.Connection) -> dict[str, int]:
    """How far each segment was read. Raises Unreadable when that cannot be known: outcomes would count twice."""
    offsets = dict(db.execute("SELECT name, offset FROM segments").fetchall())
    if not all(
        _SEGMENT.fullmatch(str(name)) and type(offset) is int and offset >= 0 for name, offset in offsets.items()
    ):
        raise Unreadable("it does not say how far the segments were read")
    return offsets


def is_whole(path: Path) -> bool:
    """Whether the tables are ours and every page and row can be read, damaged values or not. True when in doubt."""

    def look(db: sqlite3.Connection) -> bool:
        read_offsets(db)
        db.execute(f"SELECT count(*) FROM events WHERE {WHOLE}").fetchone()  # noqa: S608
        return bool(db.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))

    try:
        return using(open_readable, path, 0, look)
    except Unreadable:
        return False
    except ERRORS as error:
        return not is_damage(error)
