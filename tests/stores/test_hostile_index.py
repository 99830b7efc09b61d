"""Nothing in the index is unpickled, opened or run, whatever stands in it (SECURITY.md, CVE-2025-69872)."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diskcache
import pytest

from cachelayer.stores.local.strict import Refused, StrictDisk
from tests.stores.worker import delete, get, put

Open = Callable[..., Any]
ABSENT = "0" * 64


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.canary),)


def plant(folder: Path, statement: str, values: tuple[object, ...] = ()) -> None:
    connection = sqlite3.connect(folder / "entries" / "cache.db")
    with connection:
        connection.execute(statement, values)
    connection.close()


def plant_row(folder: Path, *, mode: int, filename: str | None, value: object, raw: int = 1) -> None:
    plant(
        folder,
        "INSERT INTO Cache (key, raw, store_time, access_time, size, mode, filename, value)"
        " VALUES (?, ?, 0, 0, 0, ?, ?, ?)",
        (ABSENT, raw, mode, filename, value),
    )


@pytest.fixture
def folder(tmp_path: Path, open_here: Open, worker: Any) -> Path:
    """A store with one entry, closed."""
    store = open_here()
    worker.sample("one", b"image" * 1000).put(store)
    store.close()
    return tmp_path / "store"


@pytest.mark.parametrize("in_file", [False, True])
def test_a_planted_pickle_does_not_run(
    folder: Path, tmp_path: Path, open_here: Open, worker: Any, in_file: bool
) -> None:
    canary = tmp_path / "canary"
    payload = pickle.dumps(Payload(canary))
    (folder / "entries" / "planted.val").write_bytes(payload)
    if in_file:
        plant_row(folder, mode=4, filename="planted.val", value=None)
    else:
        plant_row(folder, mode=4, filename=None, value=payload)

    # The payload is a real one: stock diskcache runs it.
    shutil.copytree(folder / "entries", tmp_path / "copy")
    stock = diskcache.Cache(str(tmp_path / "copy"))
    stock.get(ABSENT)
    stock.close()
    canary.rmdir()

    store = open_here()
    assert get(store, ABSENT) is None
    assert store.problems == {"refused-row": 1}
    assert [problem.kind for problem in store.verify(deep=True)] == ["refused-row"]
    assert len(list(store.heads())) == 1
    one = worker.sample("one", b"image" * 1000)
    assert worker.whole(store, one.key) == one.body
    assert delete(store, ABSENT) is True
    store.maintain()
    assert not canary.exists()
    assert (folder / "entries" / "planted.val").read_bytes() == payload


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_planted_file_name_reads_and_removes_nothing(
    folder: Path, tmp_path: Path, open_here: Open, worker: Any, mode: int, absolute: bool
) -> None:
    outside = tmp_path / "outside" / "secret"
    outside.parent.mkdir()
    outside.write_bytes(b"secret")
    planted = str(outside) if absolute else "../../outside/secret"
    plant_row(folder, mode=mode, filename=planted, value=b"value")
    store = open_here()
    assert get(store, ABSENT) is None
    assert store.problems == {"refused-row": 1}
    # Overwriting and deleting the row are what made stock diskcache remove the file.
    mine = replace(worker.sample("mine"), key=ABSENT)
    put(store, mine)
    assert get(store, ABSENT) == mine.record
    delete(store, ABSENT)
    plant_row(folder, mode=mode, filename=planted, value=b"value")
    delete(store, ABSENT)
    assert outside.read_bytes() == b"secret"


@pytest.mark.parametrize(("mode", "value"), [(1, "text"), (1, 7), (1, None), (2, b"x"), (3, b"x"), (9, b"x")])
def test_a_row_of_another_kind_is_refused(
    folder: Path, open_here: Open, mode: int, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    plant_row(folder, mode=mode, filename=None, value=value)
    store = open_here()
    with caplog.at_level(logging.WARNING, "cachelayer"):
        assert [get(store, ABSENT), get(store, ABSENT)] == [None, None]
    assert store.problems == {"refused-row": 2}
    assert len(caplog.records) == 1


def test_a_pickled_key_is_passed_over(folder: Path, tmp_path: Path, open_here: Open) -> None:
    canary = tmp_path / "canary"
    plant(
        folder,
        "INSERT INTO Cache (key, raw, mode, value) VALUES (?, 0, 1, x'00')",
        (pickle.dumps(Payload(canary)),),
    )
    store = open_here()
    assert [problem.kind for problem in store.verify(deep=True)] == ["refused-row"]
    assert len(list(store.heads())) == 1
    store.maintain()
    assert not canary.exists()


def test_the_strict_disk_writes_no_pickle_and_no_file(tmp_path: Path) -> None:
    cache = diskcache.Cache(str(tmp_path), disk=StrictDisk)
    for key, value in ((ABSENT, "text"), (ABSENT, 7), (ABSENT, [1]), ("short", b"x"), (7, b"x"), (ABSENT + "\n", b"x")):
        with pytest.raises(Refused):
            cache.set(key, value)
    cache.set(ABSENT, b"x" * 1_000_000)
    assert cache.get(ABSENT) == b"x" * 1_000_000
    cache.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache.db"]


HOSTILE = [
    "INSERT INTO Settings VALUES ('sqlite_user_version', 666)",
    "INSERT INTO Settings VALUES ('close', 1)",
    "INSERT INTO Settings VALUES ('disk_min_file_size2', 1)",
    "UPDATE Settings SET value = 10 WHERE key = 'cull_limit'",
    "UPDATE Settings SET value = 'least-recently-used' WHERE key = 'eviction_policy'",
    "UPDATE Settings SET value = 0 WHERE key = 'sqlite_secure_delete'",
    "UPDATE Settings SET value = 'x' WHERE key = 'count'",
    "DELETE FROM Settings WHERE key = 'cull_limit' OR key = 'statistics'",
    "CREATE TRIGGER planted AFTER INSERT ON Entry BEGIN DELETE FROM Reference; END",
    "CREATE VIEW planted AS SELECT 1",
    "CREATE INDEX planted ON Cache (tag)",
    "DROP TRIGGER Settings_count_insert",
    "DROP TABLE Canonical",
    "DELETE FROM Held",
]


@pytest.mark.parametrize("statement", HOSTILE)
def test_an_index_that_we_did_not_write_is_moved_aside(
    folder: Path, open_here: Open, worker: Any, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    plant(folder, statement)
    before = (folder / "entries" / "cache.db").read_bytes()
    with caplog.at_level(logging.WARNING, "cachelayer"):
        store = open_here()
    assert store.problems == {"index": 1}
    assert len(caplog.records) == 1
    assert "entries.aside" in caplog.text
    assert (folder / "entries.aside" / "cache.db").read_bytes() == before
    one = worker.sample("one", b"image" * 1000)
    assert get(store, one.key) is None
    one.put(store)
    assert worker.whole(store, one.key) == one.body
    store.close()
    assert open_here().problems == {}


def test_a_view_in_the_place_of_a_table_is_not_read(folder: Path, open_here: Open) -> None:
    plant(folder, "ALTER TABLE Settings RENAME TO Other")
    plant(folder, "CREATE VIEW Settings AS SELECT 'close' AS key, load_extension('/nowhere') AS value")
    assert open_here().problems == {"index": 1}


def test_an_index_that_is_a_link_is_not_followed(folder: Path, tmp_path: Path, open_here: Open, worker: Any) -> None:
    database = folder / "entries" / "cache.db"
    database.rename(tmp_path / "elsewhere.db")
    database.symlink_to(tmp_path / "elsewhere.db")
    before = (tmp_path / "elsewhere.db").read_bytes()
    store = open_here()
    assert store.problems == {"index": 1}
    put(store, replace(worker.sample("mine"), key=ABSENT))
    assert (tmp_path / "elsewhere.db").read_bytes() == before
