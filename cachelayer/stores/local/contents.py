"""What belongs to an entry, read when it is asked for (stores.base.Contents). Nothing is verified here.

A StoreError says that the machine cannot read just now (no descriptors, no memory, an I/O error), and nothing about
what was asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from cachelayer.core.entry import Take
from cachelayer.stores.local.blobs import DIGEST, BlobFiles, Unfit
from cachelayer.stores.local.faults import as_store_errors
from cachelayer.stores.local.index import Index


class Reader:
    """Reads the contents of all entries of a store.

    current: the index that is open; raises StoreError when the store is closed. problem: told of what should not be.
    """

    def __init__(self, files: BlobFiles, current: Callable[[], Index], problem: Callable[[str, str], None]) -> None:
        self._files, self._current, self._problem = files, current, problem

    def pour(self, digest: str, buffer: memoryview, take: Take) -> bool:
        if not self._may_read(digest):
            return False
        try:
            with as_store_errors():
                return self._files.pour(digest, buffer, take)
        except Unfit as error:
            self._problem("unfit-blob", f"blob {digest} is refused: {error}")
            return False

    def blob(self, digest: str) -> bytes | None:
        if not self._may_read(digest):
            return None
        try:
            with as_store_errors():
                return self._files.read(digest)
        except Unfit as error:
            self._problem("unfit-blob", f"blob {digest} is refused: {error}")
            return None

    def canonical(self, key: str) -> bytes | None:
        index = self._current()
        with as_store_errors(), index.reading() as sql:
            row = sql.execute("SELECT request FROM Canonical WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            return zlib.decompress(row[0])
        except (zlib.error, TypeError):
            self._problem("canonical", f"the canonical request of {key} is damaged")
            return None

    def _may_read(self, digest: str) -> bool:
        self._current()
        if DIGEST.match(digest):
            return True
        self._problem("bad-digest", "a digest that is not one was asked for")
        return False


class Kept:
    """The contents of one entry."""

    __slots__ = ("_key", "_reader")

    def __init__(self, reader: Reader, key: str) -> None:
        self._reader, self._key = reader, key

    def pour(self, digest: str, buffer: memoryview, take: Take) -> bool:
        return self._reader.pour(digest, buffer, take)

    def blob(self, digest: str) -> bytes | None:
        return self._reader.blob(digest)

    def canonical(self) -> bytes | None:
        return self._reader.canonical(self._key)
