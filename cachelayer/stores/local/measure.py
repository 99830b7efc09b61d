"""What a store takes on disk and what something new would take: the one sum that the size limit binds.

    files in whole blocks, finished, being written or in the trash   Held (tables.py)
  + the index by its pages, canonical requests and free pages included
  + the folder's own small files and folders, and indexes that were set aside
  + what the write-ahead log takes beyond its allowance (LOG_ALLOWANCE), which is on top of the limit

The ledger is not counted. Nothing is changed here; a sum is right in the transaction in which it was asked for.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cachelayer.stores.base import Sizes
from cachelayer.stores.local.blobs import blocks
from cachelayer.stores.local.index import FILE, log_size
from cachelayer.stores.local.rows import has_file
from cachelayer.stores.local.tables import PAGE

LOG_ALLOWANCE = 16_000_000
"""Bytes that the write-ahead log may take on top of the size limit (it is cut long before; index.py)."""

EMPTY_INDEX = 24
"""Pages of an index without entries."""
MARGIN = 20
"""Pages. An index that was emptied is a little larger than a fresh one; what fits only into a fresh one is refused at
once, before anything is evicted for it in vain."""
_SPLITS = 6
"""Pages by which a put may grow the trees of the index beyond what it puts there; each splits once in some thirty puts.
What a put has taken in truth is counted by the next one."""

_OVERHEAD = ("", "format", "maintained", "writers.lock", "leases.lock", "blobs", "incoming", "trash", "entries")


@dataclass(frozen=True, slots=True)
class Need:
    """Room for something that is not there yet."""

    disk: int = 0
    """Bytes of files."""
    pages: int = 0
    """Pages of the index."""

    @property
    def bytes(self) -> int:
        return self.disk + self.pages * PAGE


@dataclass(frozen=True, slots=True)
class Taken:
    """What is taken, in bytes unless it says pages."""

    files: int
    reserved: Need
    """The part of it that is being written."""
    pages: int
    """Of the index file."""
    free: int
    """Pages among them that are free."""
    overhead: int
    log: int
    """Of the write-ahead log, beyond its allowance."""

    def with_room_for(self, need: Need) -> int:
        """Bytes on disk once ``need``, and all that is reserved, has come."""
        growth = max(0, self.reserved.pages + need.pages - self.free)
        return self.files + need.disk + (self.pages + growth) * PAGE + self.overhead + self.log

    def surplus(self, need: Need) -> int:
        """Free pages that nobody waits for."""
        return max(0, self.free - self.reserved.pages - need.pages)


def measure(sql: sqlite3.Connection, path: Path) -> Taken:
    """What the store in a folder takes, by its own index."""
    (files, reserved, reserved_pages) = sql.execute(
        "SELECT disk, (SELECT ifnull(sum(disk), 0) FROM Reservation),"
        " (SELECT ifnull(sum(pages), 0) FROM Reservation) FROM Held"
    ).fetchone()
    ((pages,),) = sql.execute("PRAGMA page_count").fetchall()
    index = path / "entries" / FILE
    size, disk = _size_and_blocks(index)
    # A file that was given pages back is cut at the next checkpoint only.
    log = log_size(index) + max(0, size - pages * PAGE)
    # What the file system takes to find the pieces of a file that lies in many.
    overhead = _overhead(path) + max(0, disk - size)
    return Taken(files, Need(reserved, reserved_pages), pages, free_pages(sql), overhead, max(0, log - LOG_ALLOWANCE))


def free_pages(sql: sqlite3.Connection) -> int:
    """Pages of the index in which there is nothing."""
    ((free,),) = sql.execute("PRAGMA freelist_count").fetchall()
    return int(free)


def sizes(sql: sqlite3.Connection, path: Path) -> Sizes:
    """What a store holds, in bytes on disk."""
    entries, blobs = sql.execute("SELECT (SELECT count(*) FROM Entry), (SELECT count(*) FROM Blob)").fetchone()
    return Sizes(entries, blobs, measure(sql, path).with_room_for(Need()))


def least(sql: sqlite3.Connection, taken: Taken) -> int:
    """Bytes that the store takes when every entry has been evicted and nothing is being written."""
    (shelves,) = sql.execute("SELECT ifnull(sum(disk), 0) FROM Shelf").fetchone()
    return int(shelves) + (EMPTY_INDEX + MARGIN) * PAGE + taken.overhead  # the log is cut again


def need_of(sql: sqlite3.Connection, record: int, request: int, blobs: Mapping[str, int], block: int) -> Need:
    """Room for a record, its canonical request and the blobs (digest -> bytes) that have no file yet.

    block: bytes of a block of the file system.
    """
    new = [(digest, size) for digest, size in blobs.items() if not has_file(sql, digest)]
    shelves = {digest[:2] for digest, _ in new}
    known = {name for name in shelves if sql.execute("SELECT 1 FROM Shelf WHERE name = ?", (name,)).fetchone()}
    # A new name may cost its folder a block, a new folder costs one and a name in the folder above.
    disk = sum(file_need(size, block) for _, size in new) + (len(new) + 2 * len(shelves - known)) * block
    pages = sum(size // (PAGE - 100) + 1 for size in (record, request)) + _SPLITS + len(blobs)
    return Need(disk, pages)


def file_need(size: int, block: int) -> int:
    """Bytes that a file of a size takes on disk."""
    return -(-size // block) * block


def _overhead(path: Path) -> int:
    total = sum(_blocks(f"{path}/{name}") for name in _OVERHEAD)
    for name in os.listdir(path):
        if name.startswith("entries.aside"):
            total += _blocks(f"{path}/{name}")
            with suppress(OSError):  # not a folder
                total += sum(_blocks(entry.path) for entry in os.scandir(path / name))
    return total


def _blocks(path: str) -> int:
    try:
        return blocks(os.lstat(path))
    except OSError:
        return 0


def _size_and_blocks(path: Path) -> tuple[int, int]:
    try:
        status = os.lstat(path)
    except OSError:
        return 0, 0
    return status.st_size, blocks(status)
