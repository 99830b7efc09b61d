"""The doctor finds what is planted, changes nothing, and is content with a sound store."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

import cachelayer
from tests.cli.command import Run, Stored


def states(document: Any) -> dict[str, str]:
    return {check["check"]: check["state"] for check in document["checks"]}


def examine(run: Run, path: Path, **env: str) -> tuple[int, dict[str, str], str]:
    ended = run("doctor", "--path", path, "--json", env=env)
    document = ended.json
    assert document["ok"] is (ended.code == 0)
    details = " ".join(check["detail"] for check in document["checks"])
    return ended.code, states(document), details


def blob_of(stored: Stored) -> Path:
    return max((file for file in (stored.path / "blobs").rglob("*") if file.is_file()), key=lambda f: f.stat().st_size)


def test_a_sound_store(run: Run, stored: Stored) -> None:
    code, found, details = examine(run, stored.path)
    assert code == 0
    assert set(found.values()) <= {"ok", "warn"}
    assert {"versions", "libraries", "access", "modes", "store", "content", "ledger", "leases", "disk"} <= found.keys()
    assert "diskcache 5.6.3" in details
    assert "3 outcomes" in details
    assert run("doctor", "--path", stored.path).out.splitlines()[-1].startswith("No problem found")


def test_a_flipped_blob(run: Run, stored: Stored) -> None:
    blob = blob_of(stored)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    code, found, details = examine(run, stored.path)
    assert (code, found["damaged-blob"]) == (1, "problem")
    assert blob.name[:12] in details


def test_a_missing_blob(run: Run, stored: Stored) -> None:
    blob = blob_of(stored)
    blob.unlink()
    code, found, details = examine(run, stored.path)
    assert (code, found["missing-blob"]) == (1, "problem")
    assert blob.name[:12] in details


def test_an_orphan_is_a_warning(run: Run, stored: Stored) -> None:
    orphan = stored.path / "blobs" / "ab" / ("ab" * 32)
    orphan.parent.mkdir(mode=0o700, exist_ok=True)
    orphan.write_bytes(b"left over")
    orphan.chmod(0o600)
    code, found, _ = examine(run, stored.path)
    assert (code, found["orphaned-blob"]) == (0, "warn")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO Settings VALUES ('sqlite_writable_schema', 1)",
        "UPDATE Settings SET value = 99 WHERE key = 'cull_limit'",
        "CREATE TRIGGER planted AFTER INSERT ON Cache BEGIN SELECT 1; END",
    ],
)
def test_a_planted_row_is_found_and_left_where_it_is(run: Run, stored: Stored, statement: str) -> None:
    database = sqlite3.connect(stored.path / "entries" / "cache.db")
    with database:
        database.execute(statement)
    database.close()
    before = (stored.path / "entries" / "cache.db").read_bytes()
    code, found, _ = examine(run, stored.path)
    assert (code, found["store"]) == (1, "problem")
    assert (stored.path / "entries" / "cache.db").read_bytes() == before
    assert not (stored.path / "entries.aside").exists()


def test_a_planted_pickle(run: Run, stored: Stored) -> None:
    database = sqlite3.connect(stored.path / "entries" / "cache.db")
    with database:
        database.execute("UPDATE Cache SET mode = 4 WHERE key = ?", (stored.harbour,))
    database.close()
    code, found, details = examine(run, stored.path)
    assert (code, found["refused-row"]) == (1, "problem")
    assert stored.harbour[:12] in details


def test_a_damaged_record(run: Run, stored: Stored) -> None:
    database = sqlite3.connect(stored.path / "entries" / "cache.db")
    with database:
        database.execute("UPDATE Cache SET value = CAST(substr(value, 1, length(value) - 1) || x'01' AS BLOB)")
    database.close()
    assert examine(run, stored.path)[1]["damaged-entry"] == "problem"


def test_files_that_others_can_read(run: Run, stored: Stored) -> None:
    (stored.path / "entries" / "cache.db").chmod(0o644)
    code, found, details = examine(run, stored.path)
    assert (code, found["modes"]) == (1, "problem")
    assert "entries/cache.db" in details


def test_a_damaged_ledger_is_found_and_left_where_it_is(run: Run, stored: Stored) -> None:
    run("report", "--path", stored.path)  # folds
    file = stored.path / "ledger" / "ledger.sqlite3"
    file.write_bytes(b"no database" * 1000)
    code, found, _ = examine(run, stored.path)
    assert (code, found["ledger"]) == (1, "problem")
    assert file.read_bytes() == b"no database" * 1000


def test_a_damaged_line_of_the_ledger(run: Run, stored: Stored) -> None:
    with cachelayer.Cache(path=stored.path) as cache, cache.wrap(httpx.Client()) as client:
        client.post(f"{stored.url}/v1/images/generations", json={"model": "gpt-image-2", "prompt": "x"})
        (segment,) = (stored.path / "ledger").glob("*.segment")
        with segment.open("r+b") as file:
            at = file.read().index(b"gpt-image-2")
            file.seek(at)
            file.write(b"gpt-image-9")
    code, found, details = examine(run, stored.path)
    assert (code, found["ledger"]) == (1, "problem")
    assert "1 line could not be read" in details


def test_settings_in_force_and_where_they_come_from(run: Run, stored: Stored, tmp_path: Path) -> None:
    (tmp_path / "cachelayer.toml").write_text('ttl = "30d"\nnamespace = "file"\n')
    code, found, details = examine(run, stored.path, CACHELAYER_NAMESPACE="team", CACHELAYER_DISABLED="1")
    assert code == 0
    assert "team (from CACHELAYER_NAMESPACE)" in details
    assert f"2592000.0 (from {tmp_path / 'cachelayer.toml'})" in details
    assert "(from --path)" in details
    assert found["disabled"] == "warn"


def test_a_wrong_setting_is_a_problem(run: Run, stored: Stored) -> None:
    code, found, details = examine(run, stored.path, CACHELAYER_SIZE_LIMIT="plenty")
    assert (code, found["settings"]) == (1, "problem")
    assert "plenty" in details


def test_a_store_that_may_outgrow_the_disk(run: Run, stored: Stored) -> None:
    code, found, _ = examine(run, stored.path, CACHELAYER_SIZE_LIMIT="1000000TB")
    assert (code, found["disk"]) == (0, "warn")


def test_a_folder_that_is_not_there_is_not_made(run: Run, tmp_path: Path) -> None:
    code, found, details = examine(run, tmp_path / "nowhere")
    assert (code, found["folder"]) == (0, "ok")
    assert "not there yet" in details
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_of_somebody_else(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.txt").write_text("mine")
    code, found, _ = examine(run, tmp_path / "photos")
    assert (code, found["store"]) == (1, "problem")
    assert os.listdir(tmp_path / "photos") == ["holiday.txt"]


def test_a_file_in_place_of_the_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert examine(run, tmp_path / "file")[:2][0] == 1
