"""The collection of blobs that nothing needs, and of what dead writers left. Beside live writers, without a pause.

A writer claims his digests before he looks at the files, so that no collector begins with them; a collector renames to
the trash first, asks again, and links back what is needed. While a file is in the trash, its row has become a
reservation of the collector's: every block stays counted until it is gone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable

from cachelayer.stores.local.blobs import DIGEST, BlobFiles
from cachelayer.stores.local.index import Index
from cachelayer.stores.local.rows import (
    add_idle_blob,
    close_reservation,
    column,
    has_file,
    insert_reservation,
    is_needed,
    take_unused,
)
from cachelayer.stores.local.writers import Writer

BATCH = 64
"""Blobs renamed or unlinked, or entries dropped, in one transaction: some tens of microseconds each while others wait
to write."""


class Collector:
    """Everything that takes blobs away, on one index."""

    def __init__(self, index: Index, files: BlobFiles, writer: Writer) -> None:
        self.index, self._files, self.writer = index, files, writer

    def collect(self, digests: Iterable[str]) -> int:
        """Remove the blobs among these that nothing needs; how many went."""
        todo = list(dict.fromkeys(digests))
        return sum(self._collect(todo[start : start + BATCH]) for start in range(0, len(todo), BATCH))

    def collect_idle(self) -> bool:
        """Remove some of the blobs that were found idle; whether there may be more."""
        with self.index.reading() as sql:
            idle = column(sql, "SELECT digest FROM Blob WHERE idle = 1 LIMIT ?", (BATCH,))
        self.collect(idle)  # or, where one is needed after all, it is idle no more
        return len(idle) == BATCH

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

    def adopt_strays(self, go_on: Callable[[], bool]) -> None:
        """Count every blob file that the index does not know (its writer was killed, or the index is new).

        go_on: asked now and then.
        """
        strays: list[str] = []
        for digest, _ in self._files.walk():
            strays.append(digest)
            if len(strays) == BATCH:
                self._adopt(strays)
                strays = []
                if not go_on():
                    return
        self._adopt(strays)

    def _adopt(self, strays: list[str]) -> None:
        with self.index.reading() as sql:
            strays = [digest for digest in strays if not has_file(sql, digest)]
        if strays:
            with self.index.writing() as sql:
                for digest in strays:
                    # Asked again under the lock: a claim means that its writer has counted it.
                    claimed = sql.execute("SELECT 1 FROM Claim WHERE digest = ?", (digest,)).fetchone()
                    extent = self._files.extent(digest)
                    if extent is not None and not claimed:
                        add_idle_blob(sql, digest, extent)

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
                id = insert_reservation(sql, self.writer, size, 0) if taken else None
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
