"""diskcache, made strict: bytes under 64 hex digits, inside the row, and nothing else, whatever a row says.

What is in entries/cache.db may have been planted (SECURITY.md). Here lies what keeps it from being obeyed.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diskcache

from cachelayer.core.entry import Version
from cachelayer.stores.local import tables

NOT_OURS: Version = b""
"""The version of a row of another kind than we write. Of ours it is the record: nothing is hashed on the way of a hit,
and compared only where one is to be replaced."""

KEY = re.compile(r"[0-9a-f]{64}\Z")  # \Z: $ would admit a newline


class Refused(Exception):
    """Something in the folder that this store did not write, and does not touch."""


class StrictDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Keys are 64 hex digits, values are bytes inside the row. Nothing is pickled or unpickled, no file is opened,
    written or removed, whatever a row says (CVE-2025-69872 and its kin; SECURITY.md)."""

    def put(self, key: object) -> tuple[str, bool]:
        if type(key) is not str or not KEY.match(key):
            raise Refused("a key is 64 hex digits")
        return key, True

    def get(self, key: object, raw: object) -> str:
        if raw != 1 or type(key) is not str or not KEY.match(key):
            raise Refused("a key is 64 hex digits")
        return key

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, bytes]:
        if read or type(value) is not bytes:
            raise Refused("a value is bytes")
        return 0, diskcache.core.MODE_RAW, None, value

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> bytes:
        if mode != diskcache.core.MODE_RAW or filename is not None or type(value) is not bytes or read:
            raise Refused(f"a row of mode {mode!r}, {'with' if filename is not None else 'without'} a file name")
        return value

    def filename(self, key: object = None, value: object = None) -> tuple[str, str]:
        raise Refused("no value is kept in a file")

    def remove(self, file_path: object) -> None:
        # Called for the file name of a row that is overwritten or deleted. We write none, so it was planted: the row
        # goes, the file is not ours.
        return None


class StrictCache(diskcache.Cache):  # type: ignore[misc]  # diskcache has no types
    """diskcache's Cache, on whatever connection is lent to the calling thread."""

    def __init__(self, directory: str, *, timeout: float) -> None:
        # Never diskcache's constructor: it expands ~ and $ in the path once more, and writes every setting anew (some
        # forty commits, none of them possible in a read-only folder). The rows have just been compared, or written by
        # us, so the attributes can be set from what we expect.
        self._directory, self._timeout, self._txn_id = directory, timeout, None
        self._local = threading.local()
        self._disk = StrictDisk(directory)
        for name, value in tables.SETTINGS.items():
            setattr(self, name, value)

    @property
    def _con(self) -> sqlite3.Connection:
        lent: sqlite3.Connection | None = getattr(self._local, "lent", None)
        assert lent is not None, "no connection is lent to this thread"
        return lent

    def get_on(self, connection: sqlite3.Connection, key: str) -> Any:
        """get() on a lent connection."""
        self._local.lent = connection
        try:
            return self.get(key)
        finally:
            self._local.lent = None

    @contextmanager
    def on(self, connection: sqlite3.Connection) -> Iterator[None]:
        self._local.lent = connection
        try:
            yield
        finally:
            self._local.lent = None


def version_of(sql: sqlite3.Connection, key: str) -> Version | None:
    """What a key's row is told from others by: its record, or NOT_OURS; None when there is no row."""
    row = sql.execute("SELECT mode, filename, value FROM Cache WHERE key = ? AND raw = 1", (key,)).fetchone()
    if row is None:
        return None
    mode, filename, value = row
    return value if mode == diskcache.core.MODE_RAW and filename is None and type(value) is bytes else NOT_OURS
