"""What is wrong with a store's content, found by reading. Nothing is changed here; ``cachelayer doctor`` prints it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from blake3 import blake3

from cachelayer.core.entry import Broken, decode
from cachelayer.stores.local.blobs import DIGEST, BlobFiles, Unfit
from cachelayer.stores.local.rows import is_needed
from cachelayer.stores.local.strict import Refused, StrictDisk

Reading = Callable[[], AbstractContextManager[sqlite3.Connection]]
Kind = Literal["refused-row", "damaged-entry", "missing-blob", "damaged-blob", "orphaned-blob"]


@dataclass(frozen=True, slots=True)
class Problem:
    kind: Kind
    name: str
    """The key or digest that it is about."""
    detail: str


def find_problems(reading: Reading, files: BlobFiles, *, deep: bool) -> list[Problem]:
    """Compare index and files. Beside live writers a blob being written shows as orphaned.

    reading: a connection to the index, asked for again and again: one that was kept would keep the write-ahead log from
    being cut, and a fork waiting.
    deep: also read every record against its checksum and every blob against its digest; else sizes only.
    """
    problems: list[Problem] = []
    disk = StrictDisk("")
    for rowid, key, raw, mode, filename, value in _pages(reading, _RECORDS):
        try:
            name = disk.get(key, raw)
            record = disk.fetch(mode, filename, value, False)
            if deep and decode(record).key != name:
                raise Broken("it is the record of another key")
        except Refused as error:
            problems.append(Problem("refused-row", str(key), str(error)))
        except Broken as error:
            if _there(reading, "SELECT 1 FROM Cache WHERE rowid = ? AND value IS ?", (rowid, value)):
                problems.append(Problem("damaged-entry", str(key), str(error)))
    for digest, extent in files.walk():
        with reading() as sql:
            needed = is_needed(sql, digest)
        if not needed:
            problems.append(Problem("orphaned-blob", digest, f"{extent.size} bytes that no entry refers to"))
    for digest, size in _pages(reading, _BLOBS):
        detail = _blob_fault(files, digest, size, deep=deep)
        # Asked again: entry and blob may have gone since the page was read.
        if detail is not None and _there(reading, "SELECT 1 FROM Reference WHERE digest = ?", (digest,)):
            missing = detail == "it is gone"
            problems.append(Problem("missing-blob" if missing else "damaged-blob", str(digest), detail))
    return problems


_RECORDS = "SELECT rowid, key, raw, mode, filename, value FROM Cache WHERE rowid > ? ORDER BY rowid LIMIT 100"
_BLOBS = (
    "SELECT DISTINCT Reference.digest, bytes FROM Reference LEFT JOIN Blob ON Blob.digest = Reference.digest"
    " WHERE Reference.digest > ? ORDER BY Reference.digest LIMIT 100"
)


def _pages(reading: Reading, statement: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement that takes up where its first column left off."""
    after: Any = float("-inf")  # before everything, whatever its type
    while True:
        with reading() as sql:
            rows = sql.execute(statement, (after,)).fetchall()
        yield from rows
        if not rows:
            return
        after = rows[-1][0]


def _there(reading: Reading, statement: str, values: tuple[Any, ...]) -> bool:
    with reading() as sql:
        return sql.execute(statement, values).fetchone() is not None


def _blob_fault(files: BlobFiles, digest: str, size: int | None, *, deep: bool) -> str | None:
    if not DIGEST.match(digest):
        return "its digest is not one"
    found = files.size(digest)
    if found is None:
        return "it is gone"
    if found != size:
        return f"{found} bytes instead of {size}"
    if deep:
        try:
            data = files.read(digest)
        except (Unfit, OSError) as error:
            return str(error)
        if data is None:
            return "it is gone"
        if blake3(data).hexdigest() != digest:
            return "its bytes are not those of its name"
    return None
