"""The local tier: entries in a diskcache, blobs in files named by their content. Read fetch here, and put.py.

What each step stands on: folder.py (format, opening), index.py (diskcache), tables.py and rows.py (what stands in it),
blobs.py (files), writers.py (who is alive), space.py (room, eviction), collection.py (unused blobs), recency.py (last
use). docs/storage.md describes the folder; SECURITY.md says what is trusted.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from cachelayer.core.entry import Version
from cachelayer.core.errors import NoRoom, StoreError
from cachelayer.machine import forks
from cachelayer.machine.sqlite import ERRORS, is_damage
from cachelayer.stores.base import Damaged, Evicted, Head, Parcel, Sizes
from cachelayer.stores.local import folder, measure, writers
from cachelayer.stores.local import index as indexes
from cachelayer.stores.local.blobs import DIGEST, BlobFiles
from cachelayer.stores.local.collection import BATCH
from cachelayer.stores.local.contents import Kept, Reader
from cachelayer.stores.local.faults import as_store_errors
from cachelayer.stores.local.index import Index
from cachelayer.stores.local.maintenance import Maintenance, clean_up
from cachelayer.stores.local.put import FAILURES, Put
from cachelayer.stores.local.recency import Recency
from cachelayer.stores.local.rows import drop_entry, heads_page
from cachelayer.stores.local.space import Space, Tally
from cachelayer.stores.local.strict import KEY, NOT_OURS, Refused, version_of
from cachelayer.stores.local.verify import Problem, find_problems

T = TypeVar("T")

_PAGE = 100

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


def open_to_look(path: Path) -> LocalStore:
    """The store in a folder as it is: nothing is made, upgraded, moved aside, evicted or counted as a use.

    Raises StoreError where there is none that this version can read.
    """
    return LocalStore(path, size_limit=0, clock=time.time, look_only=True)


def sizes_in(path: Path) -> Sizes:
    """What the store in a folder holds that is not open; nothing where there is none. Raises StoreError when it cannot
    be read."""
    if not (path / "format").exists():
        return Sizes()
    with closing(open_to_look(path)) as store:
        return store.sizes()


@dataclass(frozen=True, slots=True)
class _Opened:
    """What an open index is used with; replaced as a whole when the index is."""

    index: Index
    space: Space | None
    """None when the folder can only be read."""


class LocalStore:
    """A tier in a folder (stores.base.Store). Safe for threads, tasks and processes at once, and across fork."""

    def __init__(self, path: Path, *, size_limit: int, clock: Callable[[], float], look_only: bool = False) -> None:
        self.path = Path(path).absolute()
        self.problems: Counter[str] = Counter()
        """What was found that should not be, by kind; each kind is logged once."""
        self._size_limit = size_limit
        self._look_only = look_only
        self._clock = clock
        self._files = BlobFiles(self.path)
        self._tally = Tally()
        self._contents = Reader(self._files, lambda: self._current().index, self._problem)
        self._maintenance = Maintenance(self.path)
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

    def fetch(self, key: str) -> Parcel | Damaged | None:
        """What lies under a key (stores.base.Store.fetch): one SELECT, no write."""
        opened = self._current()
        found = self._read(opened, key)
        if type(found) is not bytes:
            return Damaged(NOT_OURS) if found is not None else None
        if opened.space is not None:
            opened.space.recency.note(key, self._clock())
        return Parcel(key, found, Kept(self._contents, key), found)

    def heads(self, prefix: str = "") -> Iterator[Head]:
        """All entries, newest first, expired ones included. Not a use. Holds no lock between two items."""
        after: tuple[float, str] = (float("inf"), "")
        while True:
            opened = self._current()
            with as_store_errors(), opened.index.reading() as sql:
                heads = heads_page(sql, prefix, after, _PAGE)
            yield from heads
            if len(heads) < _PAGE:
                return
            after = heads[-1].stored, heads[-1].key

    def sizes(self) -> Sizes:
        """What the folder holds now, in bytes on disk as the size limit counts them."""
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

    def put(self, parcel: Parcel, *, expires: float | None = None, replace: Version | None = None) -> bool:
        """Keep an entry (stores.base.Store.put has the guarantees).

        Raises NoRoom when it cannot fit or the disk is full, StoreError when the folder cannot be written.
        """
        put = Put.of(parcel, expires, replace)
        kept = self._write(lambda space: put.run(space, self._files, self._clock))
        # Here, where a flight ends: a caller's own way leads past look-ups alone.
        self._maintenance.run_when_due(self._clock(), self.maintain)
        return kept

    def delete(self, keys: Iterable[str]) -> int:
        """Drop entries; how many there were. Their bytes are overwritten with zeros in the index (secure_delete); older
        copies in the write-ahead log go with the next maintain()."""
        todo = [key for key in keys if KEY.match(key)]

        def attempt(batch: list[str], space: Space) -> int:
            with space.index.writing() as sql:
                there = sum(version_of(sql, key) is not None for key in batch)
                doomed = [digest for key in batch for digest in drop_entry(space.index, sql, key)]
            space.collector.collect(doomed)
            return there

        batches = (todo[start : start + BATCH] for start in range(0, len(todo), BATCH))
        return sum(self._write(partial(attempt, batch)) for batch in batches)

    def maintain(self) -> None:
        """Clean up: after dead writers, expired entries, blobs without references, the write-ahead log. Ends early when
        the store is closed.

        Nothing depends on it: room is also made when it is needed. Does nothing in a read-only folder.
        """
        if self._current().space is not None:
            self._write(lambda space: clean_up(space, self._files, self._clock, lambda: not self._closed))

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
        if self._look_only:
            folder.check_to_look(self.path)
        if self._look_only or folder.prepare(self.path):
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
            with suppress(*FAILURES):
                opened.space.recency.stop()
        opened.index.close()
        if opened.space is not None:
            writers.leave(opened.space.writer)

    # -- faults ------------------------------------------------------------------------------------------------

    def _read(self, opened: _Opened, key: str) -> bytes | Refused | None:
        try:
            return opened.index.get(key)
        except Refused as error:
            self._problem("refused-row", f"the row of {key} is refused: {error}")
            return error
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
        self._maintenance = Maintenance(self.path)


_of_the_parent: list[_Opened | None] = []
_stores: weakref.WeakSet[LocalStore] = weakref.WeakSet()


def _forked() -> None:
    for store in list(_stores):
        store._forked()


forks.in_child(_forked)
