"""size_limit, as a user meets it: what the folder takes on disk, and a word when paid answers go."""

from __future__ import annotations

import logging
import subprocess
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.cli.command import SCRIPT
from tests.stores.test_local_processes import observed


def ask(cache: cachelayer.Cache, simulator: Simulator, *numbers: int) -> list[str]:
    with cache.wrap(httpx.Client(timeout=60)) as client:
        return [
            client.post(simulator.url + PATH, json=body(f"picture {number}", size="1024x1024")).headers["x-cachelayer"]
            for number in numbers
        ]


def test_the_folder_keeps_to_it(folder: Path, simulator: Simulator) -> None:
    with cachelayer.Cache(path=folder, size_limit="2MB") as cache:
        for number in range(25):
            assert ask(cache, simulator, number, number) == ["MISS", "HIT"]
            assert observed(folder) <= 2_000_000
        assert 0 < cache.stats().entries < 25


def test_what_is_larger_than_it_is_not_stored_and_costs_nothing(folder: Path, simulator: Simulator) -> None:
    with (
        cachelayer.Cache(path=folder, size_limit="260KB") as cache,
        cache.wrap(httpx.Client(timeout=60)) as client,
    ):
        small, large = (body(size, size=size) for size in ("64x64", "1536x1536"))
        assert client.post(simulator.url + PATH, json=small).headers["x-cachelayer"] == "MISS"
        for _ in range(2):
            answer = client.post(simulator.url + PATH, json=large)
            assert answer.headers["x-cachelayer"] == "MISS"
            assert answer.headers["x-cachelayer-reason"] == "no-room"
        assert client.post(simulator.url + PATH, json=small).headers["x-cachelayer"] == "HIT"


def test_a_smaller_one_says_what_it_drops(folder: Path, simulator: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    with cachelayer.Cache(path=folder, prices={simulator.url.partition("//")[2]: "0.05"}) as cache:
        ask(cache, simulator, *range(20))
        assert cache.stats().entries == 20
    assert caplog.records == []
    with cachelayer.Cache(path=folder, size_limit="1.5MB") as cache:
        left = cache.stats().entries
        assert 0 < left < 20
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert f"{20 - left} entries that had cost ${(20 - left) * Decimal('0.05')} were dropped" in caplog.text
    with cachelayer.Cache(path=folder, size_limit="1.5MB"):
        assert len(caplog.records) == 1


def test_a_command_drops_nothing(folder: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    with cachelayer.Cache(path=folder) as cache:
        ask(cache, simulator, *range(10))
    monkeypatch.setenv("CACHELAYER_SIZE_LIMIT", "1MB")
    for command in ("report", "ls", "doctor"):
        subprocess.run([SCRIPT, "--path", str(folder), command], capture_output=True, check=True, timeout=60)
    monkeypatch.delenv("CACHELAYER_SIZE_LIMIT")
    with cachelayer.Cache(path=folder) as cache:
        assert cache.stats().entries == 10
