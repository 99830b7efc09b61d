"""Blobs and records that are not what was written."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from cachelayer.core.entry import decode, encode
from tests.faults.shop import GEMINI, KNOWN, LARGE, SMALL, Shop, blob_files, flip, pictures


def become_a_link(path: Path) -> None:
    there = path.with_name("elsewhere")
    path.rename(there)
    flip(there)
    path.symlink_to(there)


BLOB_DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "missing": Path.unlink,
    "a link": become_a_link,
}


@pytest.mark.parametrize("damage", BLOB_DAMAGE)
def test_a_damaged_blob_is_a_miss_that_repairs(damage: str, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    before = {path: path.read_bytes() for path in blob_files(shop.folder)}
    assert len(before) == 3
    for path in before:
        BLOB_DAMAGE[damage](path)
    with caplog.at_level(logging.WARNING, "cachelayer"):
        assert shop.outcomes(KNOWN) == ["HIT", "MISS", "MISS"]
    assert caplog.records
    assert shop.cache is not None
    assert shop.cache.stats().broken == 2
    assert shop.outcomes(KNOWN) == ["HIT"] * 3
    assert shop.cache.stats().broken == 2


def test_a_folder_in_a_blobs_place_is_a_miss_that_repairs(shop: Shop) -> None:
    for path in blob_files(shop.folder):
        path.unlink()
        path.mkdir()
        (path / "thesis.txt").write_text("mine")
    assert shop.outcomes(KNOWN) == ["HIT", "MISS", "MISS"]
    assert shop.outcomes(KNOWN) == ["HIT"] * 3
    assert len(list(shop.folder.rglob("thesis.txt"))) == 3


def test_a_blob_that_is_another_blob_is_not_served(shop: Shop) -> None:
    one, two, three = (path for path in blob_files(shop.folder))
    data = one.read_bytes(), two.read_bytes(), three.read_bytes()
    for path, other in zip((one, two, three), (data[1], data[2], data[0]), strict=True):
        path.write_bytes(other)
    assert shop.outcomes(KNOWN) == ["HIT", "MISS", "MISS"]
    assert shop.outcomes(KNOWN) == ["HIT"] * 3


def test_asynchronous_callers_are_no_worse_off(shop: Shop) -> None:
    for path in blob_files(shop.folder):
        flip(path)

    async def ask_all() -> list[str]:
        assert shop.cache is not None
        outcomes = []
        async with shop.cache.wrap(httpx.AsyncClient(timeout=60)) as client:
            for ask in KNOWN * 2:
                answer = await client.post(shop.simulator.url + ask.path, json=ask.body)
                assert pictures(answer) == shop.truth(ask)
                outcomes.append(answer.headers["x-cachelayer"])
        return outcomes

    assert asyncio.run(ask_all()) == ["HIT", "MISS", "MISS", "HIT", "HIT", "HIT"]
    assert shop.cache is not None
    assert shop.cache.stats().broken == 2


def test_a_damaged_record_is_a_miss_that_repairs(shop: Shop) -> None:
    key = shop.key(LARGE)
    record = shop.record(key)
    assert shop.cache is not None
    for number, damaged in enumerate(
        [b"", record[:-1], record + b"\0", bytes(len(record)), record[:20] + b"!" + record[21:]], start=1
    ):
        shop.plant(key, damaged)
        assert shop.outcomes(KNOWN) == ["HIT", "MISS", "HIT"]
        assert shop.cache.stats().broken == number
        assert shop.outcomes(KNOWN) == ["HIT"] * 3


def test_a_record_under_another_key_is_not_served(shop: Shop) -> None:
    shop.plant(shop.key(LARGE), shop.record(shop.key(SMALL)))
    shop.plant(shop.key(SMALL), shop.record(shop.key(GEMINI)))
    assert shop.outcomes(KNOWN) == ["MISS", "MISS", "HIT"]
    assert shop.cache is not None
    assert shop.cache.stats().broken == 2
    assert shop.outcomes(KNOWN) == ["HIT"] * 3


@pytest.mark.parametrize("change", [{"spec": 2}, {"spec": 0}, {"namespace": "other"}], ids=str)
def test_a_record_of_another_spec_or_namespace_is_not_served(change: dict[str, Any], shop: Shop) -> None:
    for ask in KNOWN:
        key = shop.key(ask)
        shop.plant(key, encode(replace(decode(shop.record(key)), **change)))
    assert shop.outcomes(KNOWN) == ["MISS"] * 3
    assert shop.cache is not None
    assert shop.cache.stats().broken == 3
    assert shop.outcomes(KNOWN) == ["HIT"] * 3
    assert all(decode(shop.record(shop.key(ask))).spec == 1 for ask in KNOWN)


def test_a_record_of_another_namespace_under_our_key_is_not_served(shop: Shop) -> None:
    with Shop(shop.folder, shop.simulator, shop.truth, namespace="other") as other:
        assert other.outcomes(KNOWN) == ["MISS"] * 3
        for ask in KNOWN:
            assert other.key(ask) != shop.key(ask)
            shop.plant(shop.key(ask), shop.record(other.key(ask)))
        assert shop.outcomes(KNOWN) == ["MISS"] * 3
        assert shop.outcomes(KNOWN) == ["HIT"] * 3
        assert other.outcomes(KNOWN) == ["HIT"] * 3


def test_a_planted_pickle_is_refused(shop: Shop, tmp_path: Path) -> None:
    canary = tmp_path / "executed"
    code = b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."
    with closing(sqlite3.connect(shop.folder / "entries" / "cache.db")) as db, db:
        db.execute("UPDATE Cache SET mode = 4, value = ? WHERE key = ?", (code, shop.key(LARGE)))
        db.execute(
            "UPDATE Cache SET mode = 2, filename = ?, value = NULL WHERE key = ?", ("/etc/hostname", shop.key(SMALL))
        )
    assert shop.outcomes(KNOWN) == ["MISS", "MISS", "HIT"]
    assert shop.outcomes(KNOWN) == ["HIT"] * 3
    assert not canary.exists()
    assert Path("/etc/hostname").exists()
