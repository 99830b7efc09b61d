"""Cleaning up that nothing depends on: room is also made when it is needed, and what has expired is never served."""

from __future__ import annotations

from collections.abc import Callable

from cachelayer.stores.local.blobs import BlobFiles
from cachelayer.stores.local.collection import BATCH
from cachelayer.stores.local.measure import Need, measure
from cachelayer.stores.local.rows import clamp_times, column, drop_entry
from cachelayer.stores.local.space import PAGES, Space


def clean_up(space: Space, files: BlobFiles, clock: Callable[[], float]) -> None:
    """After dead writers, entries out of the future and expired ones, blobs without references, free pages, the
    write-ahead log. Many short transactions: writers at work wait for none of them for long."""
    space.recency.flush()
    space.collector.reclaim()
    _clamp(space, clock)
    _expire(space, clock)
    space.collector.adopt_strays()
    space.collector.collect_idle()
    _shrink(space, files)
    space.index.checkpoint()


def _clamp(space: Space, clock: Callable[[], float]) -> None:
    while True:
        with space.index.writing() as sql:
            if not clamp_times(sql, clock()):
                return


def _expire(space: Space, clock: Callable[[], float]) -> None:
    while True:
        with space.index.writing() as sql:
            keys = column(sql, "SELECT key FROM Entry WHERE expires <= ? LIMIT ?", (clock(), BATCH))
            doomed = [digest for key in keys for digest in drop_entry(space.index, sql, key)]
        space.collector.collect(doomed)
        if len(keys) < BATCH:
            return


def _shrink(space: Space, files: BlobFiles) -> None:
    """Give back every free page that no writer waits for."""
    while True:
        with space.index.writing() as sql:
            pages = min(measure(sql, files.folder).surplus(Need()), PAGES)
            space.index.give_back(pages)
        if not pages:
            return
