"""stats() says what is, or raises: zeros that nobody has counted are a lie."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.stores.test_local_processes import on_disk


def ask(cache: cachelayer.Cache, simulator: Simulator, *prompts: str) -> list[str]:
    with cache.wrap(httpx.Client(timeout=60)) as client:
        return [
            client.post(simulator.url + PATH, json=body(prompt, size="512x512")).headers["x-cachelayer"]
            for prompt in prompts
        ]


def test_after_close_they_are_what_they_were(folder: Path, simulator: Simulator) -> None:
    cache = cachelayer.Cache(path=folder)
    assert ask(cache, simulator, "a", "b", "a") == ["MISS", "MISS", "HIT"]
    before = cache.stats()
    cache.close()
    assert (before.requests, before.entries, before.blobs) == (3, 2, 2)
    after = cache.stats()
    assert after.model_dump(exclude={"stored_bytes"}) == before.model_dump(exclude={"stored_bytes"})
    assert after.stored_bytes > 0
    with cachelayer.Cache(path=folder) as other:  # and go on to be
        assert ask(other, simulator, "c") == ["MISS"]
    assert (cache.stats().requests, cache.stats().entries) == (4, 3)


def test_a_disabled_cache_knows_what_is_there(folder: Path, simulator: Simulator) -> None:
    with cachelayer.Cache(path=folder) as cache:
        ask(cache, simulator, "a", "a")
        expected = cache.stats()
    stats = cachelayer.Cache(path=folder, disabled=True).stats()
    assert (stats.requests, stats.hits, stats.entries) == (expected.requests, expected.hits, 1)
    assert cachelayer.Cache(path=folder.with_name("none"), disabled=True).stats().entries == 0
    assert not folder.with_name("none").exists()


def test_stored_bytes_are_those_that_the_limit_binds(folder: Path, simulator: Simulator) -> None:
    with cachelayer.Cache(path=folder, size_limit="3MB") as cache:
        for number in range(30):
            ask(cache, simulator, f"{number}")
            assert cache.stats().stored_bytes <= 3_000_000
    cache = cachelayer.Cache(path=folder, size_limit="3MB")
    ledger = sum(path.stat().st_blocks * 512 for path in [folder / "ledger", *(folder / "ledger").rglob("*")])
    stored = cache.stats().stored_bytes
    cache.close()
    assert stored <= on_disk(folder) + ledger <= stored + 2**18 + ledger  # the log, its shared memory


def content(folder: Path) -> dict[Path, bytes]:
    """All files but those in which SQLite's readers meet."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "cache.db-" not in path.name}


@pytest.mark.parametrize("damage", ["garbage", "foreign", "newer"])
def test_what_cannot_be_measured_is_not_zero(damage: str, folder: Path, simulator: Simulator) -> None:
    cache = cachelayer.Cache(path=folder)
    ask(cache, simulator, "a")
    cache.close()
    if damage == "garbage":
        (folder / "entries" / "cache.db").write_bytes(b"garbage" * 3000)
    elif damage == "foreign":
        with sqlite3.connect(folder / "entries" / "cache.db") as database:
            database.execute("CREATE TRIGGER planted AFTER INSERT ON Cache BEGIN SELECT 1; END")
        database.close()
    else:
        (folder / "format").write_text("cachelayer store 2\n")
    before = content(folder)
    for closed in (cache, cachelayer.Cache(path=folder, disabled=True)):
        with pytest.raises(cachelayer.CachelayerError) as raised:
            closed.stats()
        assert str(folder) in str(raised.value)
    assert content(folder) == before


def test_a_store_that_is_not_there_tells_of_this_program_alone(folder: Path, simulator: Simulator) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with cachelayer.Cache(path=folder) as one, cachelayer.Cache(path=folder) as two:
        assert ask(one, simulator, "a", "a") == ["MISS", "MISS"]
        assert ask(two, simulator, "b") == ["MISS"]
        assert one.stats().requests == two.stats().requests == 3
        assert one._engine.flights is two._engine.flights
    assert os.listdir(folder) == ["thesis.txt"]


def test_makeshift_folders_go_with_the_program(tmp_path: Path, simulator: Simulator, program: Any) -> None:
    source = """
        import httpx, cachelayer, tempfile, pathlib
        folder, temporary, url = args
        tempfile.tempdir = temporary
        for number in range(5):
            cache = cachelayer.Cache(path=folder)
            with cache.wrap(httpx.Client(timeout=60)) as client:
                client.post(url, json=json.loads(sys.stdin.readline()))
            if number % 2:
                cache.close()
        print(len(list(pathlib.Path(temporary).iterdir())), cache.stats().requests)
    """
    from tests.conftest import finish

    folder, temporary = tmp_path / "cache", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    (folder / "thesis.txt").write_text("mine")
    process = program(source, folder, temporary, simulator.url + PATH)
    process.stdin.write((json.dumps(body("a")) + "\n") * 5)
    process.stdin.flush()
    assert finish(process).split() == ["1", "5"]
    assert list(temporary.iterdir()) == []
