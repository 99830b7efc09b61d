"""The tables of ``ledger.sqlite3`` by the number of their format, and how older ones become today's.

The number stands in the file's header (``user_version``). Whoever has the right to fold brings an older file up to
today's, in one transaction; a process that had it open sees the number at its next transaction.

Versions may use one ledger in turn, so that what one adds the others keep and pass over. Another table needs no new
number. A new column, or a new field or kind of line (lines.py), needs one, even where nothing is to be done: what an
older version could not read has then a number below today's, and is read again. A column and a field never change
their meaning: what means something else has another name. A file of a later format is used where all of our columns are
there; where one is gone, it is left alone (``NewerLedger``), and so are the segments.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

from cachelayer.core.errors import LedgerError

Upgrade = Callable[[sqlite3.Connection], None]
"""Takes the tables, in a transaction, from one format to the next. A fork waits for it."""

UPGRADES: tuple[Upgrade, ...] = ()
"""The first leads from format 1 to 2, and so on. None is ever taken out: a ledger may be as old as it likes."""

FORMAT: Final = 1 + len(UPGRADES)

EVENTS: Final[dict[str, str]] = {
    "at": "REAL NOT NULL",
    "outcome": "TEXT NOT NULL",
    "namespace": "TEXT NOT NULL",
    "operation": "TEXT NOT NULL",
    "model": "TEXT NOT NULL",
    "size": "TEXT",
    "host": "TEXT NOT NULL",
    "key": "TEXT",
    "reason": "TEXT",
    "status": "INTEGER",
    "upstream": "INTEGER NOT NULL",
    "spent_usd": "TEXT",
    "spent_pricing": "TEXT",
    "spent_reason": "TEXT",
    "saved_usd": "TEXT",
    "saved_pricing": "TEXT",
    "saved_reason": "TEXT",
    "images": "INTEGER NOT NULL",
    "wait": "REAL NOT NULL",
    "latency": "REAL",
    "broken": "INTEGER NOT NULL",
    "normalized": "TEXT NOT NULL",
    "tags": "TEXT NOT NULL",
    "extra": "TEXT",
}
NOTES: Final[dict[str, str]] = {
    "at": "REAL NOT NULL",
    "kind": "TEXT NOT NULL",
    "what": "TEXT NOT NULL",
    "error": "TEXT NOT NULL",
    "count": "INTEGER NOT NULL",
    "namespace": "TEXT NOT NULL",
    "model": "TEXT NOT NULL",
    "host": "TEXT NOT NULL",
    "usd": "TEXT",
    "pricing": "TEXT",
    "pricing_reason": "TEXT",
    "extra": "TEXT",
}
COLUMNS: Final[dict[str, dict[str, str]]] = {
    "events": EVENTS,
    "notes": NOTES,
    "calls": {"call": "TEXT PRIMARY KEY", "state": "TEXT NOT NULL", "begun": "TEXT", "event": "INTEGER"},
    "totals": {"value": "TEXT NOT NULL"},
    # Lines that only a later version can read, and the latest format that has tried.
    "later": {"line": "TEXT NOT NULL", "format": "INTEGER NOT NULL"},
    "segments": {"name": "TEXT PRIMARY KEY", "offset": "INTEGER NOT NULL"},
    "counters": {"name": "TEXT PRIMARY KEY", "value": "INTEGER NOT NULL"},
}
_WITHOUT_ROWID: Final = ("calls", "segments", "counters")


def _create(table: str, columns: dict[str, str]) -> str:
    inside = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return f"CREATE TABLE {table} ({inside}){' WITHOUT ROWID' if table in _WITHOUT_ROWID else ''}"


SCHEMA: Final[dict[str, str]] = {
    **{table: _create(table, columns) for table, columns in COLUMNS.items()},
    "events_at": "CREATE INDEX events_at ON events (at)",
}
"""By name, the SQL of what a fresh file of today's format holds."""


class NewerLedger(LedgerError):
    """The file is of a later format, and not all of ours is there."""


def number_in(db: sqlite3.Connection) -> int:
    """The format that a file says it has."""
    return max(1, int(db.execute("PRAGMA user_version").fetchone()[0]))


def create(db: sqlite3.Connection) -> None:
    """Make the tables of a fresh file, in a transaction."""
    for statement in SCHEMA.values():
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {FORMAT}")


def upgrade(db: sqlite3.Connection, upgrades: Sequence[Upgrade]) -> None:
    """Bring a file up to the format that the last of the upgrades leads to, in the caller's transaction."""
    for number in range(number_in(db), 1 + len(upgrades)):
        upgrades[number - 1](db)
        db.execute(f"PRAGMA user_version = {number + 1}")


def check_later(db: sqlite3.Connection) -> None:
    """Raise NewerLedger unless a file of a later format has all that we read and write, and lets us leave out the
    rest."""
    tables = {name for (name,) in db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall()}
    for table, columns in COLUMNS.items():
        found, left_out = set[tuple[str, str, bool]](), True
        for _, name, kind, needed, default, key, hidden in db.execute(f"PRAGMA main.table_xinfo({table})").fetchall():
            if name not in columns:
                left_out = left_out and not (needed and default is None and not hidden) and not key
            elif not hidden:
                found.add((name, kind, bool(key)))
        ours = {(name, kind.split()[0], "PRIMARY KEY" in kind) for name, kind in columns.items()}
        if table not in tables or found != ours or not left_out:
            raise NewerLedger(
                f"the ledger is of format {number_in(db)}, this version knows {FORMAT}: update cachelayer"
            )
