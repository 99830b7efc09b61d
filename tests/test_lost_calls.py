"""What never came to a good end is in the books all the same: calls of killed processes, good answers that could not be
kept, failures of our own. Through a Cache, over real sockets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.cli.command import SCRIPT
from tests.conftest import Program, finish

# Asks for images that take their time, in threads or in a loop, and is killed meanwhile.
ASKER = """
    import asyncio, threading, httpx, cachelayer
    folder, url, how, bodies = args
    cache = cachelayer.Cache(path=folder)
    asks = json.loads(bodies)
    if how == "async":
        async def ask_all():
            async with cache.wrap(httpx.AsyncClient(timeout=60)) as client:
                print("asking", flush=True)
                await asyncio.gather(*(client.post(url + "/v1/images/generations", json=ask) for ask in asks))
        asyncio.run(ask_all())
    else:
        client = cache.wrap(httpx.Client(timeout=60))
        threads = [threading.Thread(target=client.post, args=(url + "/v1/images/generations",), kwargs={"json": ask})
                   for ask in asks]
        for thread in threads:
            thread.start()
        print("asking", flush=True)
        if how == "forked":
            import os
            if os.fork() == 0:  # a child that lives on, and asks for nothing
                sys.stdin.read()
                os._exit(0)
        for thread in threads:
            thread.join()
    print("answered", flush=True)
    sys.stdin.read()
"""


def kill_under_way(process: subprocess.Popen[str], simulator: Simulator, calls: int) -> None:
    assert process.stdout
    assert process.stdout.readline() == "asking\n"
    while simulator.calls < calls:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()


def sums_hold(stats: Any) -> bool:
    parts = stats.hits + stats.misses + stats.coalesced + stats.stale + stats.bypassed + stats.errors
    return bool(stats.requests == parts)


@pytest.mark.parametrize("how", ["threads", "async", "forked"])
def test_calls_of_a_killed_process_are_lost_and_said(how: str, folder: Path, program: Program) -> None:
    asks = [body(f"prompt {number}") for number in range(3)]
    stateful = body("by reference", image="https://h.example/x.png")  # passed through, and paid for all the same
    with Simulator(latency=30) as simulator:
        process = program(ASKER, folder, simulator.url, how, json.dumps([*asks, stateful]))
        kill_under_way(process, simulator, 4)
    with cachelayer.Cache(path=folder) as cache:
        for _ in range(2):
            stats = cache.stats()
            assert (stats.requests, stats.errors, stats.lost, stats.upstream_calls) == (4, 4, 4, 4)
            assert (stats.unpriced, stats.spent_usd, stats.saved_usd) == (4, 0, 0)
        assert sums_hold(stats)


def test_calls_that_ended_are_not_lost_whatever_becomes_of_the_process(folder: Path, program: Program) -> None:
    with Simulator() as simulator:
        simulator.script("ok", "error", "disconnect")
        process = program(ASKER, folder, simulator.url, "threads", json.dumps([body(str(n)) for n in range(3)]))
        assert process.stdout
        assert [process.stdout.readline() for _ in range(2)] == ["asking\n", "answered\n"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        with cachelayer.Cache(path=folder) as cache:
            stats = cache.stats()
        assert (stats.requests, stats.lost, stats.upstream_calls) == (3, 0, 3)
        assert sums_hold(stats)


def test_a_call_under_way_in_a_living_process_is_not_lost(folder: Path, program: Program) -> None:
    with Simulator(latency=2) as simulator:
        process = program(ASKER, folder, simulator.url, "threads", json.dumps([body()]))
        assert process.stdout
        assert process.stdout.readline() == "asking\n"
        while not simulator.calls:
            assert process.poll() is None
        with cachelayer.Cache(path=folder) as cache:
            assert cache.stats().requests == 0
            assert process.stdout.readline() == "answered\n"
            assert (cache.stats().misses, cache.stats().lost) == (1, 0)
        process.kill()
        process.wait()


def test_a_good_answer_without_room_is_not_kept_and_costs_each_time(folder: Path, simulator: Simulator) -> None:
    host = simulator.url.removeprefix("http://")
    with (
        cachelayer.Cache(path=folder, size_limit=10_000, prices={host: "0.05"}) as cache,
        cache.wrap(httpx.Client()) as client,
    ):
        for _ in range(3):
            answer = client.post(simulator.url + PATH, json=body(size="512x512"))
            assert answer.headers["x-cachelayer"] == "MISS"
            assert answer.headers["x-cachelayer-reason"] == "no-room"
        simulator.script("error")
        client.post(simulator.url + PATH, json=body("another"))  # not good: nothing to keep
        stats = cache.stats()
    assert (stats.misses, stats.not_kept, stats.hits, stats.entries) == (4, 3, 0, 0)
    assert str(stats.spent_usd) == "0.15"


def test_a_report_says_why_and_for_how_much(folder: Path, simulator: Simulator) -> None:
    host = simulator.url.removeprefix("http://")
    with (
        cachelayer.Cache(path=folder, size_limit=10_000, prices={host: "0.05"}) as cache,
        cache.wrap(httpx.Client()) as client,
    ):
        client.post(simulator.url + PATH, json=body(size="512x512"))
        cache._engine.ledger.record_evicted(3, cache.stats().spent_usd)

    def report(*options: str) -> str:
        command = [str(SCRIPT), "report", "--path", str(folder), *options]
        return subprocess.run(
            command, env=os.environ | {"COLUMNS": "120"}, capture_output=True, text=True, check=True
        ).stdout

    document = json.loads(report("--json"))
    assert document["totals"]["not_kept"] == 1
    assert (document["totals"]["evicted"], document["totals"]["evicted_usd"]) == (3, "0.05")
    assert document["reasons"] == [
        {
            "reason": "no-room",
            "outcome": "MISS",
            "requests": 1,
            "spent_usd": "0.05",
            "meaning": "the answer does not fit in the size limit, or the disk is full",
        }
    ]
    shown = report()
    for words in ("Not kept", "Evicted", "had cost $0.05", "no-room", "the limit is 10.0 GB"):
        assert words in shown


def test_our_own_failures_are_booked_and_break_no_call(folder: Path, simulator: Simulator) -> None:
    import sqlite3

    with cachelayer.Cache(path=folder) as cache, cache.wrap(httpx.Client()) as client:
        client.post(simulator.url + PATH, json=body())
        with closing(sqlite3.connect(folder / "entries" / "cache.db")) as db, db:
            db.execute("UPDATE Cache SET mode = 4")  # what a pickle would be
        assert client.post(simulator.url + PATH, json=body()).status_code == 200
        before = cache.stats().faults
        for _ in range(5):
            cache._engine.fault("try", ValueError("of ours"))
        assert cache.stats().faults == before + 5
    # One line, written at once, and one with the rest, at the end.
    with cachelayer.Cache(path=folder) as cache:
        assert cache.stats().faults == before + 5
    with closing(sqlite3.connect(folder / "ledger" / "ledger.sqlite3")) as db:
        rows = db.execute("SELECT error, count FROM notes WHERE kind = 'fault' AND what = 'try' ORDER BY count")
        assert rows.fetchall() == [("ValueError", 1), ("ValueError", 4)]


def test_a_fault_of_the_ledger_itself_does_not_go_round_in_circles(folder: Path, simulator: Simulator) -> None:
    with cachelayer.Cache(path=folder) as cache, cache.wrap(httpx.Client()) as client:
        shutil.rmtree(folder / "ledger")
        (folder / "ledger").write_text("a file in its place")
        outcomes = [client.post(simulator.url + PATH, json=body()).headers["x-cachelayer"] for _ in range(3)]
        assert outcomes == ["MISS", "HIT", "HIT"]
        (folder / "ledger").unlink()
        client.post(simulator.url + PATH, json=body())
        # The call that was about to be sent, its outcome, and two hits could not be written down.
        assert (cache.stats().requests, cache.stats().faults) == (1, 4)
    with cachelayer.Cache(path=folder) as cache:
        assert (cache.stats().requests, cache.stats().faults) == (1, 4)


def test_stats_after_close_are_those_of_before(folder: Path, simulator: Simulator) -> None:
    with cachelayer.Cache(path=folder) as cache, cache.wrap(httpx.Client()) as client:
        for _ in range(3):
            client.post(simulator.url + PATH, json=body())
        before = cache.stats()
    after = cache.stats()
    assert (after.requests, after.hits, after.spent_usd, after.saved_usd) == (3, 2, before.spent_usd, before.saved_usd)
    assert (folder / "ledger" / "ledger.sqlite3").is_file()


def test_stats_of_a_makeshift_folder_are_of_this_process(folder: Path, simulator: Simulator, program: Program) -> None:
    folder.mkdir()
    (folder / "format").write_text("cachelayer store 999\n")
    with cachelayer.Cache(path=folder) as cache, cache.wrap(httpx.Client()) as client:
        for _ in range(2):
            client.post(simulator.url + PATH, json=body())
        stats = cache.stats()
        assert (stats.requests, stats.misses, stats.not_kept, stats.lost) == (2, 2, 2, 0)
    assert cache.stats().requests == 2
    assert finish(program("print(1)")) == "1\n"
    assert sorted(path.name for path in folder.iterdir()) == ["format"]
