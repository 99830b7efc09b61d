"""A damaged ledger hinders no call, and is begun anew."""

from __future__ import annotations

import logging
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.shop import KNOWN, NEW, SMALL, Shop, overwrite


@pytest.mark.parametrize("damage", ["deleted", "a file", "random"])
def test_a_damaged_ledger_hinders_no_call(damage: str, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    assert shop.cache is not None
    shop.cache.stats()
    ledger = shop.folder / "ledger"
    if damage == "random":
        for path in ledger.iterdir():
            path.write_bytes(random.Random(4).randbytes(30_000))
    else:
        shutil.rmtree(ledger)
    if damage == "a file":
        ledger.write_text("no folder")
    with caplog.at_level(logging.WARNING, "cachelayer"):
        assert shop.outcomes([*KNOWN, NEW, NEW]) == ["HIT"] * 3 + ["MISS", "HIT"]
        stats = shop.cache.stats()
    if damage == "deleted":
        assert (stats.requests, stats.hits, stats.misses) == (5, 4, 1)
    else:
        assert caplog.records


def corrupt(path: Path, there: bytes, becomes: bytes) -> None:
    data = path.read_bytes()
    assert there in data
    path.write_bytes(data.replace(there, becomes))


LEDGER_DAMAGE: dict[str, Callable[[Path], object]] = {
    "header": lambda path: overwrite(path, 0, b"not a database!!"),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "a table with another name": lambda path: corrupt(path, b"TABLE events", b"TABLE evants"),
    "a table that is no text": lambda path: corrupt(path, b"model TEXT NOT NULL", b"model TEXT NOT\xa0NULL"),
    "a name that is no text": lambda path: corrupt(path, b"events_at", b"events\xefat"),
    "money that is no number": lambda path: corrupt(path, b"0.00388", b"0.0x388"),
    "money that is no text": lambda path: corrupt(path, b"0.00388", b"0.\xd50388"),
}


@pytest.mark.parametrize("damage", LEDGER_DAMAGE)
def test_a_damaged_ledger_is_begun_anew(damage: str, shop: Shop) -> None:
    assert shop.cache is not None
    shop.cache.stats()
    LEDGER_DAMAGE[damage](shop.folder / "ledger" / "ledger.sqlite3")
    for number in range(3):
        assert shop.ask(SMALL) == "HIT"
        assert shop.cache.stats().hits >= number
