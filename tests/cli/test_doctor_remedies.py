"""What the doctor says when something is wrong: a remedy, each time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Run, Stored


def checks(run: Run, path: Path, **env: str) -> dict[str, Any]:
    document = run("doctor", "--path", path, "--json", env=env).json
    for check in document["checks"]:
        assert check.keys() == {"check", "state", "detail", "remedy"}
        assert bool(check["remedy"]) is (check["state"] != "ok"), check
    return {check["check"]: check for check in document["checks"]}


def test_a_sound_store_needs_none(run: Run, stored: Stored) -> None:
    assert checks(run, stored.path)["ledger"]["state"] == "ok"


def test_everything_that_is_wrong_has_a_remedy(run: Run, stored: Stored) -> None:
    for blob in (stored.path / "blobs").rglob("*"):
        if blob.is_file():
            blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    orphan = stored.path / "blobs" / "ab" / ("ab" * 32)
    orphan.parent.mkdir(mode=0o700, exist_ok=True)
    orphan.write_bytes(b"left over")
    (stored.path / "leases.lock").unlink()
    (stored.path / "leases.lock").mkdir()
    (stored.path / "entries.aside").mkdir()
    (stored.path / "ledger" / "ledger.sqlite3.damaged-1").write_bytes(b"")
    found = checks(run, stored.path, CACHELAYER_SIZE_LIMIT="1000000TB", CACHELAYER_DISABLED="1")
    wrong = {"damaged-blob", "orphaned-blob", "leases", "aside", "ledger", "disk", "disabled", "modes"}
    assert {name for name, check in found.items() if check["state"] != "ok"} == wrong
    people = run("doctor", "--path", stored.path, env={"COLUMNS": ""}).out
    assert f"rm -r {stored.path / 'entries.aside'}" in people


@pytest.mark.parametrize("state", ["newer", "foreign", "a file"])
def test_a_folder_that_is_none_of_ours(run: Run, tmp_path: Path, state: str) -> None:
    folder = tmp_path / "folder"
    if state == "a file":
        folder.write_text("mine")
    else:
        folder.mkdir(mode=0o700)
        name, text = ("format", "cachelayer store 99\n") if state == "newer" else ("thesis.txt", "mine")
        (folder / name).write_text(text)
    found = checks(run, folder)
    problem = found["folder" if state == "a file" else "store"]
    assert problem["state"] == "problem"
    assert ("update cachelayer" if state == "newer" else "--path") in problem["remedy"]


def test_a_folder_that_can_be_made_is_fine_and_is_not_made(run: Run, tmp_path: Path) -> None:
    found = checks(run, tmp_path / "a" / "b" / "c")
    assert found["folder"]["state"] == "ok"
    assert str(tmp_path) in found["folder"]["detail"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("nearest", ["a file", "no new folder"])
def test_a_folder_that_cannot_be_made_is_a_problem(run: Run, tmp_path: Path, nearest: str) -> None:
    (tmp_path / "file").write_text("")
    parent = tmp_path / "file" if nearest == "a file" else Path("/proc")
    found = checks(run, parent / "a" / "b")
    assert found["folder"]["state"] == "problem"
    assert str(parent) in found["folder"]["detail"]
    assert "CACHELAYER_PATH" in found["folder"]["remedy"]


def test_mistyped_variables_are_warned_of(run: Run, tmp_path: Path) -> None:
    found = checks(run, tmp_path / "store", CACHELAYER_NAMESPCE="team")
    assert found["variable"]["state"] == "warn"
    assert "CACHELAYER_NAMESPCE" in found["variable"]["detail"]
    assert "CACHELAYER_NAMESPACE" in found["variable"]["remedy"]


@pytest.mark.parametrize(("variable", "value"), [("TTL", "soon"), ("PRICES", '{"h.example": 0.05}'), ("POOLS", "a")])
def test_a_wrong_setting_is_one_problem(run: Run, tmp_path: Path, variable: str, value: str) -> None:
    found = checks(run, tmp_path / "store", **{f"CACHELAYER_{variable}": value})
    assert found["settings"]["state"] == "problem"
    assert variable.lower() in found["settings"]["detail"]


def test_entries_that_were_found_damaged_are_warned_of(run: Run, stored: Stored) -> None:
    import httpx

    import cachelayer

    for blob in (stored.path / "blobs").rglob("*"):
        if blob.is_file():
            blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    asked = {"model": "gpt-image-2", "prompt": "a lighthouse", "size": "512x512", "quality": "low"}
    with cachelayer.Cache(stored.path) as cache, cache.wrap(httpx.Client()) as client:
        assert client.post(f"{stored.url}/v1/images/generations", json=asked).headers["x-cachelayer"] == "MISS"
        assert cache.stats().broken == 1
    assert checks(run, stored.path)["broken"]["state"] == "warn"
