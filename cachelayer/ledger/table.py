"""The tables of ``ledger.sqlite3``: schema, rows, connections. What is moved into them, and when, is not
decided here.

Others may have written to the file, so it is opened as untrusted: no schema but ours is used, and nothing in
it is executed or unpickled. A damaged value is none that we wrote: its row fails ``WHOLE`` and counts nowhere but as
damaged. Every function here that takes a path or a connection is called inside ``inside_sqlite``.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Final, cast

from cachelayer.core.model import Cost, Event, Outcome, Pricing
from cachelayer.ledger.lines import COUNT_LIMIT, PRICINGS, add, plain
from cachelayer.sqlite import ERRORS, is_damage

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
        *(f"typeof({name}) = 'text'" for name in ("namespace", "operation", "model", "host")),
        *(f"typeof({name}) IN ('text', 'null')" for name in ("size", "key", "reason")),
        *(
            f"typeof({name}) = 'integer' AND {name} BETWEEN 0 AND {COUNT_LIMIT}"
            for name in ("upstream", "images", "broken")
        ),
        f"(status IS NULL OR typeof(status) = 'integer' AND status BETWEEN 0 AND {COUNT_LIMIT})",
        *(f"typeof({name}) = 'real' AND abs({name}) < 9e999" for name in ("at", "wait")),
        "(latency IS NULL OR typeof(latency) = 'real' AND abs(latency) < 9e999)",
        *(_is_cost(name) for name in ("spent", "saved")),
        *(f"({name} = '[]' OR is_list(CAST({name} AS BLOB)))" for name in ("normalized", "tags")),
    )
)
"""SQL: whether a row of ``events`` can be one that we wrote. SQLite checks no type when it reads, and one row of
another would make every total fail for ever. A figure that became another figure is not found out."""

_SEGMENT: Final = re.compile(r"[0-9a-f]{15}")
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


def _is_list(value: bytes | None) -> bool:
    try:
        items = json.loads(value or b"")
    except (ValueError, RecursionError):
        return False
    return isinstance(items, list) and all(isinstance(item, str) for item in items)


def connect(path: Path, mode: str, wait: float) -> sqlite3.Connection:
    target = ":memory:" if mode == "memory" else f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(target, uri=mode != "memory", timeout=wait, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "temp_store = MEMORY"):
            db.execute(f"PRAGMA {pragma}")
        db.create_aggregate("decimal_sum", 1, DecimalSum)  # type: ignore[arg-type]  # finalize gives TEXT
        db.create_function("is_list", 1, _is_list, deterministic=True)
        # A damaged name is shown with a question mark in it; raised, it would hide all other rows.
        db.text_factory = lambda data: data.decode("utf-8", "replace")
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
                quoted = str(name).replace('"', '""')
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
    if db.execute("PRAGMA main.auto_vacuum").fetchone() != (0,):
        raise Unreadable("its header is not one of this version")  # commits would end as "disk full"


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
    try:
        with closing(connect(path, "ro", 0)) as db:
            check_schema(db)
            read_offsets(db)
            db.execute(f"SELECT count(*) FROM events WHERE {WHOLE}").fetchone()  # noqa: S608
            return bool(db.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))
    except Unreadable:
        return False
    except ERRORS as error:
        return not is_damage(error)


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
