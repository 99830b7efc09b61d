"""purge asks first, and leaves nothing of what it deletes."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import httpx
import pytest

import cachelayer
from tests.cli.command import SCRIPT, Run, Stored


def keys(run: Run, stored: Stored) -> set[str]:
    return {row["key"] for row in run("ls", "--path", stored.path, "--json").json}


@pytest.mark.parametrize("what", ["--all", "key"])
def test_without_a_terminal_and_without_yes_nothing_happens(run: Run, stored: Stored, what: str) -> None:
    for stdin in ("", "y\n"):
        ended = run("purge", stored.harbour if what == "key" else what, "--path", stored.path, "--json", stdin=stdin)
        assert (ended.code, ended.out) == (2, "")
        assert "nothing was purged" in ended.sentence
        assert "--yes" in ended.sentence
    assert keys(run, stored) == {stored.harbour, stored.lighthouse}


def in_a_terminal(answer: str, *arguments: object) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [SCRIPT, "purge", *map(str, arguments)], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        os.write(ours, answer.encode())
        os.close(theirs)
        _, err = process.communicate(timeout=60)
    os.close(ours)
    return process.returncode, err


@pytest.mark.parametrize(("answer", "goes"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False)])
def test_in_a_terminal_it_asks(run: Run, stored: Stored, answer: str, goes: bool) -> None:
    code, err = in_a_terminal(answer, stored.harbour[:12], "--path", stored.path)
    assert f"Delete the entry {stored.harbour} of gemini-3-pro-image?" in err
    assert code == (0 if goes else 1)
    assert keys(run, stored) == ({stored.lighthouse} if goes else {stored.lighthouse, stored.harbour})


def test_all_empties_the_store_and_keeps_the_ledger(run: Run, stored: Stored) -> None:
    ended = run("purge", "--all", "--yes", "--path", stored.path, "--json")
    assert set(ended.json["purged"]) == {stored.harbour, stored.lighthouse}
    assert keys(run, stored) == set()
    assert [file for file in (stored.path / "blobs").rglob("*") if file.is_file()] == []
    kept = b"".join(file.read_bytes() for file in stored.path.rglob("*") if file.is_file())
    for trace in (*stored.images.values(), b"a lighthouse"):
        assert trace not in kept
    assert run("report", "--path", stored.path, "--json").json["totals"]["requests"] == 3
    assert run("doctor", "--path", stored.path).code == 0
    again = run("purge", "--all", "-y", "--path", stored.path)
    assert (again.code, again.out.split(";")[0]) == (0, "purged 0 entries")
    with cachelayer.Cache(stored.path) as cache, cache.wrap(httpx.Client()) as client:
        asked = {"model": "gpt-image-2", "prompt": "a lighthouse", "size": "512x512", "quality": "low"}
        answer = client.post(f"{stored.url}/v1/images/generations", json=asked)
    assert answer.headers["x-cachelayer"] == "MISS"


def test_a_cache_at_work_goes_on(run: Run, stored: Stored) -> None:
    asked = {"model": "gpt-image-2", "prompt": "a lighthouse", "size": "512x512", "quality": "low"}
    with cachelayer.Cache(stored.path) as cache, cache.wrap(httpx.Client()) as client:
        outcomes = []
        for _ in range(2):
            outcomes += [
                client.post(f"{stored.url}/v1/images/generations", json=asked).headers["x-cachelayer"] for _ in range(2)
            ]
            assert run("purge", "--all", "--yes", "--path", stored.path).code == 0
    assert outcomes == ["HIT", "HIT", "MISS", "HIT"]


def test_a_stranger_s_folder_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.txt").write_text("mine")
    ended = run("purge", "--all", "--yes", "--path", tmp_path / "photos")
    assert (ended.code, ended.out) == (1, "")
    assert os.listdir(tmp_path / "photos") == ["holiday.txt"]
