"""A store read without touching it: nothing is made, upgraded, moved aside, evicted or counted as a use.

Opening a LocalStore does all of that, rightly, for a cache at work; a command that only looks must not.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cachelayer.cli.failure import USAGE, Failure
from cachelayer.core.entry import Broken, Entry, decode
from cachelayer.core.errors import StoreError
from cachelayer.stores.local import folder, measure
from cachelayer.stores.local.blobs import BlobFiles, Unfit
from cachelayer.stores.local.index import Index, Refused
from cachelayer.stores.local.verify import Problem, find_problems


class Reader:
    """An existing store. Raises StoreError from every method when the index cannot be read."""

    def __init__(self, path: Path) -> None:
        if not (path / "format").is_file():
            raise StoreError(f"there is no store in {path}")
        folder.prepare(path)  # checks the format; writes only where there is none
        fault = folder.find_fault(path / "entries")
        if fault is not None:
            raise StoreError(f"the index of {path} cannot be used because {fault}")
        self._index = Index(path / "entries", read_only=True)
        self.files = BlobFiles(path)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._index.reading() as sql:
                yield sql
        except sqlite3.Error as error:
            raise StoreError(f"the index cannot be read: {error}") from error

    def sizes(self) -> tuple[int, int, int]:
        """(entries, blobs, bytes on disk as size_limit counts them)."""
        with self._reading() as sql:
            return measure.sizes(sql, self.files.folder)

    def newest(self, limit: int) -> list[tuple[str, Entry | None]]:
        """(key, entry) of the newest entries; None where the record is damaged."""
        with self._reading() as sql:
            rows = sql.execute("SELECT key FROM Entry ORDER BY stored DESC, key DESC LIMIT ?", (limit,)).fetchall()
        return [(key, self.entry(key)) for (key,) in rows]

    def key_of(self, prefix: str) -> str:
        """The one key that begins with these digits. Raises Failure when there is none, or several."""
        digits = prefix.lower()
        if not digits or len(digits) > 64 or set(digits) - set("0123456789abcdef"):
            raise Failure(f"{prefix!r} is no key: a key is up to 64 hex digits, as `cachelayer ls` shows them", USAGE)
        with self._reading() as sql:
            rows = sql.execute(
                "SELECT key FROM Entry WHERE key >= ? AND key < ? ORDER BY key LIMIT 2", (digits, digits + "g")
            ).fetchall()
        if not rows:
            raise Failure(f"no entry has the key {prefix}")
        if len(rows) > 1:
            raise Failure(f"several entries have a key that begins with {prefix}; give more digits")
        return str(rows[0][0])

    def entry(self, key: str) -> Entry | None:
        """The entry under a key, None when it is not there or damaged."""
        try:
            record = self._index.get(key)
            return None if record is None else decode(record)
        except (Broken, Refused):
            return None
        except sqlite3.Error as error:
            raise StoreError(f"the index cannot be read: {error}") from error

    def times(self, key: str) -> tuple[float, float] | None:
        """(stored, last use), unix seconds."""
        with self._reading() as sql:
            row = sql.execute("SELECT stored, used FROM Entry WHERE key = ?", (key,)).fetchone()
        return None if row is None else (row[0], row[1])

    def canonical(self, key: str) -> bytes | None:
        """The canonical request of an entry, None when it was not kept or is damaged."""
        with self._reading() as sql:
            row = sql.execute("SELECT request FROM Canonical WHERE key = ?", (key,)).fetchone()
        try:
            return None if row is None else zlib.decompress(row[0])
        except (zlib.error, TypeError):
            return None

    def blob(self, digest: str) -> bytes | None:
        """The bytes of a blob, not verified; None when they cannot be had."""
        try:
            return self.files.read(digest)
        except Unfit:
            return None

    def problems(self) -> list[Problem]:
        """What is wrong with the content, every byte read."""
        return find_problems(self._reading, self.files, deep=True)

    def close(self) -> None:
        """Let go of the index."""
        self._index.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
