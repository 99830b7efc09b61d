"""ls, show and purge on a real store."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import httpx
import pytest

import cachelayer
from cachelayer.cli.images import extension
from cachelayer.simulator import Simulator
from tests.cli.command import Run, Stored
from tests.dialects.samples import SAMPLES


def test_ls_has_the_newest_first(run: Run, stored: Stored) -> None:
    rows = run("ls", "--path", stored.path, "--json").json
    assert [row["key"] for row in rows] == [stored.harbour, stored.lighthouse]
    assert rows[1]["model"] == "gpt-image-2"
    assert rows[1]["images"] == 1
    assert rows[1]["host"] == stored.url.removeprefix("http://")
    assert rows[1]["body_size"] > len(stored.images[stored.lighthouse])
    assert isinstance(rows[1]["cost_usd"], str)


def test_ls_for_people(run: Run, stored: Stored) -> None:
    shown = run("ls", "--path", stored.path, "--limit", "1")
    assert stored.harbour[:12] in shown.out
    assert "gemini-3-pro-image" in shown.out
    assert stored.lighthouse[:12] not in shown.out
    assert shown.sentence == "the newest 1 entry of 2; --limit shows more"
    assert max(map(len, shown.out.splitlines())) <= 80


def test_show_tells_everything(run: Run, stored: Stored) -> None:
    entry = run("show", stored.lighthouse, "--path", stored.path, "--json").json
    assert entry["key"] == stored.lighthouse
    assert entry["request"]["body"]["prompt"] == "a lighthouse"
    assert entry["pricing"] == "estimated"
    (image,) = [blob for blob in entry["blobs"] if blob["image"]]
    assert image["mime"] == "image/png"
    assert image["size"] == len(stored.images[stored.lighthouse])
    assert (stored.path / "blobs" / image["digest"][:2] / image["digest"]).read_bytes() == stored.images[
        stored.lighthouse
    ]
    people = run("show", stored.lighthouse[:12], "--path", stored.path).out
    for text in (stored.lighthouse, "a lighthouse", image["digest"], "image/png"):
        assert text in people


def test_looking_is_not_a_use_and_writes_nothing(run: Run, stored: Stored) -> None:
    def state() -> list[tuple[str, bytes]]:
        files = [path for path in sorted(stored.path.rglob("*")) if path.is_file()]
        # SQLite makes its shared memory and an empty log even to read.
        return [(str(path), path.read_bytes()) for path in files if not path.name.endswith(("-shm", "-wal"))]

    before = state()
    for arguments in (["ls"], ["show", stored.harbour], ["show", stored.harbour, "--json"]):
        assert run(*arguments, "--path", stored.path).code == 0
    assert state() == before


@pytest.mark.parametrize(("which", "suffix"), [("lighthouse", "png"), ("harbour", "jpg")])
def test_saved_images_are_what_the_caller_got(
    run: Run, stored: Stored, tmp_path: Path, which: str, suffix: str
) -> None:
    key = getattr(stored, which)
    out = tmp_path / "out"
    ended = run("show", key[:8], "--save", out, "--path", stored.path)
    file = out / f"{key[:12]}-1.{suffix}"
    assert ended.out == f"{file}\n"
    assert file.read_bytes() == stored.images[key]
    again = run("show", key[:8], "--save", out, "--path", stored.path)
    assert again.code == 1
    assert "is there already" in again.sentence
    assert os.listdir(out) == [file.name]


def test_images_of_a_short_answer_are_saved_too(run: Run, tmp_path: Path, simulator: Simulator) -> None:
    """Below 16 KB an answer has no blobs: its images lie in the entry."""
    with cachelayer.Cache(path=tmp_path / "store") as cache, cache.wrap(httpx.Client()) as client:
        asked = {"model": "gpt-image-2", "prompt": "x", "size": "96x96", "n": 2, "output_format": "png"}
        answer = client.post(f"{simulator.url}/v1/images/generations", json=asked)
    key = answer.headers["x-cachelayer-key"]
    assert run("show", key, "--path", tmp_path / "store", "--json").json["blobs"] == []
    run("show", key, "--save", tmp_path / "out", "--path", tmp_path / "store")
    assert sorted(os.listdir(tmp_path / "out")) == [f"{key[:12]}-1.png", f"{key[:12]}-2.png"]


@pytest.mark.parametrize("name", ["png of one pixel", "jpeg", "svg", "lossless webp", "gif"])
@pytest.mark.parametrize("spelled", ["plain", "lines", "url-safe", "data url", "url"])
def test_an_image_is_saved_however_the_answer_spells_it(run: Run, tmp_path: Path, name: str, spelled: str) -> None:
    data = SAMPLES[name].data
    text = base64.b64encode(data).decode()
    text = {
        "lines": "\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
        "url-safe": text.replace("+", "-").replace("/", "_").rstrip("="),
        "data url": f"data:{SAMPLES[name].type};base64,{text}",
    }.get(spelled, text)
    answer = {"data": [{"url" if spelled == "url" else "b64_json": text}]}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answer))
    with cachelayer.Cache(path=tmp_path / "store") as cache, cache.wrap(httpx.Client(transport=transport)) as client:
        got = client.post("https://h/v1/images/generations", json={"prompt": "x"})
    run("show", got.headers["x-cachelayer-key"], "--save", tmp_path / "out", "--path", tmp_path / "store")
    (file,) = (tmp_path / "out").iterdir()
    assert file.read_bytes() == data
    assert f"{file.suffix}" == f".{SAMPLES[name].type.split('/')[1].replace('jpeg', 'jpg').split('+')[0]}"


@pytest.mark.parametrize("command", [["show"], ["purge"], ["purge", "--key"]])
def test_a_key_that_names_no_entry(run: Run, stored: Stored, command: list[str]) -> None:
    missing = run(*command, "0" * 64, "--path", stored.path)
    assert (missing.code, missing.sentence) == (1, f"no entry has the key {'0' * 64}")
    nonsense = run(*command, "../../etc", "--path", stored.path)
    assert (nonsense.code, "is no key" in nonsense.sentence) == (2, True)
    assert run(*command, "", "--path", stored.path).code == 2


def test_a_beginning_that_two_keys_share_is_refused(run: Run, tmp_path: Path, simulator: Simulator) -> None:
    firsts: dict[str, str] = {}
    with cachelayer.Cache(path=tmp_path / "store") as cache, cache.wrap(httpx.Client()) as client:
        for number in range(17):  # among 17 keys two begin with the same digit
            asked = {"model": "gpt-image-2", "prompt": f"{number}", "size": "16x16"}
            answer = client.post(f"{simulator.url}/v1/images/generations", json=asked)
            key = answer.headers["x-cachelayer-key"]
            if key[0] in firsts:
                break
            firsts[key[0]] = key
    for command in (["show"], ["purge"], ["purge", "--key"]):
        ended = run(*command, key[0], "--path", tmp_path / "store")
        assert ended.code == 1
        assert "give more digits" in ended.sentence
    assert len(run("ls", "--path", tmp_path / "store", "--json").json) == len(firsts) + 1


def test_a_damaged_image_is_not_saved(run: Run, stored: Stored, tmp_path: Path) -> None:
    for blob in (stored.path / "blobs").rglob("*"):
        if blob.is_file():
            blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    ended = run("show", stored.lighthouse, "--save", tmp_path / "out", "--path", stored.path)
    assert ended.code == 1
    assert "damaged" in ended.sentence
    assert not (tmp_path / "out").exists()


def test_purge_leaves_nothing_of_an_entry(run: Run, stored: Stored, simulator: Simulator) -> None:
    assert run("purge", "--key", stored.harbour[:16], "--yes", "--path", stored.path, "--json").json == {
        "purged": [stored.harbour]
    }
    kept = b"".join(path.read_bytes() for path in stored.path.rglob("*") if path.is_file())
    assert stored.images[stored.harbour] not in kept
    assert stored.harbour.encode() not in (stored.path / "entries" / "cache.db").read_bytes()
    assert stored.images[stored.lighthouse] in kept
    assert [row["key"] for row in run("ls", "--path", stored.path, "--json").json] == [stored.lighthouse]
    assert run("report", "--path", stored.path, "--json").json["totals"]["requests"] == 3
    with cachelayer.Cache(path=stored.path) as cache, cache.wrap(httpx.Client()) as client:
        asked = {"model": "gpt-image-2", "prompt": "a lighthouse", "size": "512x512", "quality": "low"}
        answer = client.post(f"{stored.url}/v1/images/generations", json=asked)
    assert answer.headers["x-cachelayer"] == "HIT"


def test_purge_evicts_nothing_else(run: Run, stored: Stored) -> None:
    """A size_limit that is smaller here than where the store is used must not empty it."""
    ended = run("purge", stored.harbour, "--yes", "--path", stored.path, env={"CACHELAYER_SIZE_LIMIT": "1"})
    assert ended.code == 0
    assert [row["key"] for row in run("ls", "--path", stored.path, "--json").json] == [stored.lighthouse]


@pytest.mark.parametrize(
    ("beginning", "suffix"),
    [
        (b"\x89PNG\r\n\x1a\n....", "png"),
        (b"\xff\xd8\xff\xe0....", "jpg"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "webp"),
        (b"RIFF\x10\x00\x00\x00WAVEfmt ", "bin"),
        (b"GIF89a..", "gif"),
        (b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00", "avif"),
        (b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00", "heic"),
        (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00", "heif"),
        (b"BM" + bytes(12) + b"\x28\x00\x00\x00", "bmp"),
        (b"II*\x00", "tiff"),
        (b"<?xml version='1.0'?>\n<svg/>", "svg"),
        (b"", "bin"),
        (b"#!/bin/sh", "bin"),
    ],
)
def test_extension_by_content(beginning: bytes, suffix: str) -> None:
    assert extension(beginning) == suffix
