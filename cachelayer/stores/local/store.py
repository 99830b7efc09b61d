"""The local tier: entries in a diskcache, blobs in files named by their content. Read put and get from top to bottom.

What each step stands on: folder.py (format, opening), index.py (diskcache), tables.py and rows.py (what stands in it),
blobs.py (files), writers.py (who is alive), space.py (room, eviction), collection.py (unused blobs), recency.py (last
use). docs/storage.md describes the folder; SECURITY.md says what is trusted.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
import weakref
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cachelayer.core.errors import NoRoom, StoreError
from cachelayer.machine import forks
from cachelayer.machine.sqlite import ERRORS, is_damage
from cachelayer.stores.base import Evicted
from cachelayer.stores.local import folder, measure, writers
from cachelayer.stores.local import index as indexes
from cachelayer.stores.local.blobs import DIGEST, BlobFiles, Unfit
from cachelayer.stores.local.faults import as_store_errors, is_disk_full
from cachelayer.stores.local.index import KEY, Index, Refused
from cachelayer.stores.local.maintenance import clean_up
from cachelayer.stores.local.recency import Recency
from cachelayer.stores.local.rows import EntryRow, drop_entry, insert_entry
from cachelayer.stores.local.space import Place, Space, Tally
from cachelayer.stores.local.verify import Problem, find_problems

T = TypeVar("T")

_PAGE = 100
_TRIES_ON_A_FULL_DISK = 3
"""What is evicted for an answer may be taken by somebody else before it is written."""
_FAILURES = (StoreError, OSError, *ERRORS)

logger = logging.getLogger("cachelayer")


def open_local(path: Path, *, size_limit: int, clock: Callable[[], float] = time.time) -> LocalStore:
    """The store in a folder, made when it is not there.

    size_limit: bytes that the folder takes on disk at any moment, what is being written included, the ledger and
    measure.LOG_ALLOWANCE excepted.
    clock: unix seconds, for last use and expiry.
    A folder that cannot be written is opened for reading. Raises NewerFormat, untouched, when a newer cachelayer
    wrote it; StoreError when it is not a store or cannot be read.
    """
    return LocalStore(path, size_limit=size_limit, clock=clock)


def sizes_in(path: Path) -> tuple[int, int, int]:
    """(entries, blobs, bytes on disk) of the store in a folder that is not open; zeros where there is none. Changes
    nothing. Raises StoreError when it cannot be read."""
    with as_store_errors():
        if not (path / "format").exists():
            return 0, 0, 0
        folder.prepare(path)  # checks the format; writes only where there is none
        fault = folder.find_fault(path / "entries")
        if fault is not None:
            raise StoreError(f"the index of {path} cannot be used because {fault}")
        index = Index(path / "entries", read_only=True)
        try:
            with index.reading() as sql:
                return measure.sizes(sql, path)
        finally:
            index.close()


@dataclass(frozen=True, slots=True)
class _Opened:
    """What an open index is used with; replaced as a whole when the index is."""

    index: Index
    space: Space | None
    """None when the folder can only be read."""


class LocalStore:
    """A tier in a folder (stores.base.Store). Safe for threads, tasks and processes at once, and across fork."""

    def __init__(self, path: Path, *, size_limit: int, clock: Callable[[], float]) -> None:
        self.path = Path(path).absolute()
        self.problems: Counter[str] = Counter()
        """What was found that should not be, by kind; each kind is logged once."""
        self._size_limit = size_limit
        self._clock = clock
        self._files = BlobFiles(self.path)
        self._tally = Tally()
        self._closed = False
        self._suspect: tuple[int, int] | None = None
        self._opened: _Opened | None = None
        self._lock = threading.RLock()
        self._writes = 0
        self._quiet = threading.Condition()
        with as_store_errors():
            self._open()
        _stores.add(self)

    # -- reading -----------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """The record under a key, also when it has expired (core decides what that is worth), None when there is
        none or the row is not one that we wrote. One SELECT, no write. Counts as a use."""
        opened = self._current()
        record = self._read(opened, key)
        if record is not None and opened.space is not None:
            opened.space.recency.note(key, self._clock())
        return record

    def read_blob(self, digest: str, buffer: memoryview, start: int = 0) -> int | None:
        """Fill a buffer with the bytes kept under a digest (stores.base.Store.read_blob). Raises StoreError when the
        machine cannot read just now (no descriptors, no memory, an I/O error), which says nothing about the blob."""
        return self._blob(digest, lambda: self._files.read_into(digest, buffer, start))

    def get_blob(self, digest: str) -> bytes | None:
        """All bytes kept under a digest, None when they are not there. Off the hit path; else as read_blob()."""
        return self._blob(digest, lambda: self._files.read(digest))

    def _blob(self, digest: str, read: Callable[[], T | None]) -> T | None:
        self._current()
        if not DIGEST.match(digest):
            self._problem("bad-digest", "a digest that is not one was asked for")
            return None
        try:
            with as_store_errors():
                return read()
        except Unfit as error:
            self._problem("unfit-blob", f"blob {digest} is refused: {error}")
            return None

    def scan(self) -> Iterator[tuple[str, bytes]]:
        """All (key, record), newest first, expired ones included. Not a use. Holds no lock between two items."""
        after: tuple[float, str] = (float("inf"), "")
        while True:
            opened = self._current()
            with as_store_errors(), opened.index.reading() as sql:
                rows = sql.execute(
                    "SELECT stored, key FROM Entry WHERE (stored, key) < (?, ?) ORDER BY stored DESC, key DESC LIMIT ?",
                    (*after, _PAGE),
                ).fetchall()
            for _, key in rows:
                record = self._read(opened, key)
                if record is not None:
                    yield key, record
            if len(rows) < _PAGE:
                return
            after = rows[-1]

    def canonical(self, key: str) -> bytes | None:
        """The canonical request kept beside an entry, None when there is none (or rows.CANONICAL_LIMIT kept it out)."""
        opened = self._current()
        with as_store_errors(), opened.index.reading() as sql:
            row = sql.execute("SELECT request FROM Canonical WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            return zlib.decompress(row[0])
        except (zlib.error, TypeError):
            self._problem("canonical", f"the canonical request of {key} is damaged")
            return None

    def sizes(self) -> tuple[int, int, int]:
        """(entries, blobs, bytes on disk as the size limit counts them) of the folder now."""
        opened = self._current()
        with as_store_errors(), opened.index.reading() as sql:
            return measure.sizes(sql, self.path)

    def take_evicted(self) -> Evicted:
        """What was dropped for room since this was last asked (stores.base.Store.take_evicted)."""
        return self._tally.take()

    def blob_path(self, digest: str) -> Path:
        """Where a blob lies."""
        if not DIGEST.match(digest):
            raise ValueError("a digest is 64 hex digits")
        return self._files.path(digest)

    def stands(self) -> bool:
        """Whether the index that is open is the one that lies in the folder."""
        opened = self._opened
        return opened is None or not self._stale(opened.index)

    # -- writing -----------------------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        record: bytes,
        blobs: Mapping[str, bytes],
        *,
        canonical: bytes,
        expires: float | None,
    ) -> None:
        """Keep a record, its blobs and its canonical request (stores.base.Store.put has the guarantees).

        Raises NoRoom when it cannot fit or the disk is full, StoreError when the folder cannot be written.
        """
        if not KEY.match(key) or not all(DIGEST.match(digest) for digest in blobs):
            raise StoreError("a key or digest is not 64 hex digits")
        request = zlib.compress(canonical)

        self._write(lambda space: self._put(space, key, record, blobs, request, expires))

    def _put(
        self,
        space: Space,
        key: str,
        record: bytes,
        blobs: Mapping[str, bytes],
        request: bytes,
        expires: float | None,
    ) -> None:
        sizes = {digest: len(data) for digest, data in blobs.items()}
        need = measure.Need(sum(sizes.values()), 1)
        for left in reversed(range(_TRIES_ON_A_FULL_DISK)):
            try:
                place = space.reserve(len(record), len(request), sizes)
                need = place.need
                return self._put_at(place, space, key, record, blobs, request, expires)
            except _FAILURES as error:
                quota = getattr(error, "errno", None) == errno.EDQUOT
                if not (left and is_disk_full(error) and space.yield_to_disk(need, quota=quota)):
                    raise

    def _put_at(
        self,
        place: Place,
        space: Space,
        key: str,
        record: bytes,
        blobs: Mapping[str, bytes],
        request: bytes,
        expires: float | None,
    ) -> None:
        files, index = self._files, space.index
        try:
            if place.need.disk and files.missing(place.need.disk):
                raise OSError(errno.ENOSPC, "the disk is full", str(self.path))
            # Claimed: from here on no collector begins with these blobs.
            for digest, data in blobs.items():
                if not files.holds(digest, data):
                    if digest in place.known:
                        space.extend(place, len(data))  # damaged: two files until the new one is in place
                    files.write(digest, data, space.writer.name())
            with index.writing() as sql:
                doomed = drop_entry(index, sql, key)  # what it needs and the new one needs is claimed
                index.set(key, record)
                row = EntryRow(key, len(record), self._clock(), expires, request)
                insert_entry(sql, row, {digest: files.taken(digest, data) for digest, data in blobs.items()}, place.id)
        except BaseException:
            with suppress(*_FAILURES):
                space.settle(place)
            raise
        with suppress(*_FAILURES):  # committed; what is left over is collected later
            space.collector.collect(doomed)
        for digest, data in blobs.items():
            if files.size(digest) is None:
                space.mend(digest, data)

    def delete(self, key: str) -> bool:
        """Drop an entry; True when there was one. Its bytes are overwritten with zeros in the index (secure_delete);
        older copies in the write-ahead log go with the next maintain()."""
        if not KEY.match(key):
            return False

        def attempt(space: Space) -> bool:
            with space.index.writing() as sql:
                there = bool(sql.execute("SELECT 1 FROM Cache WHERE key = ?", (key,)).fetchone())
                doomed = drop_entry(space.index, sql, key)
            space.collector.collect(doomed)
            return there

        return self._write(attempt)

    def maintain(self) -> None:
        """Clean up: after dead writers, expired entries, blobs without references, the write-ahead log.

        Nothing depends on it: room is also made when it is needed. Does nothing in a read-only folder.
        """
        if self._current().space is None:
            return

        self._write(lambda space: clean_up(space, self._files, self._clock))

    def verify(self, *, deep: bool) -> list[Problem]:
        """What is wrong with the content (verify.py). Reads only; ``deep`` reads every record and blob."""
        opened = self._current()
        with as_store_errors():
            return find_problems(opened.index.reading, self._files, deep=deep)

    def close(self) -> None:
        """Wait for writes under way, note the last uses, let go of files and connections."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            opened, self._opened = self._opened, None
        with self._quiet:
            self._quiet.wait_for(lambda: self._writes == 0)
        if opened is not None:
            self._leave(opened)

    # -- opening -----------------------------------------------------------------------------------------------

    def _open(self) -> _Opened:
        """Open what stands in the folder, or a fresh index where that may not be used."""
        entries = self.path / "entries"
        if folder.prepare(self.path):
            fault = folder.find_fault(entries)
            if fault is not None:
                raise StoreError(f"the index of {self.path} cannot be used because {fault}")
            opened = _Opened(Index(entries, read_only=True), None)
        else:
            try:
                opened = self._open_to_write(entries)
            except ERRORS as error:
                if not is_damage(error):
                    raise
                opened = self._open_to_write(entries)  # damage that find_fault() does not look for: a fresh one
        self._suspect = None
        self._opened = opened
        return opened

    def _open_to_write(self, entries: Path) -> _Opened:
        folder.ensure_index(self.path, self._files, self._suspect, lambda text: self._problem("index", text))
        writer = writers.enter(self.path)
        try:
            index = Index(entries, read_only=False)
            space = Space(
                index, self._files, writer, Recency(index.writing), self._size_limit, self._clock, self._tally
            )
            try:
                space.collector.reclaim()
                with suppress(NoRoom):  # answers being written under a higher limit; the next put asks again
                    space.trim()
            except BaseException as error:
                if is_damage(error):
                    self._suspect = index.identity
                index.close()
                raise
        except BaseException:
            writers.leave(writer)
            raise
        return _Opened(index, space)

    def _current(self) -> _Opened:
        opened = self._opened
        if opened is None:
            with self._lock:
                if self._closed:
                    raise StoreError("the store is closed")
                with as_store_errors():
                    opened = self._opened or self._open()  # after a fork, or after a failed reopening
        return opened

    def _current_for_writing(self) -> _Opened:
        """As _current(), but first replaces an index that was deleted, moved aside or found damaged."""
        opened = self._current()
        if self._stale(opened.index):
            with self._lock:
                if self._opened is opened and not self._closed:
                    # Opened before the old one is left: writes under way keep this process's token.
                    self._open()
                    self._leave(opened)
            opened = self._current()
        return opened

    def _stale(self, index: Index) -> bool:
        return self._suspect == index.identity or indexes.identity(self.path / "entries") != index.identity

    def _leave(self, opened: _Opened) -> None:
        if opened.space is not None:
            with suppress(*_FAILURES):
                opened.space.recency.stop()
        opened.index.close()
        if opened.space is not None:
            writers.leave(opened.space.writer)

    # -- faults ------------------------------------------------------------------------------------------------

    def _read(self, opened: _Opened, key: str) -> bytes | None:
        try:
            return opened.index.get(key)
        except Refused as error:
            self._problem("refused-row", f"the row of {key} is refused: {error}")
        except ERRORS as error:
            if not is_damage(error) and not self._stale(opened.index):
                raise StoreError(f"the index cannot be read: {error}") from error
            # The next write replaces the index; to this reader there is simply no entry.
            self._suspect = opened.index.identity
            self._problem("damaged-index", f"the index of {self.path} is damaged: {error}")
        return None

    def _write(self, attempt: Callable[[Space], T]) -> T:
        """Run a write; on an index that turns out damaged, begin a fresh one and run it again, once."""
        with self._quiet:
            if self._closed:
                raise StoreError("the store is closed")
            self._writes += 1
        try:
            with as_store_errors():
                for last in (False, True):
                    opened = self._current_for_writing()
                    if opened.space is None:
                        raise StoreError(f"{self.path} cannot be written")
                    try:
                        return attempt(opened.space)
                    except ERRORS as error:
                        if last or not is_damage(error):
                            raise
                        self._suspect = opened.index.identity
                raise AssertionError("unreachable")
        finally:
            with self._quiet:
                self._writes -= 1
                self._quiet.notify_all()

    def _problem(self, kind: str, text: str) -> None:
        self.problems[kind] += 1
        if self.problems[kind] == 1:
            logger.warning("%s", text)

    def _forked(self) -> None:
        # SQLite forbids a child to use or close what its parent opened, so it is kept, out of use.
        _of_the_parent.append(self._opened)
        self._opened = None
        self._lock = threading.RLock()
        self._quiet = threading.Condition()
        self._writes = 0


_of_the_parent: list[_Opened | None] = []
_stores: weakref.WeakSet[LocalStore] = weakref.WeakSet()


def _forked() -> None:
    for store in list(_stores):
        store._forked()


forks.in_child(_forked)
