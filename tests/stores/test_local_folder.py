"""The folder of the local store: whose it is, its modes, and what is planted in it."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cachelayer.core.entry import BlobRef, Entry, decode, encode
from cachelayer.core.errors import NewerFormat, StoreError
from tests.stores.worker import blob, delete, put

Open = Callable[..., Any]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- format ------------------------------------------------------------------------------------------------------


def test_a_new_folder_gets_a_format(folder: Path, open_here: Open) -> None:
    open_here()
    assert (folder / "format").read_text() == "cachelayer store 1\n"


def test_a_newer_format_is_not_touched(folder: Path, open_here: Open, worker: Any) -> None:
    store = open_here()
    worker.sample("one", b"image").put(store)
    store.close()
    (folder / "format").write_text("cachelayer store 2\n")
    before = tree(folder)
    with pytest.raises(NewerFormat, match=r"format 2, this version knows 1"):
        open_here()
    assert tree(folder) == before


@pytest.mark.parametrize("name", ["photos", "entries", "blobs"])
def test_a_folder_of_something_else_is_not_touched(folder: Path, open_here: Open, name: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "mine").write_bytes(b"mine")
    with pytest.raises(StoreError, match="not a cachelayer store"):
        open_here()
    assert tree(folder) == {f"{name}/mine": b"mine"}


def test_a_damaged_format_file_is_not_touched(folder: Path, open_here: Open) -> None:
    folder.mkdir()
    (folder / "format").write_bytes(b"\0\0\0")
    with pytest.raises(StoreError, match="format file"):
        open_here()
    assert tree(folder) == {"format": b"\0\0\0"}


def test_what_other_rooms_put_there_first_is_no_hindrance(folder: Path, open_here: Open) -> None:
    (folder / "ledger").mkdir(parents=True)
    (folder / "leases.lock").touch()
    assert open_here().sizes()[:2] == (0, 0)


# -- modes and links ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o277])
def test_modes_are_ours_whatever_the_umask(folder: Path, open_here: Open, worker: Any, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = open_here()
        worker.sample("one", b"image" * 1000).put(store)
        paths = [folder, *folder.rglob("*")]
        assert {"cache.db", "cache.db-wal", "cache.db-shm"} <= {path.name for path in paths}
        for path in paths:
            expected = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.lstat().st_mode) == expected, path
    finally:
        os.umask(before)


def test_a_blob_that_is_a_link_is_refused_and_replaced(
    folder: Path, tmp_path: Path, open_here: Open, worker: Any
) -> None:
    store, one = open_here(), worker.sample("one", b"image" * 1000)
    one.put(store)
    (digest,) = one.blobs
    outside = tmp_path / "outside"
    outside.write_bytes(b"image" * 1000)  # even the right bytes
    path = store.blob_path(digest)
    path.unlink()
    path.symlink_to(outside)
    assert blob(store, digest) is None
    assert store.problems == {"unfit-blob": 1}
    one.put(store)
    assert worker.whole(store, one.key) == one.body
    assert not path.is_symlink()
    assert outside.read_bytes() == b"image" * 1000


def test_a_shelf_that_is_a_link_is_refused(tmp_path: Path, open_here: Open, worker: Any) -> None:
    store, one = open_here(), worker.sample("one", b"image" * 1000)
    one.put(store)
    (digest,) = one.blobs
    shelf = store.blob_path(digest).parent
    shelf.rename(tmp_path / "outside")
    shelf.symlink_to(tmp_path / "outside")
    assert blob(store, digest) is None
    with pytest.raises(StoreError):
        one.put(store)
    delete(store, one.key)
    store.maintain()
    assert (tmp_path / "outside" / digest).read_bytes() == b"image" * 1000


def test_a_pipe_in_a_blobs_place_does_not_hang(open_here: Open, worker: Any) -> None:
    store, one = open_here(), worker.sample("one", b"image" * 1000)
    one.put(store)
    path = store.blob_path(next(iter(one.blobs)))
    path.unlink()
    os.mkfifo(path)
    assert blob(store, path.name) is None
    assert store.problems == {"unfit-blob": 1}


def test_a_folder_in_a_blobs_place_is_moved_aside_and_the_blob_repaired(
    folder: Path, open_here: Open, worker: Any
) -> None:
    store, one = open_here(), worker.sample("one", b"image" * 1000)
    one.put(store)
    (digest,) = one.blobs
    path = store.blob_path(digest)
    for number in (1, 2):
        path.unlink()
        path.mkdir()
        (path / "thesis.txt").write_text(f"mine {number}")
        assert blob(store, digest) is None
        one.put(store)
        assert worker.whole(store, one.key) == one.body
        assert (folder / "blobs.aside" / f"{digest}-{number}" / "thesis.txt").read_text() == f"mine {number}"
    assert store.verify(deep=True) == []
    assert store.sizes()[:2] == (1, 1)


def test_a_folder_in_a_blobs_place_stops_no_collector_and_no_opening(
    folder: Path, open_here: Open, worker: Any
) -> None:
    store, one, two = open_here(), worker.sample("one", b"image" * 1000), worker.sample("two", b"other" * 1000)
    one.put(store)
    path = store.blob_path(next(iter(one.blobs)))
    path.unlink()
    path.mkdir()
    (path / "thesis.txt").write_text("mine")
    assert delete(store, one.key)
    two.put(store)
    store.maintain()
    assert store.verify(deep=True) == []
    assert store.sizes()[:2] == (1, 1)
    store.close()
    # As a dead writer (a token whose byte is not locked) might have left them.
    for place in (folder / "incoming" / "abc-1", folder / "trash" / f"abc-{path.name}"):
        place.mkdir()
        (place / "thesis.txt").write_text("mine")
    store = open_here()
    assert worker.whole(store, two.key) == two.body
    kept = sorted((folder / "blobs.aside").rglob("thesis.txt"))
    assert [file.read_text() for file in kept] == ["mine"] * 3
    assert list((folder / "incoming").iterdir()) + list((folder / "trash").iterdir()) == []


def test_a_machine_without_descriptors_is_no_damage(open_here: Open, worker: Any) -> None:
    store, one = open_here(), worker.sample("one", b"image" * 1000)
    one.put(store)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(StoreError, match="Too many open files"):
            blob(store, next(iter(one.blobs)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert store.problems == {}
    assert worker.whole(store, one.key) == one.body


@pytest.mark.parametrize("digest", ["", "../../format", "0" * 63, "0" * 64 + "\n", "G" * 64, "A" * 64])
def test_a_digest_that_is_none_becomes_no_path(open_here: Open, worker: Any, digest: str) -> None:
    store = open_here()
    assert blob(store, digest) is None
    assert store.problems == {"bad-digest": 1}
    one = worker.sample("one", b"x")
    with pytest.raises(StoreError):
        put(store, replace(one, record=encode(renamed(decode(one.record), digest)), blobs={digest: b"x"}))
    with pytest.raises(StoreError):
        put(store, replace(one, key=digest))
    with pytest.raises(StoreError):
        put(store, replace(one, record=one.record[:-1]))
    with pytest.raises(StoreError):
        put(store, replace(one, blobs={}))
    assert store.sizes()[:2] == (0, 0)


def renamed(entry: Entry, digest: str) -> Entry:
    """The entry, its blobs under another name."""
    pieces = (replace(piece, digest=digest) if isinstance(piece, BlobRef) else piece for piece in entry.template)
    return replace(entry, template=tuple(pieces))
