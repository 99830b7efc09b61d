"""The tables of ``ledger.sqlite3``: schema, rows, connections. What is moved into them, and when, is not
decided here.

Others may have written to the file, so it is opened as untrusted: no schema but ours is used, and nothing in
it is executed or unpickled.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import cast

from cachelayer.core.model import Cost, Event, Outcome, Pricing
from cachelayer.ledger.lines import add, plain

log = logging.getLogger("cachelayer")

COLUMNS = (
    "at, outcome, namespace, operation, model, size, host, key, reason, status, upstream, "
    "spent_usd, spent_pricing, spent_reason, saved_usd, saved_pricing, saved_reason, "
    "images, wait, latency, broken, normalized, tags"
)
INSERT = f"({COLUMNS}) VALUES ({', '.join('?' * 23)})"
TABLE = """(
    at REAL NOT NULL,
    outcome TEXT NOT NULL,
    namespace TEXT NOT NULL,
    operation TEXT NOT NULL,
    model TEXT NOT NULL,
    size TEXT,
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
    "events": f"CREATE TABLE events {TABLE}",
    "events_at": "CREATE INDEX events_at ON events (at)",
    "segments": "CREATE TABLE segments (name TEXT PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID",
    "counters": "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
}
_Row = tuple[str | int | float | None, ...]


class Unreadable(Exception):
    """ledger.sqlite3 is no database of ours."""


class DecimalSum:
    """SQL aggregate: the exact sum of money kept as TEXT, as TEXT; NULL of no rows."""

    def __init__(self) -> None:
        self._sum = Decimal(0)

    def step(self, usd: str | None) -> None:
        if usd is not None:
            self._sum = add(self._sum, Decimal(usd))

    def finalize(self) -> str:
        return plain(self._sum)


def connect(path: Path, mode: str, wait: float) -> sqlite3.Connection:
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


def open_writable(path: Path, wait: float) -> sqlite3.Connection:
    """The database, created where there is none, with our tables and nothing that acts on them.

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
            for statement in _SCHEMA.values():
                db.execute(statement)
        check_schema(db)
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


def check_schema(db: sqlite3.Connection) -> None:
    """Raise Unreadable unless our tables are exactly ours (a table could be a view, or have a trap for a
    column)."""
    found = dict(db.execute("SELECT name, sql FROM main.sqlite_master").fetchall())
    if any(found.get(name) != sql for name, sql in _SCHEMA.items()):
        raise Unreadable("its tables are not those of this version")


def is_corrupt(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def to_row(event: Event) -> _Row:
    return (
        event.at,
        event.outcome.value,
        event.namespace,
        event.operation,
        event.model,
        event.size,
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


def to_event(row: tuple[str, ...]) -> Event:
    (at, outcome, namespace, operation, model, size, host, key, reason, status, upstream, *costs) = row[:17]
    images, wait, latency, broken, normalized, tags = row[17:]
    return Event(
        outcome=Outcome(outcome),
        at=cast(float, at),
        namespace=namespace,
        operation=operation,
        model=model,
        size=cast(str | None, size),
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
