"""The size limit binds what the folder takes on disk, whoever writes and whatever it is made of."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import diskcache
import pytest

from cachelayer.core.errors import NoRoom, StoreError
from cachelayer.stores.base import Evicted
from cachelayer.stores.local import open_local, sizes_in, tables
from cachelayer.stores.local.index import CHECKPOINT_BY
from cachelayer.stores.local.measure import LOG_ALLOWANCE
from cachelayer.stores.local.strict import StrictDisk
from tests.stores.test_local_processes import freeze, observed, on_disk, progress, thaw
from tests.stores.worker import delete, get, put

Open = Callable[..., Any]
Start = Callable[..., subprocess.Popen[str]]


def log_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "entries").glob("cache.db-*"))


def press(folder: Path, open_here: Open, start: Start, limit: int, rounds: int) -> None:
    """Four writers who all evict; whenever they are stopped, ``du`` is within the limit and the log's allowance."""
    store = open_here(limit)
    processes = [start("press", limit, seed) for seed in range(4)]
    most = 0
    for _ in range(rounds):
        for process in processes:
            progress(process, 10)
        freeze(processes)
        try:
            taken = on_disk(folder)
            log = log_of(folder)
        finally:
            thaw(processes)
        assert taken <= limit + CHECKPOINT_BY  # no reader stays, so the log is cut long before its allowance ends
        most = max(most, taken - log)
    for process in processes:
        process.kill()
        process.wait()
    # What was given back is cut from the file with the log, and until then comes out of the log's allowance.
    assert limit * 3 / 4 < most <= limit + LOG_ALLOWANCE // 8
    store.maintain()
    assert store.verify(deep=True) == []
    assert observed(folder) == store.sizes()[2] <= limit
    assert store.sizes()[0] > 0
    assert log_of(folder) < 2**20


def test_many_writers_keep_to_the_limit(folder: Path, open_here: Open, start: Start) -> None:
    press(folder, open_here, start, 2_000_000, 12)


@pytest.mark.acceptance
@pytest.mark.timeout(600)
@pytest.mark.parametrize("limit", [2_000_000, 20_000_000])
def test_many_writers_keep_to_the_limit_for_long(limit: int, folder: Path, open_here: Open, start: Start) -> None:
    press(folder, open_here, start, limit, 250)


@pytest.mark.parametrize("what", ["tiny", "text", "request", "blob", "small blobs"])
def test_whatever_it_is_made_of(what: str, folder: Path, open_here: Open, worker: Any) -> None:
    limit = 1_500_000
    store = open_here(limit)
    kept = 0
    for n in range(150):
        blobs = {"blob": [os.urandom(60_000)], "small blobs": [os.urandom(100) for _ in range(8)]}.get(what, [])
        one = worker.sample(n, *blobs, text=os.urandom(15_000) if what == "text" else b"x")
        canonical = os.urandom(90_000) if what == "request" else b"{}"
        put(store, one, canonical=canonical)
        kept = store.sizes()[0]
        assert observed(folder) <= limit
        assert worker.whole(store, one.key) == one.body
    assert observed(folder) > limit / 2 or kept == 150
    store.maintain()
    assert observed(folder) == store.sizes()[2] == sizes_in(folder)[2]


def test_what_is_deleted_gives_its_room_back(folder: Path, open_here: Open, worker: Any) -> None:
    store = open_here()
    samples = [worker.sample(n, os.urandom(20_000), text=os.urandom(10_000)) for n in range(150)]
    for one in samples:
        one.put(store)
    full = observed(folder)
    for one in samples:
        delete(store, one.key)
    store.maintain()
    # What remains are the folders of blobs, which stay, and an index that was in use.
    shelves = sum(path.stat().st_blocks * 512 for path in (folder / "blobs").iterdir())
    assert observed(folder) == store.sizes()[2] <= 250_000 + shelves < full / 4


@pytest.mark.acceptance  # each write waits two seconds for him
def test_a_reader_who_stays_costs_entries_and_not_the_disk(folder: Path, open_here: Open, worker: Any) -> None:
    """He keeps the log from being cut; what it takes beyond its allowance is taken from the rest."""
    limit = 12_000_000
    store = open_here(limit)
    worker.sample("first").put(store)
    reader = sqlite3.connect(folder / "entries" / "cache.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM Entry").fetchone()
    refused = stored = 0
    while log_of(folder) < LOG_ALLOWANCE + limit // 4:
        one = worker.sample(stored, text=os.urandom(14_000))
        canonical = os.urandom(900_000)
        try:
            put(store, one, canonical=canonical)
            stored += 1
        except NoRoom:
            refused += 1
            assert refused < 3
            break
        assert on_disk(folder) <= limit + LOG_ALLOWANCE + 2_000_000  # one transaction more
    assert stored > 10
    reader.close()
    after = worker.sample("after", os.urandom(100_000))
    after.put(store)
    store.maintain()
    assert worker.whole(store, after.key) == after.body
    assert log_of(folder) < 2**20
    assert on_disk(folder) <= limit + 2**20


def test_an_index_that_was_set_aside_counts(folder: Path, open_here: Open, worker: Any) -> None:
    limit = 4_000_000
    store = open_here(limit)
    for n in range(150):
        worker.sample(n, text=os.urandom(15_000)).put(store)
    store.close()
    with open(folder / "entries" / "cache.db", "r+b") as file:
        file.write(b"no database any more")
    store = open_here(limit)
    assert store.problems == {"index": 1}
    for n in range(150):
        worker.sample(n, text=os.urandom(15_000)).put(store)
        assert observed(folder) <= limit
    assert 10 < store.sizes()[0] < 150


def test_a_store_too_small_for_itself_keeps_nothing_and_says_so(open_here: Open, worker: Any) -> None:
    store = open_here(100_000)
    with pytest.raises(NoRoom, match=r"do not fit into a store of 100000, of which [0-9]+ are its own"):
        worker.sample("one").put(store)
    assert store.sizes()[:2] == (0, 0)


# -- what goes is told -------------------------------------------------------------------------------------------


def test_a_lower_limit_says_what_it_drops(open_here: Open, worker: Any, clock: Any, caplog: Any) -> None:
    store = open_here()
    for n in range(8):
        clock.now += 1
        worker.sample(n, bytes([n]) * 500_000).put(store)
    store.close()
    with caplog.at_level(logging.INFO, "cachelayer"):
        store = open_here(2_000_000)
        assert store.take_evicted() == Evicted(5, Decimal("0.20"))
        store.close()
        open_here(2_000_000)  # nothing is left to be said
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "5 entries that had cost $0.20 were dropped" in record.getMessage()


def test_a_second_store_with_a_lower_limit_says_so_once(open_here: Open, worker: Any, clock: Any, caplog: Any) -> None:
    small, large = open_here(2_000_000), open_here(20_000_000)
    with caplog.at_level(logging.INFO, "cachelayer"):
        for n in range(20):
            clock.now += 1
            worker.sample(n, bytes([n]) * 400_000).put(small if n % 5 == 4 else large)
    assert len(caplog.records) == 1
    assert "entries that had cost $" in caplog.text


def test_eviction_in_a_full_store_is_no_news(open_here: Open, worker: Any, clock: Any, caplog: Any) -> None:
    store = open_here(2_000_000)
    with caplog.at_level(logging.INFO, "cachelayer"):
        for n in range(60):
            clock.now += 1
            worker.sample(n, os.urandom(50_000 + 7000 * (n % 9)), text=os.urandom(n * 200)).put(store)
    assert store.take_evicted().entries > 20
    assert caplog.records == []


def test_what_expired_or_had_no_price_costs_nothing(folder: Path, open_here: Open, worker: Any, clock: Any) -> None:
    store = open_here(2_000_000)
    unpriced = worker.sample("unpriced", b"u" * 500_000)
    clock.now += 1
    put(store, unpriced)
    with sqlite3.connect(folder / "entries" / "cache.db") as database:
        database.execute("UPDATE Cache SET value = x'00'")  # damaged: what it had cost is not known
    database.close()
    worker.sample("expiring", b"e" * 500_000).put(store, expires=clock.now + 1)
    clock.now += 10
    for n in range(4):
        clock.now += 1
        worker.sample(n, bytes([n]) * 500_000).put(store)
    assert store.take_evicted() == Evicted(2, Decimal("0.04"))


# -- a full disk -------------------------------------------------------------------------------------------------


def test_the_oldest_make_room_on_a_disk_that_others_fill(folder: Path, worker: Any, clock: Any) -> None:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a tmpfs here")
    store = open_local(folder, size_limit=10**9, clock=clock)
    try:
        samples = [worker.sample(n, os.urandom(200_000)) for n in range(12)]
        for one in samples[:10]:
            clock.now += 1
            one.put(store)
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        (folder / ".others").write_bytes(bytes(free - 10_000))
        for one in samples[10:]:
            clock.now += 1
            one.put(store)
        kept = [get(store, one.key) is not None for one in samples]
        assert kept == sorted(kept)
        assert kept[5:] == [True] * 7  # no more went than was needed
        assert all(worker.whole(store, one.key) == one.body for one, there in zip(samples, kept, strict=True) if there)
        assert store.take_evicted().entries == kept.count(False) > 0
        # Entries without files free none: they do not go in vain.
        small = [worker.sample(("small", n)) for n in range(5)]
        for one in small:
            one.put(store)
        with pytest.raises(NoRoom):
            worker.sample("too large", os.urandom(3_000_000)).put(store)
        assert all(get(store, one.key) for one in [*small, samples[-1]])
        assert list((folder / "incoming").iterdir()) == []
    finally:
        store.close()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


# -- the index ---------------------------------------------------------------------------------------------------


def test_the_index_is_the_one_that_diskcache_makes(folder: Path, tmp_path: Path, open_here: Open) -> None:
    """Its constructor is not called, as it expands names in the path once more."""
    open_here().close()
    theirs = diskcache.Cache(str(tmp_path / "theirs"), disk=StrictDisk, **tables.SETTINGS)
    theirs.close()

    def content(path: Path) -> tuple[dict[str, str], dict[str, object], list[object]]:
        database = sqlite3.connect(path / "cache.db")
        tables = {name: sql for name, sql in database.execute("SELECT name, sql FROM sqlite_master") if sql}
        settings = dict(database.execute("SELECT key, value FROM Settings"))
        header = [
            database.execute(f"PRAGMA {name}").fetchone() for name in ("auto_vacuum", "journal_mode", "page_size")
        ]
        database.close()
        return tables, settings, header

    ours, made = content(folder / "entries"), content(tmp_path / "theirs")
    assert {name: sql for name, sql in ours[0].items() if name in made[0]} == made[0]
    assert ours[1:] == made[1:]


@pytest.mark.parametrize("pragma", ["auto_vacuum = 0", "auto_vacuum = 1", "page_size = 8192"])
def test_an_index_with_another_header_is_moved_aside(pragma: str, folder: Path, open_here: Open, worker: Any) -> None:
    open_here().close()
    database = sqlite3.connect(folder / "entries" / "cache.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = delete").fetchall()
    database.execute(f"PRAGMA {pragma}")
    database.execute("VACUUM")
    database.execute("PRAGMA journal_mode = wal").fetchall()
    database.close()
    store = open_here()
    assert store.problems == {"index": 1}
    one = worker.sample("one", b"image" * 1000)
    one.put(store)
    assert worker.whole(store, one.key) == one.body


def test_a_store_is_measured_without_being_opened(folder: Path, open_here: Open, worker: Any) -> None:
    assert sizes_in(folder) == (0, 0, 0)
    assert not folder.exists()
    store = open_here()
    worker.sample("one", b"image" * 1000).put(store)
    assert sizes_in(folder) == store.sizes()
    store.close()
    assert sizes_in(folder)[:2] == (1, 1)
    (folder / "format").write_text("cachelayer store 2\n")
    with pytest.raises(StoreError, match="update cachelayer"):
        sizes_in(folder)
