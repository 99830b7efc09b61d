"""The rows of our tables. Statements only, each in a transaction that its caller has begun."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cachelayer.stores.blobs import DIGEST, BlobFiles
from cachelayer.stores.index import Index

CANONICAL_LIMIT = 1_000_000
"""Bytes, compressed. A longer canonical request is not kept, because the size limit does not count it."""

_UNUSED = (
    "NOT EXISTS (SELECT 1 FROM Reference WHERE Reference.digest = Blob.digest)"
    " AND NOT EXISTS (SELECT 1 FROM Claim WHERE Claim.digest = Blob.digest)"
)
_UNUSED_BYTES = "SELECT bytes FROM Blob WHERE digest = ? AND " + _UNUSED  # noqa: S608 (constants)
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


def insert_entry(sql: sqlite3.Connection, row: EntryRow, blobs: Mapping[str, int], reservation: str) -> None:
    """What stands beside a record: its entry, its references, its blobs' rows. They take the reservation's place."""
    sql.execute("INSERT INTO Entry VALUES (?, ?, ?, ?, ?)", (row.key, row.size, row.now, row.now, row.expires))
    if len(row.request) <= CANONICAL_LIMIT:
        sql.execute("INSERT INTO Canonical VALUES (?, ?)", (row.key, row.request))
    for digest, size in blobs.items():
        sql.execute("INSERT INTO Reference VALUES (?, ?)", (digest, row.key))
        sql.execute(
            "INSERT INTO Blob VALUES (?, ?, 0) ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes, idle = 0",
            (digest, size),
        )
    sql.execute("DELETE FROM Claim WHERE reservation = ?", (reservation,))
    sql.execute("DELETE FROM Reservation WHERE id = ?", (reservation,))


def drop_entry(index: Index, sql: sqlite3.Connection, key: str) -> list[str]:
    """Delete an entry and all that stands beside it; the digests that it referred to and nothing needs any more."""
    digests = column(sql, "SELECT digest FROM Reference WHERE key = ?", (key,))
    index.remove(key)
    sql.execute("DELETE FROM Entry WHERE key = ?", (key,))
    sql.execute("DELETE FROM Reference WHERE key = ?", (key,))
    sql.execute("DELETE FROM Canonical WHERE key = ?", (key,))
    return mark_idle(sql, digests)


def mark_idle(sql: sqlite3.Connection, digests: Iterable[str]) -> list[str]:
    """Mark those blobs among these that nothing needs; they are returned."""
    return [digest for digest in digests if sql.execute(_MARK_IDLE, (digest,)).rowcount]


def close_reservation(sql: sqlite3.Connection, files: BlobFiles, id: str) -> list[str]:
    """Let go of a reservation; files in place that had no row get one, so that they stay counted."""
    digests = column(sql, "SELECT digest FROM Claim WHERE reservation = ?", (id,))
    sql.execute("DELETE FROM Claim WHERE reservation = ?", (id,))
    for digest in digests:
        size = files.size(digest) if DIGEST.match(digest) else None
        if size is not None:
            sql.execute("INSERT OR IGNORE INTO Blob VALUES (?, ?, 1)", (digest, size))
    sql.execute("DELETE FROM Reservation WHERE id = ?", (id,))
    return mark_idle(sql, digests)


def blob_bytes(sql: sqlite3.Connection, digest: str) -> int:
    row = sql.execute("SELECT bytes FROM Blob WHERE digest = ?", (digest,)).fetchone()
    return int(row[0]) if row else 0


def has_file(sql: sqlite3.Connection, digest: str) -> bool:
    return sql.execute("SELECT 1 FROM Blob WHERE digest = ?", (digest,)).fetchone() is not None


def column(sql: sqlite3.Connection, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
    return [value for (value,) in sql.execute(statement, values)]


def take_unused(sql: sqlite3.Connection, digest: str) -> int | None:
    """Delete the row of a blob that nothing needs; its bytes. None, and no longer idle, when something does."""
    row = sql.execute(_UNUSED_BYTES, (digest,)).fetchone()
    if row is None:
        sql.execute("UPDATE Blob SET idle = 0 WHERE digest = ?", (digest,))
        return None
    sql.execute("DELETE FROM Blob WHERE digest = ?", (digest,))
    return int(row[0])


def is_needed(sql: sqlite3.Connection, digest: str) -> bool:
    """Whether an entry refers to a blob or a writer claims it."""
    statement = "SELECT 1 FROM Reference WHERE digest = ?1 UNION ALL SELECT 1 FROM Claim WHERE digest = ?1 LIMIT 1"
    return sql.execute(statement, (digest,)).fetchone() is not None
