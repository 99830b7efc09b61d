"""Folders of other versions: of yesterday's, brought up to date; of tomorrow's, left alone; of both in turn."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pybase64
import pytest
import xxhash

from cachelayer.core import entry as entries
from cachelayer.core.entry import Broken, decode, encode
from cachelayer.core.errors import NewerFormat, StoreError
from cachelayer.stores.local import LocalStore, formats, open_local, open_to_look, sizes_in, tables
from tests.formats.regenerate import NEXT
from tests.formats.regenerate import entries as made
from tests.stores import worker
from tests.stores.worker import canonical, delete

PINNED = "5001039a06c04c0f"
"""Of what lies on disk in format 1. When it changes: while nothing is released, write the new number here and run
`python -m tests.formats.regenerate`; afterwards, add an upgrade in stores/local/formats.py first."""


def test_what_lies_on_disk_is_what_this_format_says() -> None:
    laid_down = json.dumps([tables.SETTINGS, tables.COUNTERS, tables.TABLES, tables.PAGE])
    record = json.dumps([entries.MAGIC.decode(), entries._PREFIX.format, sorted(entries.FIELDS)])
    assert (formats.FORMAT, hashlib.sha256((laid_down + record).encode()).hexdigest()[:16]) == (1, PINNED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the folder that an earlier version of today's format left."""
    return Path(shutil.copytree(NEXT, tmp_path / "store"))


@pytest.fixture
def open_(folder: Path) -> Iterator[Callable[..., LocalStore]]:
    opened: list[LocalStore] = []

    def open_again(*, size_limit: int = 10_000_000) -> LocalStore:
        opened.append(open_local(folder, size_limit=size_limit))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


def bodies(store: LocalStore) -> dict[str, bytes | None]:
    """By name: what is found of that which was written."""
    return {name: worker.whole(store, entry.key) for name, (entry, _) in made().items()}


EXPECTED = {
    name: b"".join(
        piece.data if isinstance(piece, entries.Text) else pybase64.b64encode(blobs[piece.digest])
        for piece in entry.template
    )
    for name, (entry, blobs) in made().items()
}


def index(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "entries" / "cache.db", isolation_level=None)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- today's ------------------------------------------------------------------------------------------------------


def test_an_earlier_folder_of_this_format_is_read_written_and_sound(open_: Callable[..., LocalStore]) -> None:
    store = open_()
    assert bodies(store) == EXPECTED
    assert store.problems == {}
    assert store.verify(deep=True) == []
    one = worker.sample("one", b"new" * 10_000)
    one.put(store)
    store.close()
    store = open_()
    assert worker.whole(store, one.key) == one.body
    assert bodies(store) == EXPECTED
    (small, _) = made()["small"]
    assert canonical(store, small.key) == b'{"prompt":"small"}'


# -- tomorrow's, with the same number --------------------------------------------------------------------------------

LATER = (
    "ALTER TABLE Entry ADD COLUMN marks TEXT",
    "ALTER TABLE Reference ADD COLUMN weight INTEGER NOT NULL DEFAULT 7",
    "UPDATE Entry SET marks = 'kept'",
    "CREATE TABLE Mark (mark TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (mark, key)) WITHOUT ROWID",
    "CREATE INDEX Mark_key ON Mark (key)",
    "CREATE INDEX Entry_marks ON Entry (marks)",
    "INSERT INTO Mark SELECT 'a', key FROM Entry",
)


def test_tables_and_columns_of_a_later_version_are_kept_and_are_no_damage(
    folder: Path, open_: Callable[..., LocalStore]
) -> None:
    database = index(folder)
    for statement in LATER:
        database.execute(statement)
    store = open_()
    assert bodies(store) == EXPECTED
    one = worker.sample("one", b"new" * 10_000)
    one.put(store)
    store.maintain()
    assert store.problems == {}
    assert not (folder / "entries.aside").exists()
    assert database.execute("SELECT count(*) FROM Entry WHERE marks = 'kept'").fetchone() == (3,)
    assert database.execute("SELECT DISTINCT weight FROM Reference").fetchall() == [(7,)]
    assert database.execute("SELECT count(*) FROM Mark").fetchone() == (3,)
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER Later AFTER INSERT ON Entry BEGIN DELETE FROM Entry; END",
        "CREATE VIEW Later AS SELECT * FROM Entry",
        "CREATE UNIQUE INDEX Later ON Entry (stored, key)",
        "CREATE INDEX Later ON Entry (abs(stored))",
        "CREATE INDEX Later ON Entry (stored) WHERE stored > 0",
        "CREATE VIRTUAL TABLE Later USING fts5(text)",
        "ALTER TABLE Entry ADD COLUMN later TEXT CHECK (later = 1)",
        "ALTER TABLE Entry ADD COLUMN later TEXT DEFAULT (1)",
        "ALTER TABLE Entry ADD COLUMN later TEXT REFERENCES Blob (digest)",
        "ALTER TABLE Cache ADD COLUMN later TEXT",
        "ALTER TABLE Entry RENAME COLUMN used TO later",
    ],
)
def test_what_acts_on_what_we_do_never_stands_there_unknown(
    statement: str, folder: Path, open_: Callable[..., LocalStore]
) -> None:
    database = index(folder)
    try:
        database.execute(statement)
    except sqlite3.OperationalError as error:
        pytest.skip(f"this build of SQLite cannot: {error}")
    finally:
        database.close()
    assert open_().problems == {"index": 1}
    assert (folder / "entries.aside").exists()


def test_fields_of_a_later_head_are_kept_and_a_piece_that_cannot_be_spelled_is_refused() -> None:
    entry, _ = made()["image"]

    def record_of(change: Callable[[dict[str, object]], None]) -> bytes:
        record = encode(entry)
        (size,) = struct.unpack(">I", record[12:16])
        head = json.loads(record[16 : 16 + size])
        change(head)
        text = json.dumps(head, separators=(",", ":")).encode()
        rest = struct.pack(">I", len(text)) + text + record[16 + size :]
        return entries.MAGIC + xxhash.xxh3_64_digest(rest) + rest

    def later(head: dict[str, object]) -> None:
        head["marks"], head["stale_until"] = ["a", "b"], 5.5
        head["template"] = [[*piece, "more"] if piece[0] == "blob" else piece for piece in head["template"]]  # type: ignore[attr-defined]

    found = decode(record_of(later))
    assert found.later == {"marks": ["a", "b"], "stale_until": 5.5}
    assert found.template == entry.template
    assert decode(encode(found)) == found

    def without(head: dict[str, object]) -> None:
        for name in ("scope", "dialect", "count", "size", "tier", "asked_tier", "listed"):
            del head[name]

    assert decode(record_of(without)).template == entry.template
    for unknown in (["zstd", 5], ["blob", "ab" * 32, 1, "00", "hex", "image/png", True]):
        with pytest.raises(Broken):
            decode(record_of(lambda head, unknown=unknown: head.update(template=[unknown])))  # type: ignore[misc]


# -- tomorrow's, with a new number -----------------------------------------------------------------------------------


def add_marks(sql: sqlite3.Connection, path: Path) -> None:
    for statement in LATER:
        sql.execute(statement)


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """tomorrow(True): from here on this is a later version, with one more upgrade; tomorrow(False): today's again."""

    def turn(later: bool) -> None:
        upgrades = (*formats_of_today, add_marks) if later else formats_of_today
        monkeypatch.setattr(formats, "UPGRADES", upgrades)
        monkeypatch.setattr(formats, "FORMAT", 1 + len(upgrades))

    formats_of_today = formats.UPGRADES
    return turn


def test_two_versions_in_turn_lose_nothing(
    folder: Path, open_: Callable[..., LocalStore], tomorrow: Callable[[bool], None]
) -> None:
    tomorrow(True)
    store = open_()  # upgraded
    assert bodies(store) == EXPECTED
    one = worker.sample("one", b"new" * 10_000)
    one.put(store)
    store.close()
    assert (folder / "format").read_bytes() == b"cachelayer store 2\n"
    left = files_of(folder)
    tomorrow(False)
    for _ in range(2):
        with pytest.raises(NewerFormat, match="update cachelayer"):
            open_()
    assert files_of(folder) == left
    tomorrow(True)
    store = open_()
    assert bodies(store) == EXPECTED
    assert worker.whole(store, one.key) == one.body
    assert store.problems == {}
    database = index(folder)
    assert database.execute("SELECT count(*) FROM Mark").fetchone() == (3,)  # the upgrade ran once
    database.close()


def test_a_program_that_had_it_open_is_out_and_loses_nothing(
    folder: Path, open_: Callable[..., LocalStore], tomorrow: Callable[[bool], None]
) -> None:
    old = open_()
    assert bodies(old) == EXPECTED
    tomorrow(True)
    new = open_()
    tomorrow(False)
    one = worker.sample("one", b"new" * 10_000)
    with pytest.raises(NewerFormat):
        one.put(old)
    (small, _) = made()["small"]
    with pytest.raises(NewerFormat):
        delete(old, small.key)
    old.close()
    tomorrow(True)
    assert bodies(new) == EXPECTED
    one.put(new)
    assert worker.whole(new, one.key) == one.body
    assert new.problems == {}


def test_an_upgrade_that_is_cut_off_is_done_again(
    folder: Path, open_: Callable[..., LocalStore], tomorrow: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(sql: sqlite3.Connection, path: Path) -> None:
        add_marks(sql, path)
        raise OSError(28, "No space left on device")

    tomorrow(True)
    monkeypatch.setattr(formats, "UPGRADES", (*formats.UPGRADES[:-1], cut_off))
    with pytest.raises(Exception, match="No space"):
        open_()
    tomorrow(False)
    assert bodies(open_()) == EXPECTED  # as if nothing had been
    tomorrow(True)
    assert bodies(open_()) == EXPECTED


def test_who_only_looks_upgrades_nothing(folder: Path, tomorrow: Callable[[bool], None]) -> None:
    before = files_of(folder)
    assert sizes_in(folder)[:2] == (3, 1)
    tomorrow(True)
    with pytest.raises(StoreError, match="has store format 1: open it once"):
        open_to_look(folder)
    after = {name: data for name, data in files_of(folder).items() if not name.endswith(("-shm", "-wal"))}
    assert after == before


def test_killed_between_the_index_and_the_file(
    folder: Path, open_: Callable[..., LocalStore], tomorrow: Callable[[bool], None]
) -> None:
    tomorrow(True)
    open_().close()
    (folder / "format").write_bytes(b"cachelayer store 1\n")
    tomorrow(False)
    with pytest.raises(NewerFormat):
        open_()
    assert not (folder / "entries.aside").exists()
    tomorrow(True)
    store = open_()
    assert bodies(store) == EXPECTED
    assert (folder / "format").read_bytes() == b"cachelayer store 2\n"


# -- what is set aside -----------------------------------------------------------------------------------------------


def test_what_was_set_aside_stays_as_long_as_it_holds_entries(folder: Path, open_: Callable[..., LocalStore]) -> None:
    def damage() -> None:
        database = index(folder)
        database.execute("DROP TABLE Held")
        database.close()

    damage()
    store = open_()  # entries.aside: three entries
    store.close()
    damage()
    open_().close()  # entries.aside-2: none
    damage()
    store = open_()  # again entries.aside-2
    worker.sample("one").put(store)
    store.close()
    damage()
    store = open_()  # entries.aside-3 is not needed before the second holds entries
    asides = sorted(name for name in os.listdir(folder) if name.startswith("entries.aside"))
    assert asides == ["entries.aside", "entries.aside-2"]
    for aside, kept in (("entries.aside", 3), ("entries.aside-2", 1)):
        database = sqlite3.connect(folder / aside / "cache.db")
        assert database.execute("SELECT count(*) FROM Cache").fetchone() == (kept,)
        database.close()
    assert store.sizes()[0] == 0
    assert store.verify(deep=True) != []  # the blobs of what was set aside, counted, until room is needed
