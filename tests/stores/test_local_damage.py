"""A folder that was damaged, by faults or by hands: nothing wrong is served, and the next put repairs it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachelayer.core.entry import Broken
from cachelayer.stores.local import open_local
from tests.stores.worker import blob, delete, get

Open = Callable[..., Any]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda path: path.write_bytes(b"X" + path.read_bytes()[1:]), "damaged-blob"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "damaged-blob"),
        (lambda path: path.write_bytes(b""), "damaged-blob"),
        (lambda path: path.unlink(), "missing-blob"),
    ],
    ids=["flipped", "truncated", "empty", "missing"],
)
def test_a_damaged_blob_is_found_and_repaired_by_the_next_put(
    open_here: Open, worker: Any, damage: Callable[[Path], None], kind: str
) -> None:
    one = worker.sample("one", b"image" * 100_000)
    store = open_here(size_limit=1_400_000)  # room for the old file and the new one
    one.put(store)
    damage(store.blob_path(next(iter(one.blobs))))
    with pytest.raises(Broken):
        worker.whole(store, one.key)
    assert [problem.kind for problem in store.verify(deep=True)] == [kind]
    one.put(store)
    assert worker.whole(store, one.key) == one.body
    assert store.verify(deep=True) == []
    assert store.sizes()[:2] == (1, 1)


def _a_file_for_its_folder(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_bytes(b"x")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


INDEX_DAMAGE: dict[str, Callable[[Path], object]] = {
    "header": lambda path: path.write_bytes(b"not a database" + path.read_bytes()[14:]),
    "garbage": lambda path: path.write_bytes(b"garbage" * 3000),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "emptied": lambda path: path.write_bytes(b""),
    "cut": _cut,
    "deleted": lambda path: path.unlink(),
    "folder deleted": lambda path: shutil.rmtree(path.parent),
    "folder is a file": _a_file_for_its_folder,
}


@pytest.mark.parametrize("damage", INDEX_DAMAGE.values(), ids=INDEX_DAMAGE)
def test_an_unusable_index_is_replaced_with_one_warning(
    folder: Path, open_here: Open, worker: Any, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    one, two = worker.sample("one", b"image" * 1000), worker.sample("two", b"other" * 1000)
    store = open_here()
    one.put(store)
    store.close()
    damage(folder / "entries" / "cache.db")
    with caplog.at_level(logging.WARNING, "cachelayer"):
        store = open_here()
    assert store.problems == {"index": 1}
    assert len(caplog.records) == 1
    assert get(store, one.key) is None
    # The blobs of the lost index are counted at once and go at the next clean-up, unless they are wanted before.
    assert store.sizes()[:2] == (0, 1)
    two.put(store)
    store.maintain()
    assert store.sizes()[:2] == (1, 1)
    assert store.verify(deep=True) == []
    one.put(store)
    assert worker.whole(store, one.key) == one.body


@pytest.mark.parametrize("damage", INDEX_DAMAGE.values(), ids=INDEX_DAMAGE)
def test_an_index_damaged_in_use_costs_its_entries_only(
    folder: Path, open_here: Open, worker: Any, damage: Callable[[Path], None]
) -> None:
    samples = [worker.sample(n, b"image%d" % n * 1000) for n in range(20)]
    store = open_here()
    for one in samples:
        one.put(store)
    damage(folder / "entries" / "cache.db")
    for _ in range(2):
        for one in samples:
            assert get(store, one.key) in (None, one.record)
            one.put(store)
    assert [worker.whole(store, one.key) for one in samples] == [one.body for one in samples]
    # What the first store still had in its log, a second one may find unusable, and begin a fresh index.
    reopened = open_here()
    for one in samples:
        assert worker.whole(reopened, one.key) in (None, one.body)
        one.put(reopened)
    samples[0].put(store)  # the first store follows
    for either in (store, reopened):
        assert [worker.whole(either, one.key) for one in samples] == [one.body for one in samples]


def test_a_blob_that_vanishes_during_its_put_is_written_again(tmp_path: Path, worker: Any) -> None:
    one = worker.sample("one", b"image" * 1000)

    gone: list[Path] = []

    def clock() -> float:  # first read with blobs in place in the commit: the entry is not
        for path in (tmp_path / "store" / "blobs").rglob("?" * 64) if not gone else ():
            path.unlink()
            gone.append(path)
        return 1.0

    store = open_local(tmp_path / "store", size_limit=10_000_000, clock=clock)
    one.put(store)
    assert gone
    assert [blob(store, digest) for digest in one.blobs] == list(one.blobs.values())
    assert store.sizes()[:2] == (1, 1)
    store.close()


def test_a_blob_whose_entry_was_evicted_at_once_is_not(open_here: Open, worker: Any) -> None:
    store, one = open_here(), worker.sample("one", b"image" * 1000)
    one.put(store)
    delete(store, one.key)
    ((digest, data),) = one.blobs.items()
    store._opened.space.mend(digest, data)
    assert blob(store, digest) is None
    assert store.sizes()[:2] == (0, 0)


def test_orphans_of_nobody_are_collected(folder: Path, open_here: Open, worker: Any) -> None:
    store, one = open_here(), worker.sample("one", b"image" * 1000)
    one.put(store)
    digest = "ab" * 32
    (folder / "blobs" / "ab").mkdir(exist_ok=True)
    store.blob_path(digest).write_bytes(b"stray")
    (folder / "blobs" / "ab" / "readme").write_bytes(b"not ours")
    (folder / "incoming" / "00000000000000f-1").write_bytes(b"of a dead writer")
    (folder / "trash" / f"00000000000000f-{digest}").write_bytes(b"of a dead collector")
    assert [(p.kind, p.name) for p in store.verify(deep=False)] == [("orphaned-blob", digest)]
    store.maintain()
    assert store.verify(deep=True) == []
    assert list((folder / "incoming").iterdir()) + list((folder / "trash").iterdir()) == []
    assert (folder / "blobs" / "ab" / "readme").exists()
    assert store.sizes()[:2] == (1, 1)
