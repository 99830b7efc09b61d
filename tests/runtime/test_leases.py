"""The right to fly a key, among processes: whose it is, and that nobody else waits while it is asked for."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx

import cachelayer
from cachelayer.runtime.leases import Leases, MachineLeases
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.conftest import Program, finish

KEY = "ab" * 32

OTHER = """
    import pathlib
    from cachelayer.runtime.leases import MachineLeases
    folder, key, slot = args
    print(MachineLeases(pathlib.Path(folder)).acquire(key, int(slot), "other"))
"""


def test_an_older_flight_lets_go_of_nothing_that_is_a_newer_ones(program: Program, tmp_path: Path) -> None:
    leases = MachineLeases(tmp_path)
    assert leases.acquire(KEY, 0, "older")
    assert leases.acquire(KEY, 0, "newer")
    leases.release(KEY, 0, "older")
    assert finish(program(OTHER, tmp_path, KEY, 0)) == "False\n"
    assert finish(program(OTHER, tmp_path, KEY, 1)) == "True\n"
    leases.release(KEY, 0, "newer")
    assert finish(program(OTHER, tmp_path, KEY, 0)) == "True\n"


def test_the_file_is_let_go_of_with_the_last_lease(program: Program, tmp_path: Path) -> None:
    leases = MachineLeases(tmp_path)
    assert leases.acquire(KEY, 0, "one")
    leases.close()
    assert finish(program(OTHER, tmp_path, KEY, 0)) == "False\n"
    leases.release(KEY, 0, "one")
    leases.release(KEY, 0, "one")
    leases.close()
    assert leases.acquire(KEY, 0, "two")


def test_where_leases_cannot_be_had_everybody_flies(tmp_path: Path) -> None:
    leases = MachineLeases(tmp_path / "missing")
    assert leases.acquire(KEY, 0, "one")
    leases.release(KEY, 0, "one")


class FarAway:
    """Leases behind a network that stands still for one key."""

    def __init__(self) -> None:
        self.asked, self.goes_on = threading.Event(), threading.Event()
        self.slow_key: str | None = None
        self.pause = 0.0

    def acquire(self, key: str, slot: int, token: str) -> bool:
        if self.pause:
            threading.Event().wait(self.pause)
        elif self.slow_key in (None, key):
            self.slow_key = key
            self.asked.set()
            assert self.goes_on.wait(60)
        return True

    def release(self, key: str, slot: int, token: str) -> None:
        return


def test_nobody_waits_for_a_lease_of_another_key(cache: cachelayer.Cache, simulator: Simulator) -> None:
    far = FarAway()
    leases: Leases = far
    cache._engine.flights._leases = leases
    answers: list[str] = []

    def ask(prompt: str) -> None:
        with cache.wrap(httpx.Client(timeout=60)) as client:
            answers.append(client.post(simulator.url + PATH, json=body(prompt)).headers["x-cachelayer"])

    slow = threading.Thread(target=ask, args=("slow",))
    slow.start()
    assert far.asked.wait(60)
    ask("another")
    assert answers == ["MISS"]
    far.goes_on.set()
    slow.join()
    assert answers == ["MISS", "MISS"]


def test_a_callers_time_does_not_run_while_his_call_is_made_ready(
    cache: cachelayer.Cache, simulator: Simulator
) -> None:
    far = FarAway()
    far.pause = 0.9
    cache._engine.flights._leases = far
    with cache.wrap(httpx.Client(timeout=httpx.Timeout(60, read=0.2))) as client:
        assert client.post(simulator.url + PATH, json=body()).headers["x-cachelayer"] == "MISS"
