"""An answer is handed over while storing it takes its time, and is stored all the same."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import httpx
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import wait_until_stored


def test_nobody_waits_for_a_store_that_is_busy(
    cache: cachelayer.Cache, folder: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachelayer.runtime.flight.HANDOVER_WAIT", 0.05)
    busy = sqlite3.connect(folder / "entries" / "cache.db", isolation_level=None)
    said = []
    with cache.wrap(httpx.Client()) as client:

        def ask() -> None:
            body = {"model": "gpt-image-2", "prompt": "a cat", "size": "64x64"}
            answer = client.post(f"{simulator.url}/v1/images/generations", json=body)
            said.append(answer.headers["x-cachelayer"])

        busy.execute("BEGIN IMMEDIATE")  # no other connection writes meanwhile
        ask()
        ask()  # the flight goes on: it is still storing
        busy.execute("ROLLBACK")
        busy.close()
        wait_until_stored(cache)
        ask()
    assert said == ["MISS", "COALESCED", "HIT"]
