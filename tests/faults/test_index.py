"""An index that is damaged, before it is opened and while it is open."""

from __future__ import annotations

import logging
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.shop import KNOWN, NEW, Shop, overwrite


def delete_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


INDEX_DAMAGE: dict[str, Callable[[Path], object]] = {
    "zeroed": lambda entries: overwrite(entries / "cache.db", 0, bytes((entries / "cache.db").stat().st_size)),
    "empty": lambda entries: os.truncate(entries / "cache.db", 0),
    "half": lambda entries: os.truncate(entries / "cache.db", (entries / "cache.db").stat().st_size // 2),
    "random": lambda entries: (entries / "cache.db").write_bytes(random.Random(1).randbytes(50_000)),
    "header": lambda entries: overwrite(entries / "cache.db", 0, b"not a database!!"),
    "second page": lambda entries: overwrite(entries / "cache.db", 4096, b"\xff" * 4096),
    "deleted": lambda entries: (entries / "cache.db").unlink(),
    "deleted with its log": delete_all,
    "folder deleted": shutil.rmtree,
    "log zeroed": lambda entries: (entries / "cache.db-wal").write_bytes(bytes(20_000)),
    "log random": lambda entries: (entries / "cache.db-wal").write_bytes(random.Random(2).randbytes(20_000)),
    "shared memory random": lambda entries: (entries / "cache.db-shm").write_bytes(random.Random(3).randbytes(32_768)),
}


@pytest.mark.parametrize("damage", INDEX_DAMAGE)
def test_an_index_damaged_before_opening(damage: str, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.close()
    INDEX_DAMAGE[damage](shop.folder / "entries")
    with caplog.at_level(logging.WARNING, "cachelayer"):
        shop.open()
        first = shop.outcomes(KNOWN)
    assert first in (["HIT"] * 3, ["MISS"] * 3)
    if first[0] == "MISS":
        assert len(caplog.records) == 1, [record.getMessage() for record in caplog.records]
    assert shop.outcomes([*KNOWN, NEW]) == ["HIT"] * 3 + ["MISS"]
    assert shop.outcomes([*KNOWN, NEW]) == ["HIT"] * 4
    assert shop.cache is not None
    assert shop.cache.stats().entries == 4
    assert shop.cache.stats().requests == 6 + 3 + 4 + 4


@pytest.mark.parametrize("damage", INDEX_DAMAGE)
def test_an_index_damaged_while_it_is_open(damage: str, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    INDEX_DAMAGE[damage](shop.folder / "entries")
    # What SQLite holds in memory may go on for a while, with right bytes; what matters is that it ends whole.
    for _ in range(3):
        shop.outcomes([*KNOWN, NEW])
    assert shop.outcomes([*KNOWN, NEW]) == ["HIT"] * 4
    shop.close()
    shop.open()
    shop.outcomes([*KNOWN, NEW])
    assert shop.outcomes([*KNOWN, NEW]) == ["HIT"] * 4
    assert shop.cache is not None
    assert shop.cache.stats().entries == 4


def test_an_index_that_says_it_is_read_only(shop: Shop) -> None:
    """Byte 18 of a database says which version may write it."""
    shop.close()
    overwrite(shop.folder / "entries" / "cache.db", 18, b"\x82")
    shop.open()
    for _ in range(2):
        shop.outcomes([*KNOWN, NEW])
    assert shop.outcomes([*KNOWN, NEW]) == ["HIT"] * 4


def test_a_store_deleted_while_it_is_open(shop: Shop) -> None:
    shutil.rmtree(shop.folder)
    for _ in range(3):
        shop.outcomes([*KNOWN, NEW])
    shop.close()
    shop.open()
    shop.outcomes([*KNOWN, NEW])
    assert shop.outcomes([*KNOWN, NEW]) == ["HIT"] * 4
