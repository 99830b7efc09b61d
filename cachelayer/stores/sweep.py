"""Room: reservations, eviction, and the collection of blobs that nothing needs. Beside live writers, without a pause.

The rule that keeps the bound: every byte on disk is counted in ``Held`` before it is written and until after it is
gone. A writer reserves; a commit turns his reservation into rows; a collector turns a row back into a reservation of
his own until the file is unlinked. What a dead writer had reserved stays reserved until his files are dealt with.

The rule that keeps blobs (DESIGN section 5): a writer claims his digests before he looks at the files, so that no
collector begins with them; a collector renames to the trash first, asks again, and links back what is needed.

Order of locks: the index's write lock is the only one; files are renamed and unlinked while it is held, never written.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from cachelayer.core.errors import NoRoom
from cachelayer.stores.blobs import DIGEST, BlobFiles
from cachelayer.stores.index import Index
from cachelayer.stores.recency import Recency
from cachelayer.stores.rows import (
    blob_bytes,
    close_reservation,
    column,
    drop_entry,
    has_file,
    is_needed,
    take_unused,
)
from cachelayer.stores.writers import Writer

T = TypeVar("T")

ROOM_WAIT = 10.0
"""Seconds that a writer waits when all the room there is has been reserved by others."""
BATCH = 64
"""Blobs renamed or unlinked in one transaction: some tens of microseconds each while others wait to write."""


@dataclass(frozen=True, slots=True)
class Place:
    """Room that was reserved for one put."""

    id: str
    known: frozenset[str]
    """Digests that had a file when room was reserved; for the others there is room."""


class Sweep:
    """Everything that makes or frees room, on one index."""

    def __init__(
        self,
        index: Index,
        files: BlobFiles,
        writer: Writer,
        recency: Recency,
        size_limit: int,
        clock: Callable[[], float],
    ) -> None:
        self.index = index
        self._files = files
        self.writer = writer
        self.recency = recency
        self._limit = size_limit
        self._clock = clock
        self._unsettled: list[str] = []

    def admit(self, need: Callable[[sqlite3.Connection], int], take: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``take`` in a transaction in which the bytes that ``need`` asks for fit, evicting until they do.

        Raises NoRoom when they are more than there can be, or when others keep all room reserved for ROOM_WAIT.
        """
        self._settle()  # what could not be settled when its put failed, because the disk was full
        deadline = time.monotonic() + ROOM_WAIT
        pause, reclaimed = 0.002, False
        while True:
            doomed: list[str] = []
            found = False
            with self.index.writing() as sql:
                wanted = need(sql)
                if wanted > self._limit:
                    raise NoRoom(f"{wanted} bytes do not fit into a store of {self._limit}")
                self.recency.write(sql)
                held, reserved = sql.execute(
                    "SELECT bytes, (SELECT ifnull(sum(bytes), 0) FROM Reservation) FROM Held"
                ).fetchone()
                excess = held + wanted - self._limit
                if excess <= 0:
                    return take(sql)
                # While it cannot fit beside what others have reserved, evicting would be in vain.
                if reclaimed and reserved + wanted <= self._limit:
                    doomed, found = self._evict(sql, excess)
            if not reclaimed:
                self.reclaim()
                reclaimed = True
            elif found:
                self.collect(doomed)
            elif time.monotonic() < deadline:
                time.sleep(pause)
                pause = min(pause * 2, 0.1)
                reclaimed = False  # one of those we wait for may have died
            else:
                raise NoRoom(f"all room is taken by answers being written; {wanted} bytes more do not fit")

    def reserve(self, record: int, blobs: Mapping[str, int]) -> Place:
        """Reserve room for a record and blobs (digest -> bytes), evicting for it, and claim the digests.

        Raises NoRoom as admit() does.
        """

        def need(sql: sqlite3.Connection) -> int:
            return record + sum(size for digest, size in blobs.items() if not has_file(sql, digest))

        def take(sql: sqlite3.Connection) -> Place:
            known = frozenset(digest for digest in blobs if has_file(sql, digest))
            place = Place(self._reservation(sql, need(sql)), known)
            sql.executemany("INSERT INTO Claim VALUES (?, ?)", [(digest, place.id) for digest in blobs])
            return place

        return self.admit(need, take)

    def trim(self) -> None:
        """Evict until what is held fits, after the limit was lowered."""
        self.admit(lambda sql: 0, lambda sql: None)

    def extend(self, place: Place, size: int) -> None:
        """Reserve room for rewriting a blob that has a row but no whole file."""
        self.admit(
            lambda sql: size,
            lambda sql: sql.execute("UPDATE Reservation SET bytes = bytes + ? WHERE id = ?", (size, place.id)),
        )

    def mend(self, digest: str, data: bytes) -> None:
        """Write a blob again whose file is gone, if an entry needs it still.

        Asked under the lock: an entry that was evicted at once has rightly lost its blob, and a file written for it
        now would be counted by nobody.
        """
        with self.index.writing() as sql:
            if not (has_file(sql, digest) and is_needed(sql, digest)):
                return
            place = Place(self._reservation(sql, 0), frozenset())  # its row counts its bytes
            sql.execute("INSERT INTO Claim VALUES (?, ?)", (digest, place.id))
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
            self.collect(doomed)

    def collect(self, digests: Iterable[str]) -> int:
        """Remove the blobs among these that nothing needs; how many went."""
        todo = list(dict.fromkeys(digests))
        return sum(self._collect(todo[start : start + BATCH]) for start in range(0, len(todo), BATCH))

    def collect_idle(self) -> int:
        """Remove all blobs that were found idle."""
        count = 0
        with self.index.reading() as sql:
            idle = [digest for (digest,) in sql.execute("SELECT digest FROM Blob WHERE idle = 1")]
        count += self.collect(idle)
        return count

    def expire(self) -> int:
        """Drop the entries whose time is over; how many."""
        count = 0
        while True:
            with self.index.writing() as sql:
                keys = column(sql, "SELECT key FROM Entry WHERE expires <= ? LIMIT ?", (self._clock(), BATCH))
                doomed = [digest for key in keys for digest in drop_entry(self.index, sql, key)]
            self.collect(doomed)
            count += len(keys)
            if len(keys) < BATCH:
                return count

    def reclaim(self) -> bool:
        """Clean up after writers that died at work; True when there was one."""
        with self.index.reading() as sql:
            tokens = set(column(sql, "SELECT DISTINCT writer FROM Reservation"))
        unfinished, discarded = self._files.unfinished(), self._files.discarded()
        tokens.update(token for token, _ in unfinished + discarded)
        dead = {token for token in tokens if not self.writer.is_alive(token)}
        if not dead:
            return False
        for token, name in unfinished:
            if token in dead:
                self._files.abandon(name)
        doomed: list[str] = []
        with self.index.writing() as sql:
            for token, digest in discarded:
                if token in dead:
                    self._put_back_or_destroy(sql, digest, token)
            for token in sorted(dead):
                for id in column(sql, "SELECT id FROM Reservation WHERE writer = ?", (token,)):
                    doomed += close_reservation(sql, self._files, id)
        self.collect(doomed)
        return True

    def adopt_strays(self) -> None:
        """Count every blob file that the index does not know (its writer was killed, or the index is new)."""
        strays: list[tuple[str, int]] = []
        for digest, size in self._files.walk():
            strays.append((digest, size))
            if len(strays) == BATCH:
                self._adopt(strays)
                strays = []
        self._adopt(strays)

    def _adopt(self, strays: list[tuple[str, int]]) -> None:
        with self.index.reading() as sql:
            strays = [(digest, size) for digest, size in strays if not has_file(sql, digest)]
        if strays:
            with self.index.writing() as sql:
                for digest, _ in strays:
                    # Asked again under the lock: a claim means that its writer has counted it.
                    claimed = sql.execute("SELECT 1 FROM Claim WHERE digest = ?", (digest,)).fetchone()
                    size = self._files.size(digest)
                    if size is not None and not claimed:
                        sql.execute("INSERT OR IGNORE INTO Blob VALUES (?, ?, 1)", (digest, size))

    def _evict(self, sql: sqlite3.Connection, excess: int) -> tuple[list[str], bool]:
        """Drop entries until their going frees ``excess`` bytes, or BATCH of them: idle blobs first, then expired
        entries, then the least recently used. (blobs to be collected, whether anything was found)"""
        doomed = column(sql, "SELECT digest FROM Blob WHERE idle = 1 LIMIT ?", (BATCH,))
        freed = sum(blob_bytes(sql, digest) for digest in doomed)
        dropped = 0
        while freed < excess and dropped < BATCH:
            row = sql.execute(
                "SELECT key, bytes FROM Entry WHERE expires <= ? ORDER BY expires LIMIT 1", (self._clock(),)
            ).fetchone()
            row = row or sql.execute("SELECT key, bytes FROM Entry ORDER BY used LIMIT 1").fetchone()
            if row is None:
                break
            key, size = row
            idle = drop_entry(self.index, sql, key)
            freed += size + sum(blob_bytes(sql, digest) for digest in idle)
            doomed += idle
            dropped += 1
        return doomed, bool(doomed or dropped)

    def _collect(self, digests: list[str]) -> int:
        taken: list[str] = []
        size = 0
        try:
            with self.index.writing() as sql:
                for digest in digests:
                    freed = take_unused(sql, digest)
                    if freed is not None and DIGEST.match(digest) and self._files.discard(digest, self.writer.token):
                        taken.append(digest)
                        size += freed
                id = self._reservation(sql, size) if taken else None
        except BaseException:  # not committed, so the rows still speak for the files
            for digest in taken:
                self._files.put_back(digest, self.writer.token)
            raise
        if id is not None:
            with self.index.writing() as sql:
                for digest in taken:
                    self._put_back_or_destroy(sql, digest, self.writer.token)
                sql.execute("DELETE FROM Reservation WHERE id = ?", (id,))
        return len(taken)

    def _put_back_or_destroy(self, sql: sqlite3.Connection, digest: str, token: str) -> None:
        if is_needed(sql, digest):
            self._files.put_back(digest, token)
        else:
            self._files.destroy(digest, token)

    def _reservation(self, sql: sqlite3.Connection, size: int) -> str:
        id = self.writer.name()
        sql.execute("INSERT INTO Reservation VALUES (?, ?, ?)", (id, self.writer.token, size))
        return id
