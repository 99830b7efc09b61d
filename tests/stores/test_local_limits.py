"""Room and time, what must not stay on the disk, and disks that refuse."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cachelayer.core.errors import NoRoom
from cachelayer.stores.base import Evicted
from cachelayer.stores.local import open_local
from tests.stores.worker import canonical, delete, get, put

Open = Callable[..., Any]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
