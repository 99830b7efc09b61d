"""What is wrong with a store's content, found by reading. Nothing is changed here; ``cachelayer doctor`` prints it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Literal

from blake3 import blake3

from cachelayer.core.entry import Broken, decode
from cachelayer.stores.blobs import DIGEST, BlobFiles, Unfit
from cachelayer.stores.index import Refused, StrictDisk
from cachelayer.stores.rows import is_needed

Kind = Literal["refused-row", "damaged-entry", "missing-blob", "damaged-blob", "orphaned-blob"]


@dataclass(frozen=True, slots=True)
class Problem:
    kind: Kind
    name: str
    """The key or digest that it is about."""
    detail: str


def find_problems(sql: sqlite3.Connection, files: BlobFiles, *, deep: bool) -> list[Problem]:
    """Compare index and files. Beside live writers a blob being written shows as orphaned.

    deep: also read every record against its checksum and every blob against its digest; else sizes only.
    """
    problems: list[Problem] = []
    disk = StrictDisk("")
    for key, raw, mode, filename, value in sql.execute("SELECT key, raw, mode, filename, value FROM Cache"):
        try:
            name = disk.get(key, raw)
            record = disk.fetch(mode, filename, value, False)
            if deep and decode(record).key != name:
                raise Broken("it is the record of another key")
        except Refused as error:
            problems.append(Problem("refused-row", str(key), str(error)))
        except Broken as error:
            problems.append(Problem("damaged-entry", str(key), str(error)))
    for digest, size in files.walk():
        if not is_needed(sql, digest):
            problems.append(Problem("orphaned-blob", digest, f"{size} bytes that no entry refers to"))
    for digest, size in sql.execute(
        "SELECT DISTINCT Reference.digest, bytes FROM Reference LEFT JOIN Blob ON Blob.digest = Reference.digest"
    ):
        detail = _blob_fault(files, digest, size, deep=deep)
        if detail is not None:
            missing = detail == "it is gone"
            problems.append(Problem("missing-blob" if missing else "damaged-blob", str(digest), detail))
    return problems


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
