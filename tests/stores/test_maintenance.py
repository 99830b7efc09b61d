"""A folder in use cleans itself up, once an hour, and nobody waits for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachelayer.stores.local.maintenance import EVERY
from tests.stores.worker import keys

Open = Callable[..., Any]


def settle() -> int:
    """Wait for clean-ups under way; how many there were."""
    running = [thread for thread in threading.enumerate() if thread.name == "cachelayer-maintenance"]
    for thread in running:
        thread.join(30)
        assert not thread.is_alive()
    return len(running)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store" / "maintained"


def test_what_has_expired_goes_without_pressure(open_here: Open, worker: Any, clock: Any) -> None:
    store = open_here()
    for n in range(100):  # more than a batch
        worker.sample(n, b"%d" % n * 1000).put(store, expires=clock.now + 10)
    clock.now += EVERY - 1
    worker.sample("early").put(store)
    settle()
    assert store.sizes()[:2] == (101, 100)
    clock.now += 61
    worker.sample("late").put(store)
    settle()
    assert set(keys(store)) == {worker.sample("early").key, worker.sample("late").key}
    assert store.sizes().blobs == 0
    assert store.verify(deep=True) == []


def test_a_look_up_cleans_nothing(open_here: Open, worker: Any, clock: Any, file: Path) -> None:
    store, one = open_here(), worker.sample("one")
    one.put(store)
    began = file.stat().st_mtime
    clock.now += EVERY * 3
    assert worker.whole(store, one.key) == one.body
    assert settle() == 0
    assert file.stat().st_mtime == began


def test_once_an_hour_whoever_writes(open_here: Open, worker: Any, clock: Any, file: Path) -> None:
    stores = [open_here() for _ in range(3)]
    for n, store in enumerate(stores):
        worker.sample(n).put(store)
    times = []
    for _ in range(4):
        clock.now += EVERY / 2 + 1
        for n, store in enumerate(stores):
            worker.sample((clock.now, n)).put(store)
        settle()
        times.append(file.stat().st_mtime)
    assert times[1] == times[2]
    assert times[3] == clock.now


def test_a_clock_that_was_ahead_does_not_stop_it(open_here: Open, worker: Any, clock: Any, file: Path) -> None:
    store = open_here()
    worker.sample("one").put(store)
    os.utime(file, (clock.now + 10 * EVERY, clock.now + 10 * EVERY))
    clock.now += 61
    worker.sample("two").put(store)
    settle()
    assert file.stat().st_mtime == clock.now


def test_what_lies_in_the_files_place_costs_no_answer(open_here: Open, worker: Any, clock: Any, file: Path) -> None:
    store = open_here()
    plants: list[Callable[[Path], object]] = [os.mkdir, os.mkfifo, lambda path: os.symlink("elsewhere", path)]
    for number, plant in enumerate(plants):
        file.unlink(missing_ok=True) if not file.is_dir() else file.rmdir()
        plant(file)
        clock.now += EVERY
        one = worker.sample(number)
        one.put(store)
        assert worker.whole(store, one.key) == one.body
        assert settle() == 0
    assert store.problems == {}


def test_closing_ends_it_early(open_here: Open, worker: Any, clock: Any) -> None:
    store = open_here()
    for n in range(300):
        worker.sample(n).put(store, expires=clock.now + 10)
    clock.now += EVERY
    worker.sample("late").put(store)
    store.close()
    settle()
    assert open_here().verify(deep=True) == []
