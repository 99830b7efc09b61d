"""What stands in entries/cache.db: diskcache's settings and tables as we expect them, and our own beside them.

Only declarations live here, and the comparison made before diskcache is let near a file. It is made with plain
sqlite3, because diskcache obeys what it finds: a settings row named ``sqlite_x`` runs as a PRAGMA, one named
``close`` replaces the method.
"""

from __future__ import annotations

import re
import sqlite3

PAGE = 4096
"""Bytes of a page of the index, whatever this build of SQLite prefers: the size limit counts in them."""

SETTINGS: dict[str, int | str] = {
    "cull_limit": 0,
    "disk_min_file_size": 0,
    "disk_pickle_protocol": 0,
    "eviction_policy": "none",
    "size_limit": 2**63 - 1,
    # Incremental: free pages are used again, and given back when their room is wanted (space.py). Rejected: FULL, which
    # moves pages at each commit and on a damaged index ends as "disk full", which would never be repaired.
    "sqlite_auto_vacuum": 2,
    "sqlite_cache_size": 2048,
    "sqlite_journal_mode": "wal",
    "sqlite_journal_size_limit": 2 * 2**20,
    # No mmap: a file cut short under a mapping ends the process with SIGBUS instead of an error.
    "sqlite_mmap_size": 0,
    "sqlite_secure_delete": 1,
    "sqlite_synchronous": 1,
    "sqlite_wal_autocheckpoint": 0,  # index.py does it
    "statistics": 0,
    "tag_index": 0,
}
"""Every setting that diskcache 5.6.3 keeps. Its size limit and culling are off: they count items,
we count bytes."""

COUNTERS = ("count", "hits", "misses", "size")
"""Rows of Settings that diskcache counts in; any number from 0."""

_DISKCACHE = (
    "CREATE TABLE Settings ( key TEXT NOT NULL UNIQUE, value)",
    "CREATE TABLE Cache ( rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL, expire_time REAL,"
    " access_time REAL, access_count INTEGER DEFAULT 0, tag BLOB, size INTEGER DEFAULT 0, mode INTEGER DEFAULT 0,"
    " filename TEXT, value BLOB)",
    "CREATE UNIQUE INDEX Cache_key_raw ON Cache(key, raw)",
    "CREATE INDEX Cache_expire_time ON Cache (expire_time)",
    "CREATE TRIGGER Settings_count_insert AFTER INSERT ON Cache FOR EACH ROW BEGIN"
    ' UPDATE Settings SET value = value + 1 WHERE key = "count"; END',
    "CREATE TRIGGER Settings_count_delete AFTER DELETE ON Cache FOR EACH ROW BEGIN"
    ' UPDATE Settings SET value = value - 1 WHERE key = "count"; END',
    "CREATE TRIGGER Settings_size_insert AFTER INSERT ON Cache FOR EACH ROW BEGIN"
    ' UPDATE Settings SET value = value + NEW.size WHERE key = "size"; END',
    "CREATE TRIGGER Settings_size_update AFTER UPDATE ON Cache FOR EACH ROW BEGIN"
    ' UPDATE Settings SET value = value + NEW.size - OLD.size WHERE key = "size"; END',
    "CREATE TRIGGER Settings_size_delete AFTER DELETE ON Cache FOR EACH ROW BEGIN"
    ' UPDATE Settings SET value = value - OLD.size WHERE key = "size"; END',
)
"""diskcache 5.6.3, as sqlite_master spells it."""

OURS = (
    # One row per entry. bytes: of its record. used, stored, expires: unix seconds.
    "CREATE TABLE Entry (key TEXT PRIMARY KEY, bytes INTEGER NOT NULL, used REAL NOT NULL, stored REAL NOT NULL,"
    " expires REAL) WITHOUT ROWID",
    "CREATE INDEX Entry_used ON Entry (used)",
    "CREATE INDEX Entry_stored ON Entry (stored, key)",
    "CREATE INDEX Entry_expires ON Entry (expires) WHERE expires IS NOT NULL",
    # One row per blob file in its place. disk: its whole blocks, in bytes. idle: 1 when nothing was found to need it;
    # asked again before it goes.
    "CREATE TABLE Blob (digest TEXT PRIMARY KEY, bytes INTEGER NOT NULL, disk INTEGER NOT NULL,"
    " idle INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX Blob_idle ON Blob (digest) WHERE idle = 1",
    "CREATE TABLE Reference (digest TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (digest, key)) WITHOUT ROWID",
    "CREATE INDEX Reference_key ON Reference (key)",
    # One row per folder blobs/ab: it takes blocks too, and stays.
    "CREATE TABLE Shelf (name TEXT PRIMARY KEY, disk INTEGER NOT NULL) WITHOUT ROWID",
    # Room taken by a writer or collector at work (of files, and pages of this index), and the blobs that a writer is
    # about to refer to.
    "CREATE TABLE Reservation (id TEXT PRIMARY KEY, writer TEXT NOT NULL, disk INTEGER NOT NULL,"
    " pages INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE Claim (digest TEXT NOT NULL, reservation TEXT NOT NULL,"
    " PRIMARY KEY (digest, reservation)) WITHOUT ROWID",
    "CREATE INDEX Claim_reservation ON Claim (reservation)",
    # Apart from Entry, so that a note of use does not rewrite it. request: zlib.
    "CREATE TABLE Canonical (key TEXT PRIMARY KEY, request BLOB NOT NULL)",
    # What files take that the size limit binds, kept by triggers so that no statement can forget it. The rest of the
    # sum is in the header of this very file: its pages (measure.py).
    "CREATE TABLE Held (disk INTEGER NOT NULL)",
    *(
        f"CREATE TRIGGER {table}_{event.split()[0].lower()} AFTER {event} ON {table} BEGIN"  # noqa: S608 (constants)
        f" UPDATE Held SET disk = disk {change}; END"
        for table in ("Blob", "Shelf", "Reservation")
        for event, change in (
            ("INSERT", "+ NEW.disk"),
            ("DELETE", "- OLD.disk"),
            ("UPDATE OF disk", "+ NEW.disk - OLD.disk"),
        )
    ),
)


TABLES = _DISKCACHE + OURS


def prepare(connection: sqlite3.Connection) -> None:
    """Settle what cannot be changed once there are tables. The file must be empty."""
    connection.execute(f"PRAGMA page_size = {PAGE}")
    connection.execute(f"PRAGMA auto_vacuum = {SETTINGS['sqlite_auto_vacuum']}")
    connection.execute(f"PRAGMA journal_mode = {SETTINGS['sqlite_journal_mode']}").fetchall()


def create(connection: sqlite3.Connection) -> None:
    """Make diskcache's tables, as it would, and ours."""
    for statement in TABLES:
        connection.execute(statement)
    connection.executemany(
        "INSERT INTO Settings VALUES (?, ?)", [*SETTINGS.items(), *((counter, 0) for counter in COUNTERS)]
    )
    connection.execute("INSERT INTO Held VALUES (0)")


def find_fault(connection: sqlite3.Connection) -> str | None:
    """Why this database is not one that this version wrote; None when it is.

    Runs nothing that the database contains: the tables are compared before a row is read.
    """
    expected = {_name(statement): statement for statement in TABLES}
    found: dict[str, str] = {}
    for name, sql in connection.execute("SELECT name, sql FROM sqlite_master"):
        if sql is None and str(name).startswith("sqlite_autoindex_"):
            continue
        found[str(name)] = str(sql)
    if not found:
        return "it is empty"
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            return f"it lacks {name}"
        if name not in expected:
            if not _LATER.fullmatch(found[name]):
                return f"it holds {name!r}, which cachelayer does not write"
        elif found[name] != expected[name] and not (
            expected[name] in OURS and _has_later_columns(found[name], expected[name])
        ):
            return f"{name} is not as cachelayer writes it"
    settings = dict(connection.execute("SELECT key, value FROM Settings"))
    for name in sorted(settings.keys() | SETTINGS.keys() | set(COUNTERS), key=str):
        if name not in settings:
            return f"it lacks the setting {name!r}"
        value = settings[name]
        if name in COUNTERS:
            if type(value) is not int:
                return f"its setting {name!r} is not a number"
        elif name not in SETTINGS:
            return f"it holds a setting {name!r}, which cachelayer does not write"
        elif type(value) is not type(SETTINGS[name]) or value != SETTINGS[name]:
            return f"its setting {name!r} is not as cachelayer writes it"
    if [type(value) for (value,) in connection.execute("SELECT disk FROM Held")] != [int]:
        return "its sum of bytes is not one number"
    header = [connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "auto_vacuum")]
    if header != [(PAGE,), (SETTINGS["sqlite_auto_vacuum"],)]:
        return "its header is not as cachelayer writes it"
    return None


def _has_later_columns(found: str, expected: str) -> bool:
    """Whether a table is ours with more columns."""
    more = len(found) - len(expected)
    return any(
        found[:at] == expected[:at]
        and found[at + more :] == expected[at:]
        and _LATER_COLUMNS.fullmatch(found, at, at + more) is not None
        for at in range(len(expected))
    )


_LATER = re.compile(
    r"CREATE (TABLE \w+ ?\([^;]*\)( WITHOUT ROWID)?|INDEX \w+ ON (?!Cache\b|Settings\b)\w+ ?\([\w, ]+\))", re.ASCII
)
"""What a later version may add without a new format: tables, and indexes that refuse nothing. Triggers and views act
on what we do: they never stand there unknown."""
_LATER_COLUMNS = re.compile(r"(, \w+ (TEXT|REAL|INTEGER|BLOB)(( NOT NULL)? DEFAULT ('[^']*'|-?[0-9.]+))?)+", re.ASCII)
"""Columns that an older version may leave out."""


def _name(statement: str) -> str:
    words = statement.replace("(", " ").split()
    return words[3] if words[1] == "UNIQUE" else words[2]
