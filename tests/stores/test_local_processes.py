"""Several threads and processes on one folder, and processes that die at work."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachelayer.core.entry import Broken
from cachelayer.core.errors import StoreError
from cachelayer.stores.local.index import IDLE_READERS
from tests.stores.worker import get, keys

Open = Callable[..., Any]
Start = Callable[..., subprocess.Popen[str]]

LIMIT = 480_000
"""Bytes; room for the store's own and few samples of worker.churn at once, so that there is always eviction."""
LOG = 16_000_000
"""Bytes that the write-ahead log may take on top."""


def observed(folder: Path) -> int:
    """Bytes on disk besides the ledger, its own and the log, as somebody else sees them."""
    return on_disk(folder) - sum(
        path.stat().st_blocks * 512 for path in (folder / "entries").glob("cache.db-*") if path.exists()
    )


def on_disk(folder: Path) -> int:
    """As du -s without the ledger."""
    total = 0
    for parent, folders, files in os.walk(folder):
        if Path(parent) == folder:
            folders[:] = [name for name in folders if name != "ledger"]
        for name in ["", *files]:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total


def open_files() -> list[str]:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc")
    paths = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return paths


def progress(process: subprocess.Popen[str], lines: int) -> None:
    """Wait until a worker has said so many lines."""
    assert process.stdout is not None
    for _ in range(lines):
        assert process.stdout.readline(), "the worker ended"


def freeze(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    for process in processes:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def thaw(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.send_signal(signal.SIGCONT)


def soak(folder: Path, open_here: Open, start: Start, rounds: int) -> None:
    """Three writers and a collector; whenever they are stopped, the bound holds and no entry lacks a blob."""
    store = open_here(LIMIT)
    processes = [start("churn", LIMIT, seed) for seed in range(3)] + [start("collect", LIMIT)]
    rng = random.Random(0)
    most = 0
    for _ in range(rounds):
        for process in processes:
            progress(process, rng.randrange(1, 4))
        freeze(processes)
        try:
            total = observed(folder)
            problems = [problem for problem in store.verify(deep=True) if problem.kind != "orphaned-blob"]
        except (sqlite3.OperationalError, StoreError) as error:
            # One was frozen in the middle of one of SQLite's locks: nobody can look now.
            assert "locking protocol" in str(error)  # noqa: PT017
            continue
        finally:
            thaw(processes)
        assert total <= LIMIT
        assert on_disk(folder) <= LIMIT + LOG
        assert problems == []
        most = max(most, total)
    assert most > LIMIT / 2


def test_the_bound_and_every_blob_hold_at_any_moment(folder: Path, open_here: Open, start: Start) -> None:
    soak(folder, open_here, start, 25)


@pytest.mark.acceptance
@pytest.mark.timeout(600)
def test_the_bound_and_every_blob_hold_for_long(folder: Path, open_here: Open, start: Start) -> None:
    soak(folder, open_here, start, 1500)


def kill(folder: Path, open_here: Open, worker: Any, start: Start, rounds: int) -> None:
    """Writers killed at any step leave whole entries, no wrong bytes, no lost room."""
    store = open_here(LIMIT)
    rng = random.Random(1)
    for seed in range(rounds):
        process = start("churn", LIMIT, seed)
        progress(process, rng.randrange(1, 6))
        # Not a wait: the moment of the kill, somewhere in the following puts.
        threading.Event().wait(rng.random() * 0.02)
        process.kill()
        process.communicate()
        assert observed(folder) <= LIMIT
        for key in keys(store):
            try:
                assert worker.whole(store, key) is not None
            except Broken as broken:
                pytest.fail(str(broken))
    store.maintain()
    assert store.verify(deep=True) == []
    assert list((folder / "incoming").iterdir()) + list((folder / "trash").iterdir()) == []
    assert store.sizes()[2] == observed(folder)
    connection = sqlite3.connect(folder / "entries" / "cache.db")
    assert connection.execute("SELECT * FROM Reservation").fetchall() == []
    assert connection.execute("SELECT * FROM Claim").fetchall() == []
    connection.close()


def test_writers_killed_at_work(folder: Path, open_here: Open, worker: Any, start: Start) -> None:
    kill(folder, open_here, worker, start, 20)


@pytest.mark.acceptance
@pytest.mark.timeout(600)
def test_many_writers_killed_at_work(folder: Path, open_here: Open, worker: Any, start: Start) -> None:
    kill(folder, open_here, worker, start, 400)


def test_processes_at_once_lose_nothing(folder: Path, open_here: Open, start: Start) -> None:
    processes = [start("fill", 10_000_000, seed) for seed in range(4)]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == ["120"] * 4
    store = open_here()
    store.maintain()  # what was given back is cut off the file
    assert store.sizes()[0] == 4 * 60 + 60
    assert store.verify(deep=True) == []
    assert store.sizes()[2] == observed(folder)


def test_what_a_live_writer_works_on_is_left_alone_and_a_dead_ones_room_comes_back(
    folder: Path, open_here: Open, worker: Any, start: Start
) -> None:
    store = open_here(LIMIT)
    writer = start("take_room", LIMIT)
    assert writer.stdout is not None
    child = int(writer.stdout.readline())
    try:
        store.maintain()
        assert len(list((folder / "incoming").iterdir())) == 1
        # His room is taken: what needs all the rest still fits, again and again.
        for n in range(5):
            small = worker.sample(n, b"%d" % n * 30_000)
            small.put(store)
            assert worker.whole(store, small.key) == small.body
            assert observed(folder) <= LIMIT
        writer.kill()
        writer.wait()
        # The forked child lives on; that does not keep the room.
        large = worker.sample("large", b"l" * 200_000)
        large.put(store)
        assert worker.whole(store, large.key) == large.body
        assert observed(folder) <= store.sizes()[2] <= LIMIT
        assert list((folder / "incoming").iterdir()) == []
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_writer_waits_for_room_that_others_have_reserved(
    folder: Path, open_here: Open, worker: Any, start: Start
) -> None:
    """Room reserved by a live writer cannot be evicted: the put goes on as soon as he is gone."""
    store = open_here(LIMIT)
    writer = start("take_room", LIMIT)
    assert writer.stdout is not None
    child = int(writer.stdout.readline())
    large = worker.sample("large", b"l" * 200_000)
    thread = threading.Thread(target=large.put, args=(store,))
    try:
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        assert get(store, large.key) is None
    finally:
        writer.kill()
        writer.wait()
        os.kill(child, signal.SIGKILL)
        thread.join()
    assert worker.whole(store, large.key) == large.body


def test_fork_in_the_middle_of_everything(start: Start) -> None:
    out, _ = start("forks").communicate(timeout=60)
    assert out.split() == ["0", "28", "{}"]


def test_threads_that_come_and_go_leave_no_connection(folder: Path, open_here: Open, worker: Any) -> None:
    store, one = open_here(), worker.sample("one", b"image" * 1000)
    one.put(store)
    found: list[bytes | None] = []
    for _ in range(20):
        threads = [threading.Thread(target=lambda: found.append(get(store, one.key))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [one.record] * 400
    database = str(folder / "entries" / "cache.db")
    assert sum(path == database for path in open_files()) <= IDLE_READERS + 1
    store.close()
    assert database not in open_files()
