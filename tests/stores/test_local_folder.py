"""The folder of the local store: format, modes, links, damage, full and read-only disks."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cachelayer.core.entry import BlobRef, Broken, Entry, decode, encode
from cachelayer.core.errors import NewerFormat, NoRoom, StoreError
from cachelayer.stores.base import Evicted
from cachelayer.stores.local import open_local
from tests.stores.worker import blob, canonical, delete, get, put

Open = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


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


# -- damage ------------------------------------------------------------------------------------------------------


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


# -- room, time, secrets -----------------------------------------------------------------------------------------


def test_a_lowered_limit_holds_from_the_start(open_here: Open, worker: Any, clock: Any) -> None:
    samples = [worker.sample(n, bytes([n]) * 500_000) for n in range(10)]
    store = open_here()
    for one in samples:
        clock.now += 1
        one.put(store)
    store.close()
    store = open_here(size_limit=1_900_000)
    assert [get(store, one.key) is not None for one in samples] == [False] * 7 + [True] * 3


def test_an_expired_entry_is_readable_until_it_is_dropped(open_here: Open, worker: Any, clock: Any) -> None:
    store, one = open_here(), worker.sample("one", b"image" * 1000)
    one.put(store, expires=clock.now + 10)
    clock.now += 20
    assert worker.whole(store, one.key) == one.body
    store.maintain()
    assert get(store, one.key) is None
    assert store.sizes()[:2] == (0, 0)


def test_uses_reach_the_index_in_batches_and_at_close(folder: Path, open_here: Open, worker: Any, clock: Any) -> None:
    store = open_here()
    keys = []
    for n in range(120):
        one = worker.sample(n)
        one.put(store)
        keys.append(one.key)
    clock.now += 1000

    def used() -> int:
        connection = sqlite3.connect(folder / "entries" / "cache.db")
        (count,) = connection.execute("SELECT count(*) FROM Entry WHERE used = ?", (clock.now,)).fetchone()
        connection.close()
        return int(count)

    for key in keys[:99]:
        get(store, key)
    assert used() == 0  # a hit writes nothing
    for key in keys[99:]:
        get(store, key)
    store.close()
    assert used() == 120


def test_deleted_bytes_are_overwritten(folder: Path, open_here: Open, worker: Any) -> None:
    store = open_here()
    secrets = [worker.sample(n, text=b"SECRET-%d" % n * 300) for n in range(5)]
    for one in secrets:
        put(store, one, canonical=b"")
    worker.sample("kept", text=b"kept").put(store)
    assert b"SECRET-" in b"".join(tree(folder).values())
    for one in secrets:
        delete(store, one.key)
    store.maintain()
    assert b"SECRET-" not in b"".join(tree(folder).values())
    assert not any(one.key.encode() in b"".join(tree(folder).values()) for one in secrets)


def test_the_log_stays_bounded(folder: Path, open_here: Open, worker: Any) -> None:
    store = open_here()
    for n in range(400):
        worker.sample(n % 7, text=os.urandom(15_000)).put(store)
    log = folder / "entries" / "cache.db-wal"
    assert log.stat().st_size < 12 * 2**20
    store.maintain()
    assert log.stat().st_size == 0


def test_a_large_canonical_request_is_kept_out(open_here: Open, worker: Any) -> None:
    store, one = open_here(), worker.sample("one")
    put(store, one, canonical=os.urandom(1_100_000))
    assert (get(store, one.key), canonical(store, one.key)) == (one.record, None)


# -- disks that refuse -------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become nobody")
@pytest.mark.parametrize(
    ("state", "readable"),
    [("closed", 3), ("open", 3), ("copied without its shared memory", 2)],  # the third is in the log alone
)
def test_a_read_only_folder_still_serves(worker: Any, start: Callable[..., Any], state: str, readable: int) -> None:
    # Not in tmp_path, whose parents nobody may enter.
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = Path(place) / "store"
        store = open_local(folder, size_limit=10_000_000)
        for n in range(3):
            if n == 2:
                store.maintain()
            worker.sample(n, b"image%d" % n * 1000).put(store)
        if state == "closed":
            store.close()
        elif state != "open":
            (folder / "entries" / "cache.db-shm").unlink()
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        before = tree(folder)
        out, _ = start("read_only", folder=folder).communicate(timeout=60)
        after = tree(folder)
        store.close()
    assert out.split() == [str(readable), "StoreError"]
    for files in (before, after):
        files.pop("entries/cache.db-shm", None)  # shared memory: readers' marks
    assert after == before


def test_a_write_that_the_kernel_refuses_leaves_nothing(folder: Path, open_here: Open, start: Any) -> None:
    out, _ = start("small_files").communicate(timeout=60)
    large, small, _ = out.split()
    assert (large, small) == ("NoRoom", "stored")
    store = open_here()
    assert store.verify(deep=True) == []
    assert store.sizes()[:2] == (1, 1)
    assert list((folder / "incoming").iterdir()) == []


def test_a_full_disk_costs_the_least_recently_used(folder: Path, open_here: Open, worker: Any, clock: Any) -> None:
    import subprocess

    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        store = open_here()
        (folder / ".ballast").write_bytes(bytes(500_000))
        samples = [worker.sample(n, os.urandom(150_000)) for n in range(40)]
        for one in samples:
            clock.now += 1
            one.put(store)  # the oldest go: what they free is what it needs
            assert worker.whole(store, one.key) == one.body
        stored = [one for one in samples if get(store, one.key)]
        assert stored[-3:] == samples[-3:]
        assert store.take_evicted() == Evicted(40 - len(stored), (40 - len(stored)) * Decimal("0.04"))
        with pytest.raises(NoRoom):  # more than all that could go
            worker.sample("large", os.urandom(2_900_000)).put(store)
        assert store.problems == {}
        assert list((folder / "incoming").iterdir()) == []
        assert [worker.whole(store, one.key) for one in stored] == [one.body for one in stored]
        assert store.take_evicted() == Evicted()
        (folder / ".ballast").unlink()  # space comes back, and with it everything
        assert delete(store, stored[0].key)
        worker.sample("after", b"a" * 100_000).put(store)
        store.maintain()
        connection = sqlite3.connect(folder / "entries" / "cache.db")
        assert connection.execute("SELECT * FROM Reservation").fetchall() == []
        connection.close()
        assert store.verify(deep=True) == []
        store.close()
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("at", [18, 19])
def test_an_index_whose_header_forbids_use_is_replaced(
    folder: Path, open_here: Open, worker: Any, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes 18 and 19 of a database: which versions may write and read it."""
    one = worker.sample("one", b"image" * 1000)
    open_here().close()
    with open(folder / "entries" / "cache.db", "r+b") as file:
        file.seek(at)
        file.write(b"\x82")
    store = open_here()
    one.put(store)
    assert worker.whole(store, one.key) == one.body
    assert len(caplog.records) == 1
    assert (folder / "entries.aside" / "cache.db").exists()


def test_the_documented_recovery_works(folder: Path, open_here: Open, worker: Any) -> None:
    from blake3 import blake3

    text = (Path(__file__).parents[2] / "docs" / "storage.md").read_text()
    statements = [line for line in text.split("```sql")[1].split("```")[0].splitlines() if line.startswith("SELECT")]
    one = worker.sample("one", b"image" * 1000)
    one.put(open_here())
    connection = sqlite3.connect((folder / "entries" / "cache.db").as_uri() + "?mode=ro", uri=True)
    newest, files, head = (connection.execute(statement).fetchall() for statement in statements)
    connection.close()
    assert newest[0][0] == one.key
    assert (folder / files[0][0]).read_bytes() == b"image" * 1000
    assert blake3((folder / files[0][0]).read_bytes()).hexdigest() == files[0][0][-64:]
    assert '"image/png"' in head[0][0]
