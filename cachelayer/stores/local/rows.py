"""The rows of our tables. Statements only, each in a transaction that its caller has begun."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cachelayer.core.policy import CLOCK_LEEWAY
from cachelayer.stores.base import Head
from cachelayer.stores.local.blobs import DIGEST, BlobFiles, Extent
from cachelayer.stores.local.index import Index
from cachelayer.stores.local.writers import Writer

CANONICAL_LIMIT = 1_000_000
"""Bytes, compressed. A longer canonical request is not kept: it is there to be looked at, and what is overwritten when
it goes passes through the write-ahead log as a whole."""

CLAMPED = 64
"""Entries brought out of the future in one transaction."""

_UNUSED = (
    "NOT EXISTS (SELECT 1 FROM Reference WHERE Reference.digest = Blob.digest)"
    " AND NOT EXISTS (SELECT 1 FROM Claim WHERE Claim.digest = Blob.digest)"
)
_UNUSED_DISK = "SELECT disk FROM Blob WHERE digest = ? AND " + _UNUSED  # noqa: S608 (constants)
SOLE_BLOBS = (
    "SELECT digest FROM Reference AS mine WHERE key = ?"
    " AND NOT EXISTS (SELECT 1 FROM Reference WHERE digest = mine.digest AND key != mine.key)"
    " AND NOT EXISTS (SELECT 1 FROM Claim WHERE digest = mine.digest)"
)
"""The blobs that an entry alone needs."""
_MARK_IDLE = "UPDATE Blob SET idle = 1 WHERE digest = ? AND " + _UNUSED  # noqa: S608 (constants)


@dataclass(frozen=True, slots=True)
class EntryRow:
    key: str
    size: int
    """Bytes of the record."""
    now: float
    expires: float | None
    request: bytes
    """The canonical request, compressed."""


def insert_entry(sql: sqlite3.Connection, row: EntryRow, blobs: Mapping[str, Extent], reservation: str) -> None:
    """What stands beside a record: its entry, its references, its blobs' rows. They take the reservation's place."""
    sql.execute(
        "INSERT INTO Entry (key, bytes, used, stored, expires) VALUES (?, ?, ?, ?, ?)",
        (row.key, row.size, row.now, row.now, row.expires),
    )
    if len(row.request) <= CANONICAL_LIMIT:
        sql.execute("INSERT INTO Canonical (key, request) VALUES (?, ?)", (row.key, row.request))
    for digest, extent in blobs.items():
        sql.execute("INSERT INTO Reference (digest, key) VALUES (?, ?)", (digest, row.key))
        sql.execute(
            "INSERT INTO Blob (digest, bytes, disk, idle) VALUES (?, ?, ?, 0) ON CONFLICT (digest)"
            " DO UPDATE SET bytes = excluded.bytes, disk = excluded.disk, idle = 0",
            (digest, extent.size, extent.disk),
        )
        note_shelf(sql, digest, extent)
    sql.execute("DELETE FROM Claim WHERE reservation = ?", (reservation,))
    sql.execute("DELETE FROM Reservation WHERE id = ?", (reservation,))


def insert_reservation(sql: sqlite3.Connection, writer: Writer, disk: int, pages: int) -> str:
    """Take room for a writer at work; the reservation's id. disk: bytes of files. pages: of the index."""
    id = writer.name()
    sql.execute(
        "INSERT INTO Reservation (id, writer, disk, pages) VALUES (?, ?, ?, ?)", (id, writer.token, disk, pages)
    )
    return id


def add_idle_blob(sql: sqlite3.Connection, digest: str, extent: Extent) -> None:
    """Count a file that nothing is known to need, unless it is counted."""
    sql.execute(
        "INSERT OR IGNORE INTO Blob (digest, bytes, disk, idle) VALUES (?, ?, ?, 1)", (digest, extent.size, extent.disk)
    )
    note_shelf(sql, digest, extent)


def note_shelf(sql: sqlite3.Connection, digest: str, extent: Extent) -> None:
    """Count the folder of a blob."""
    sql.execute(
        "INSERT INTO Shelf (name, disk) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET disk = ?2 WHERE disk != ?2",
        (digest[:2], extent.shelf),
    )


def drop_entry(index: Index, sql: sqlite3.Connection, key: str) -> list[str]:
    """Delete an entry and all that stands beside it; the digests that it referred to and nothing needs any more."""
    digests = column(sql, "SELECT digest FROM Reference WHERE key = ?", (key,))
    index.remove(key)
    sql.execute("DELETE FROM Entry WHERE key = ?", (key,))
    sql.execute("DELETE FROM Reference WHERE key = ?", (key,))
    sql.execute("DELETE FROM Canonical WHERE key = ?", (key,))
    return mark_idle(sql, digests)


def next_to_go(sql: sqlite3.Connection, now: float, *, files: bool) -> tuple[str | None, bool]:
    """(the entry to drop next for room, whether it had expired): expired ones, then the least recently used.

    files: only entries that refer to blobs.
    """
    but = " AND EXISTS (SELECT 1 FROM Reference WHERE Reference.key = Entry.key)" if files else ""
    for expired, which, values in (
        (True, "expires <= ? {} ORDER BY expires", (now,)),
        (False, "1 {} ORDER BY used", ()),
    ):
        row = sql.execute(f"SELECT key FROM Entry WHERE {which.format(but)} LIMIT 1", values).fetchone()  # noqa: S608
        if row is not None:
            return str(row[0]), expired
    return None, False


def clamp_times(sql: sqlite3.Connection, now: float) -> int:
    """Bring entries out of the future, where a clock that was ahead had put them, the oldest first and CLAMPED at a
    time; how many. Left there they would outlive all that comes after them, and every new entry be the first to go.

    What they have to live is counted from now on.
    """
    late = now + CLOCK_LEEWAY
    return sql.execute(
        "UPDATE Entry SET used = ?1, stored = min(stored, ?1), expires = expires - max(0, stored - ?1)"
        " WHERE key IN (SELECT key FROM Entry WHERE used > ?2 ORDER BY used LIMIT ?3)",
        (now, late, CLAMPED),
    ).rowcount


def heads_page(sql: sqlite3.Connection, prefix: str, after: tuple[float, str], limit: int) -> list[Head]:
    """The newest entries whose keys begin so and that come after (stored, key)."""
    rows = sql.execute(
        "SELECT key, stored, used, expires, bytes FROM Entry WHERE (stored, key) < (?, ?) AND key >= ? AND key < ?"
        " ORDER BY stored DESC, key DESC LIMIT ?",
        (*after, prefix, prefix + "g", limit),  # "g" comes after every hex digit
    )
    return [Head(*row) for row in rows]


def mark_idle(sql: sqlite3.Connection, digests: Iterable[str]) -> list[str]:
    """Mark those blobs among these that nothing needs; they are returned."""
    return [digest for digest in digests if sql.execute(_MARK_IDLE, (digest,)).rowcount]


def close_reservation(sql: sqlite3.Connection, files: BlobFiles, id: str) -> list[str]:
    """Let go of a reservation; files in place that had no row get one, so that they stay counted."""
    digests = column(sql, "SELECT digest FROM Claim WHERE reservation = ?", (id,))
    sql.execute("DELETE FROM Claim WHERE reservation = ?", (id,))
    for digest in digests:
        extent = files.extent(digest) if DIGEST.match(digest) else None
        if extent is not None:
            add_idle_blob(sql, digest, extent)
    sql.execute("DELETE FROM Reservation WHERE id = ?", (id,))
    return mark_idle(sql, digests)


def blob_disk(sql: sqlite3.Connection, digest: str) -> int:
    row = sql.execute("SELECT disk FROM Blob WHERE digest = ?", (digest,)).fetchone()
    return int(row[0]) if row else 0


def has_file(sql: sqlite3.Connection, digest: str) -> bool:
    return sql.execute("SELECT 1 FROM Blob WHERE digest = ?", (digest,)).fetchone() is not None


def column(sql: sqlite3.Connection, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
    return [value for (value,) in sql.execute(statement, values)]


def take_unused(sql: sqlite3.Connection, digest: str) -> int | None:
    """Delete the row of a blob that nothing needs; its bytes on disk. None, and no longer idle, when something does."""
    row = sql.execute(_UNUSED_DISK, (digest,)).fetchone()
    if row is None:
        sql.execute("UPDATE Blob SET idle = 0 WHERE digest = ?", (digest,))
        return None
    sql.execute("DELETE FROM Blob WHERE digest = ?", (digest,))
    return int(row[0])


def is_needed(sql: sqlite3.Connection, digest: str) -> bool:
    """Whether an entry refers to a blob or a writer claims it."""
    statement = "SELECT 1 FROM Reference WHERE digest = ?1 UNION ALL SELECT 1 FROM Claim WHERE digest = ?1 LIMIT 1"
    return sql.execute(statement, (digest,)).fetchone() is not None
