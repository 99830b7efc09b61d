"""One entry written: room first, then its blobs, then everything else in one commit (docs/storage.md, Writing)."""

from __future__ import annotations

import errno
import os
import sqlite3
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from cachelayer.core.entry import Broken, Version, decode
from cachelayer.core.errors import StoreError
from cachelayer.machine.sqlite import ERRORS
from cachelayer.stores.base import Parcel
from cachelayer.stores.local.blobs import DIGEST, BlobFiles
from cachelayer.stores.local.faults import is_disk_full
from cachelayer.stores.local.measure import Need
from cachelayer.stores.local.rows import EntryRow, drop_entry, insert_entry
from cachelayer.stores.local.space import Place, Space
from cachelayer.stores.local.strict import KEY, version_of

FAILURES = (StoreError, OSError, *ERRORS)
_TRIES_ON_A_FULL_DISK = 3
"""What is evicted for an answer may be taken by somebody else before it is written."""


class _Overtaken(Exception):
    """Another entry is there, and is not the one to be replaced."""


@dataclass(frozen=True, slots=True)
class Put:
    """An entry about to be written, checked and complete."""

    key: str
    record: bytes
    blobs: Mapping[str, bytes]
    request: bytes
    """The canonical request, compressed."""
    expires: float | None
    replace: Version | None

    @staticmethod
    def of(parcel: Parcel, expires: float | None, replace: Version | None) -> Put:
        """Gather what a parcel holds. Raises StoreError where it is not whole."""
        try:
            digests = dict.fromkeys(ref.digest for ref in decode(parcel.record).blobs)
        except Broken as error:
            raise StoreError(f"this is not stored: {error}") from None
        blobs = {digest: parcel.contents.blob(digest) for digest in digests}
        whole = {digest: data for digest, data in blobs.items() if data is not None and DIGEST.match(digest)}
        if len(whole) != len(blobs) or not KEY.match(parcel.key):
            raise StoreError("this is not stored: a blob is missing, or a key or digest is not 64 hex digits")
        request = zlib.compress(parcel.contents.canonical() or b"")
        return Put(parcel.key, parcel.record, whole, request, expires, replace)

    def run(self, space: Space, files: BlobFiles, clock: Callable[[], float]) -> bool:
        """Whether it is there now, and not another one. Raises NoRoom, and what the disk and SQLite raise."""
        with space.index.reading() as sql:
            if self._is_overtaken(sql):  # before anything is evicted for it
                return False
        sizes = {digest: len(data) for digest, data in self.blobs.items()}
        need = Need(sum(sizes.values()), 1)
        for left in reversed(range(_TRIES_ON_A_FULL_DISK)):
            try:
                place = space.reserve(len(self.record), len(self.request), sizes)
                need = place.need
                self._write(place, space, files, clock)
                return True
            except _Overtaken:
                return False
            except FAILURES as error:
                quota = getattr(error, "errno", None) == errno.EDQUOT
                if not (left and is_disk_full(error) and space.yield_to_disk(need, quota=quota)):
                    raise
        raise AssertionError("unreachable")

    def _is_overtaken(self, sql: sqlite3.Connection) -> bool:
        there = version_of(sql, self.key)
        return there is not None and there != self.replace

    def _write(self, place: Place, space: Space, files: BlobFiles, clock: Callable[[], float]) -> None:
        index = space.index
        try:
            if place.need.disk and files.missing(place.need.disk):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(files.folder))
            # Claimed: from here on no collector begins with these blobs.
            for digest, data in self.blobs.items():
                if not files.holds(digest, data):
                    if digest in place.known:
                        space.extend(place, len(data))  # damaged: two files until the new one is in place
                    files.write(digest, data, space.writer.name())
            with index.writing() as sql:
                if self._is_overtaken(sql):
                    raise _Overtaken
                doomed = drop_entry(index, sql, self.key)  # what it needs and the new one needs is claimed
                index.set(self.key, self.record)
                row = EntryRow(self.key, len(self.record), clock(), self.expires, self.request)
                extents = {digest: files.taken(digest, data) for digest, data in self.blobs.items()}
                insert_entry(sql, row, extents, place.id)
        except BaseException:
            with suppress(*FAILURES):
                space.settle(place)
            raise
        with suppress(*FAILURES):  # committed; what is left over is collected later
            space.collector.collect(doomed)
        for digest, data in self.blobs.items():
            if files.size(digest) is None:
                space.mend(digest, data)
