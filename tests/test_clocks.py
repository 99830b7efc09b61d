"""Clocks that are or were wrong: nothing is served beyond its time, nothing stays for ever because of them."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cachelayer
from cachelayer.core.entry import Entry, decode
from cachelayer.core.model import Cost
from cachelayer.core.policy import CLOCK_LEEWAY, is_fresh
from cachelayer.simulator import Simulator
from cachelayer.stores.local import open_local
from tests.asking import PATH
from tests.conftest import Program, finish
from tests.stores.worker import get, keys

DECADE = 3650 * 86_400.0
NOW = 1_800_000_000.0

ENTRY = Entry(
    key="0" * 64,
    spec=1,
    namespace="default",
    created=NOW,
    expires=None,
    status=200,
    headers=(),
    template=(),
    cost=Cost(None, "unpriced", "test"),
    latency=1.0,
    operation="image",
    model="m",
    host="h",
    images=0,
)

TIMES = st.floats(NOW - 2 * DECADE, NOW + 2 * DECADE)
SPANS = st.floats(1, DECADE)


@settings(deadline=None)
@given(created=TIMES, now=TIMES, own=st.none() | SPANS, ttl=st.none() | SPANS)
def test_nothing_is_served_longer_than_its_time_from_now(
    created: float, now: float, own: float | None, ttl: float | None
) -> None:
    """Whatever either clock said: an entry that is served now is not served when its time has passed from now on."""
    entry = replace(ENTRY, created=created, expires=None if own is None else created + own)
    if own is None and ttl is None:
        assert is_fresh(entry, now, ttl)
    elif is_fresh(entry, now, ttl):
        lives = min(span for span in (own, ttl) if span is not None)
        assert not is_fresh(entry, now + lives + CLOCK_LEEWAY + 1, ttl)


@pytest.mark.parametrize("age", [-CLOCK_LEEWAY, -1.0, 0.0, 3599.0])
def test_a_clock_that_is_set_right_by_a_little_costs_nothing(age: float) -> None:
    assert is_fresh(replace(ENTRY, created=NOW - age, expires=NOW - age + 3600), NOW, 3600)


OTHER_CLOCK = """
    import time
    there, ahead = time.time, 0.0
    time.time = lambda: there() + ahead  # what a machine with a wrong clock says
    import httpx, cachelayer
    folder, url, steps = args
    for ahead, prompts, options in json.loads(steps):
        with cachelayer.Cache(path=folder, **options) as cache, cache.wrap(httpx.Client(timeout=60)) as client:
            for prompt in prompts:
                answer = client.post(url, json={"model": "gpt-image-2", "prompt": prompt, "size": "512x512"})
                print(answer.headers["x-cachelayer"], end=" ")
        print()
"""

Step = tuple[float, list[str], dict[str, str]]
"""How many seconds the clock is ahead, the prompts asked for, and the settings of the cache."""


def ask_at(program: Program, folder: Path, simulator: Simulator, *steps: Step) -> list[list[str]]:
    """The outcomes of each step of a program that opens the folder anew for each, and sets its clock before."""
    shown = finish(program(OTHER_CLOCK, folder, simulator.url + PATH, json.dumps(steps)))
    return [line.split() for line in shown.splitlines()]


@pytest.mark.parametrize("own", [True, False], ids=["ttl of the writer too", "ttl of the reader"])
def test_an_entry_from_the_future_does_not_outlive_its_ttl(
    own: bool, program: Program, folder: Path, simulator: Simulator
) -> None:
    hour = {"ttl": "1h"}
    assert ask_at(
        program,
        folder,
        simulator,
        (DECADE, ["x", "x"], hour if own else {}),
        (0, ["x", "x"], hour),
        (3000, ["x"], hour),
        (4000, ["x"], hour),
    ) == [["MISS", "HIT"], ["MISS", "HIT"], ["HIT"], ["MISS"]]  # how old it is nobody knows: asked for again, once


def test_where_age_does_not_count_a_clock_costs_nothing(program: Program, folder: Path, simulator: Simulator) -> None:
    steps: list[Step] = [(ahead, ["x"], {}) for ahead in (DECADE, 0, -DECADE, DECADE / 2)]
    assert ask_at(program, folder, simulator, *steps) == [["MISS"], ["HIT"], ["HIT"], ["HIT"]]


@pytest.mark.parametrize("ahead", [DECADE, 3600.0, -DECADE], ids=["a decade ahead", "an hour ahead", "a decade behind"])
def test_a_store_filled_by_a_wrong_clock_takes_new_entries(
    ahead: float, program: Program, folder: Path, simulator: Simulator
) -> None:
    """Each new entry stays until what is older has gone, as in any full store."""
    limit = {"size_limit": "3MB"}
    theirs, ours = [f"theirs {n}" for n in range(40)], [f"ours {n}" for n in range(5)]
    steps: list[Step] = [(ahead, theirs, limit), (0, ours, limit), (0, ours, limit), (ahead, ours, limit)]
    assert ask_at(program, folder, simulator, *steps)[1:] == [["MISS"] * 5, ["HIT"] * 5, ["HIT"] * 5]


def sample(worker: Any, n: object) -> Any:
    return worker.sample(n, os.urandom(300_000))


@pytest.fixture
def worker() -> Any:
    from tests.stores import worker

    return worker


@pytest.mark.parametrize("ahead", [DECADE, -DECADE, CLOCK_LEEWAY * 2])
def test_what_is_used_stays_whatever_the_clock_said(ahead: float, tmp_path: Path, worker: Any) -> None:
    now = [NOW + ahead]
    store = open_local(tmp_path / "store", size_limit=3_000_000, clock=lambda: now[0])
    for n in range(20):  # full, by a clock that is wrong
        now[0] += 1
        sample(worker, n).put(store)
    now[0] = NOW
    loved = sample(worker, "loved")
    for n in range(30):
        now[0] += 1
        if n == 0:
            loved.put(store)
        else:
            sample(worker, ("new", n)).put(store)
        assert get(store, loved.key) is not None
    store.close()


@pytest.mark.parametrize("step", [lambda store: store.maintain(), lambda store: None], ids=["cleaned up", "put"])
def test_times_in_the_future_are_brought_back(step: Callable[[Any], None], tmp_path: Path, worker: Any) -> None:
    now = [NOW + DECADE]
    store = open_local(tmp_path / "store", size_limit=10_000_000, clock=lambda: now[0])
    for n in range(100):
        worker.sample(n).put(store, expires=now[0] + 3600)
    now[0] = NOW
    for n in range(3):
        worker.sample(("new", n)).put(store, expires=None)
    step(store)
    database = sqlite3.connect(tmp_path / "store" / "entries" / "cache.db")
    times = database.execute("SELECT max(used), max(stored), max(expires) FROM Entry").fetchone()
    database.close()
    assert times == (NOW, NOW, NOW + 3600)
    now[0] += 3601  # their time is over, counted from when they were found
    store.maintain()
    assert store.sizes()[0] == 3
    assert all(decode(get(store, key) or b"").key for key in keys(store))
    store.close()


def test_an_answer_says_no_age_that_is_none(program: Program, folder: Path, simulator: Simulator) -> None:
    assert ask_at(program, folder, simulator, (DECADE, ["x"], {})) == [["MISS"]]
    with cachelayer.Cache(path=folder) as cache, cache.wrap(httpx.Client()) as client:
        asked = {"model": "gpt-image-2", "prompt": "x", "size": "512x512"}
        answer = client.post(simulator.url + PATH, json=asked)
    assert (answer.headers["x-cachelayer"], answer.headers["age"]) == ("HIT", "0")
