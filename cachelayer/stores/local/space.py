"""Space: reservations, and the eviction that makes room for them. Beside live writers, without a pause.

The rule that keeps the bound: every block on disk is counted (measure.py) before it is written and until after it is
gone. A writer reserves; a commit turns his reservation into rows and pages; a collector turns a row back into a
reservation of his own until the file is unlinked. What a dead writer had reserved stays reserved until his files are
dealt with. Pages that an evicted entry leaves free are used again, or given back when their room is wanted for files.

Order of locks: the index's write lock is the only one; files are renamed and unlinked while it is held, never written.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from cachelayer.core.entry import Broken, decode
from cachelayer.core.errors import NoRoom
from cachelayer.machine.sqlite import ERRORS, is_full
from cachelayer.stores.base import NONE, Evicted
from cachelayer.stores.local.blobs import DIGEST, BlobFiles
from cachelayer.stores.local.collection import BATCH, Collector
from cachelayer.stores.local.index import Index
from cachelayer.stores.local.measure import Need, Taken, file_need, free_pages, least, measure, need_of
from cachelayer.stores.local.recency import Recency
from cachelayer.stores.local.rows import (
    SOLE_BLOBS,
    blob_disk,
    clamp_times,
    close_reservation,
    column,
    drop_entry,
    has_file,
    insert_reservation,
    is_needed,
    next_to_go,
)
from cachelayer.stores.local.tables import PAGE
from cachelayer.stores.local.writers import Writer

T = TypeVar("T")

_log = logging.getLogger("cachelayer")

ROOM_WAIT = 10.0
"""Seconds that a writer waits when all the room there is has been reserved by others."""
FULL_TO_THE_BYTE = 4
"""Entries whose files go first where a disk has no room to write down that they go."""
PAGES = 256
"""Pages freed or given back in one transaction. Each passes through the write-ahead log, overwritten with zeros."""


class Tally:
    """What was evicted and nobody has been told of yet. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sum = NONE

    def add(self, more: Evicted) -> None:
        with self._lock:
            self._sum += more

    def take(self) -> Evicted:
        with self._lock:
            told, self._sum = self._sum, NONE
        return told


@dataclass(frozen=True, slots=True)
class Place:
    """Room that was reserved for one put."""

    id: str
    known: frozenset[str]
    """Digests that had a file when room was reserved; for the others there is room."""
    need: Need


@dataclass(slots=True)
class _Step:
    """What one transaction has done to make room."""

    doomed: list[str]
    """Blobs to be collected now."""
    disk: int
    """Bytes that they take."""
    dropped: int = 0
    """Entries."""
    evicted: Evicted = NONE
    """Those among them that had not expired."""
    given_back: int = 0
    """Pages."""

    @property
    def progress(self) -> bool:
        return bool(self.doomed or self.dropped or self.given_back)


class Space:
    """Everything that makes room, on one index."""

    def __init__(
        self,
        index: Index,
        files: BlobFiles,
        writer: Writer,
        recency: Recency,
        size_limit: int,
        clock: Callable[[], float],
        tally: Tally,
    ) -> None:
        self.index = index
        self._files = files
        self.writer = writer
        self.collector = Collector(index, files, writer)
        self.recency = recency
        self._limit = size_limit
        self._clock = clock
        self._tally = tally
        self._unsettled: list[str] = []
        self._told = False

    def admit(self, need: Callable[[sqlite3.Connection], Need], take: Callable[[sqlite3.Connection, Need], T]) -> T:
        """Run ``take`` in a transaction in which what ``need`` asks for fits, evicting until it does.

        Raises NoRoom when that is more than there can be, or when others keep all room reserved for ROOM_WAIT.
        """
        self._settle()  # what could not be settled when its put failed, because the disk was full
        deadline = time.monotonic() + ROOM_WAIT
        pause, reclaimed, cut = 0.002, False, False
        over, gone = 0, NONE
        while True:
            step: _Step | None = None
            with self.index.writing() as sql:
                self.recency.write(sql)
                clamp_times(sql, self._clock())
                wanted = need(sql)
                taken = measure(sql, self._files.folder)
                over = max(over, taken.with_room_for(Need()) - self._limit)
                if taken.with_room_for(wanted) <= self._limit:
                    self._tell(over, gone)
                    return take(sql, wanted)
                floor = least(sql, taken) + wanted.bytes
                if wanted.bytes and floor > self._limit:
                    raise NoRoom(
                        f"{wanted.bytes} bytes do not fit into a store of {self._limit}, "
                        f"of which {floor - wanted.bytes} are its own"
                    )
                # While it cannot fit beside what others have reserved, evicting would be in vain.
                vain = bool(wanted.bytes) and floor + taken.reserved.bytes > self._limit
                if reclaimed and not vain and (cut or not taken.log):
                    step = self._make_room(sql, taken, wanted)
            if taken.log and not cut:
                self.index.checkpoint()  # rather than evict for what a reader keeps for a moment
                cut = True
            elif not reclaimed:
                self.collector.reclaim()
                reclaimed = True
            elif step is not None and step.progress:
                gone += step.evicted
                self._finish(step)
            elif not taken.reserved.bytes or time.monotonic() >= deadline:
                self._tell(over, gone)
                raise NoRoom(f"{wanted.bytes} bytes more do not fit beside the answers that are being written")
            else:
                time.sleep(pause)
                pause = min(pause * 2, 0.1)
                reclaimed = False  # one of those we wait for may have died

    def _tell(self, over: int, gone: Evicted) -> None:
        """Say once that entries went because somebody else keeps more here than this limit lets."""
        # Not at the few pages by which a put may be wrong about what it takes.
        if gone.entries and over > self._limit // 50 and not self._told:
            self._told = True
            _log.warning(
                "the store in %s held %d bytes more than size_limit lets it (%d): %d entries that had cost $%s were "
                "dropped",
                self._files.folder,
                over,
                self._limit,
                gone.entries,
                f"{gone.usd:f}",
            )

    def reserve(self, record: int, request: int, blobs: Mapping[str, int]) -> Place:
        """Reserve room for a record, its canonical request and blobs (digest -> bytes), evicting for it, and claim the
        digests.

        Raises NoRoom as admit() does.
        """

        def take(sql: sqlite3.Connection, need: Need) -> Place:
            known = frozenset(digest for digest in blobs if has_file(sql, digest))
            place = Place(insert_reservation(sql, self.writer, need.disk, need.pages), known, need)
            sql.executemany(
                "INSERT INTO Claim (digest, reservation) VALUES (?, ?)", [(digest, place.id) for digest in blobs]
            )
            return place

        return self.admit(lambda sql: need_of(sql, record, request, blobs, self._files.block), take)

    def trim(self) -> None:
        """Evict until what is held fits, after the limit was lowered."""
        self.admit(lambda sql: Need(), lambda sql, need: None)

    def extend(self, place: Place, size: int) -> None:
        """Reserve room for rewriting a blob that has a row but no whole file."""
        self.admit(
            lambda sql: Need(file_need(size, self._files.block)),
            lambda sql, need: sql.execute("UPDATE Reservation SET disk = disk + ? WHERE id = ?", (need.disk, place.id)),
        )

    def yield_to_disk(self, need: Need, *, quota: bool) -> bool:
        """Evict so much that ``need`` can be written on a disk that is full; whether that was possible.

        Nothing is evicted in vain: not where all files that are held take less than is missing.
        quota: how much is missing cannot be asked.
        """
        self.index.checkpoint()  # the log's room is the first to go
        missing = need.disk if quota else self._files.missing(need.disk)
        with self.index.reading() as sql:
            taken = measure(sql, self._files.folder)
        if need.disk and missing > taken.files - taken.reserved.disk:
            return False
        unlinked = 0
        while missing > 0 or not need.disk:
            try:
                with self.index.writing() as sql:
                    if need.disk:
                        step = self._evict(sql, missing.__le__, files=True)
                    else:
                        step = self._evict(sql, lambda _: free_pages(sql) >= need.pages)
            except ERRORS as error:
                # Not without end: somebody else may take whatever comes free.
                unlinked += 1
                if not (is_full(error) and unlinked <= FULL_TO_THE_BYTE and self._unlink_some()):
                    raise
                continue
            self._finish(step)
            if not need.disk or not step.progress:
                return bool(step.dropped)
            missing -= step.disk
        return True

    def _unlink_some(self) -> bool:
        """Remove the files of the least recently used entry before the entry: on a disk that is full to the last byte
        not even its going can be written down. Who reads it meanwhile has a miss. False when there is no such file."""
        with self.index.reading() as sql:
            for key in column(sql, "SELECT key FROM Entry ORDER BY used LIMIT ?", (BATCH,)):
                digests = column(sql, SOLE_BLOBS, (key,))
                if sum(self._files.remove(digest) for digest in digests if DIGEST.match(digest)):
                    return True
        return False

    def mend(self, digest: str, data: bytes) -> None:
        """Write a blob again whose file is gone, if an entry needs it still.

        Asked under the lock: an entry that was evicted at once has rightly lost its blob, and a file written for it
        now would be counted by nobody.
        """
        with self.index.writing() as sql:
            if not (has_file(sql, digest) and is_needed(sql, digest)):
                return
            place = Place(insert_reservation(sql, self.writer, 0, 0), frozenset(), Need())  # its row counts its bytes
            sql.execute("INSERT INTO Claim (digest, reservation) VALUES (?, ?)", (digest, place.id))
        try:
            self._files.write(digest, data, self.writer.name())
        finally:
            self.settle(place)

    def settle(self, place: Place) -> None:
        """Give up a reservation whose put failed; files that were already in place are collected."""
        self._unsettled.append(place.id)
        self._settle()

    def _settle(self) -> None:
        if self._unsettled:
            ids = list(self._unsettled)
            with self.index.writing() as sql:
                doomed = [digest for id in ids for digest in close_reservation(sql, self._files, id)]
            self._unsettled = [id for id in self._unsettled if id not in ids]
            self.collector.collect(doomed)

    def _make_room(self, sql: sqlite3.Connection, taken: Taken, wanted: Need) -> _Step:
        """Drop entries and give pages back until ``wanted`` fits beside what is taken, or as much as one transaction
        may."""

        def now(disk: int) -> Taken:
            return replace(taken, files=taken.files - disk, free=free_pages(sql))

        def enough(disk: int) -> bool:
            after = now(disk)
            return after.with_room_for(wanted) - after.surplus(wanted) * PAGE <= self._limit

        step = self._evict(sql, enough)
        after = now(step.disk)
        excess = after.with_room_for(wanted) - self._limit
        step.given_back = max(0, min(after.surplus(wanted), -(-excess // PAGE), PAGES))
        self.index.give_back(step.given_back)
        return step

    def _evict(self, sql: sqlite3.Connection, enough: Callable[[int], bool], *, files: bool = False) -> _Step:
        """Drop idle blobs, then expired entries, then the least recently used, until their bytes on disk are enough,
        or as many as one transaction may. files: only entries that have some."""
        doomed = column(sql, "SELECT digest FROM Blob WHERE idle = 1 LIMIT ?", (BATCH,))
        step = _Step(doomed, sum(blob_disk(sql, digest) for digest in doomed))
        before = free_pages(sql)
        while not enough(step.disk) and step.dropped < BATCH and free_pages(sql) - before < PAGES:
            key, expired = next_to_go(sql, self._clock(), files=files)
            if key is None:
                break
            if not expired:
                step.evicted += Evicted(1, _cost(sql, key))
            idle = drop_entry(self.index, sql, key)
            step.disk += sum(blob_disk(sql, digest) for digest in idle)
            step.doomed += idle
            step.dropped += 1
        return step

    def _finish(self, step: _Step) -> None:
        self._tally.add(step.evicted)
        self.collector.collect(step.doomed)


def _cost(sql: sqlite3.Connection, key: str) -> Decimal:
    """What an entry had cost. Asked when it goes, not kept beside it: entries go seldom, and are read often."""
    row = sql.execute("SELECT value FROM Cache WHERE key = ? AND raw = 1", (key,)).fetchone()
    try:
        return decode(bytes(row[0])).cost.usd or Decimal(0)
    except (Broken, TypeError, ValueError):  # no row, or one of another kind
        return Decimal(0)
