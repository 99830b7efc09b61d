"""Ledgers of other versions: of yesterday's, brought up to date; of tomorrow's, added to and kept; of both in turn."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Asked, Event, Outcome
from cachelayer.ledger import formats
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.lines import Evicted, Fault, NotKept, encode, encode_begun, sealed
from cachelayer.ledger.reports import Stats, report_json, totals
from tests.formats.regenerate import LATER, NEXT, OWNER, outcomes

PINNED = "b02fc088af61512f"
"""Of the tables and lines of format 1. When it changes: while nothing is released, write the new number here and run
`python -m tests.formats.regenerate`; afterwards, add an upgrade in ledger/formats.py first, be it an empty one."""

TOMORROW = (
    "ALTER TABLE events ADD COLUMN variant INTEGER",
    "ALTER TABLE notes ADD COLUMN tier TEXT NOT NULL DEFAULT 'local'",
    "ALTER TABLE segments ADD COLUMN lines INTEGER",
    "UPDATE events SET variant = 3",
    "CREATE TABLE budgets (day TEXT PRIMARY KEY, usd TEXT NOT NULL)",
    "INSERT INTO budgets VALUES ('2026-11-28', '5')",
    "CREATE INDEX events_by_variant ON events (variant)",
    "PRAGMA user_version = 2",
)
"""What a later version might do to the tables."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the ledger that an earlier version of today's format left."""
    return Path(shutil.copytree(NEXT / "ledger", tmp_path / "ledger"))


def run(folder: Path, *statements: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "ledger.sqlite3", isolation_level=None)) as db:
        return [db.execute(statement).fetchall() for statement in statements][-1]


def stats(folder: Path) -> Stats:
    return totals(Ledger(folder), store_sizes=(0, 0, 0))


def names(line: bytes) -> dict[str, Any]:
    """The fields of a line, and of what lies in them."""
    fields = json.loads(line[17:])
    return {name: sorted(value) if isinstance(value, dict) else None for name, value in fields.items()}


def test_what_lies_on_disk_is_what_this_format_says() -> None:
    asked = Asked("ab", b"", "d", "image", "m", "s", "h", "default", 1, False, None)
    lines = [
        encode(outcomes()[0]),
        encode_begun(f"{OWNER}-0", asked, 1.0),
        encode(NotKept(1.0, "no-room", "n", "m", "h", outcomes()[0].spent)),
        encode(Evicted(1.0, 1, Decimal(1))),
        encode(Fault(1.0, "w", "e", 1)),
    ]
    laid_down = json.dumps([formats.SCHEMA, [names(line) for line in lines]])
    assert (formats.FORMAT, hashlib.sha256(laid_down.encode()).hexdigest()[:16]) == (1, PINNED)


def check_all_is_there(folder: Path) -> None:
    found = stats(folder)
    assert (found.requests, found.misses, found.hits, found.bypassed, found.lost) == (4, 1, 1, 1, 1)
    assert (found.spent_usd, found.saved_usd, found.evicted_usd) == (Decimal("0.04"), Decimal("0.04"), Decimal("0.24"))
    assert (found.not_kept, found.evicted, found.faults, found.broken, found.unpriced) == (2, 6, 14, 1, 2)
    ledger = Ledger(folder)
    written = [(event.outcome, event.at, event.model, event.spent, event.saved) for event in outcomes()]
    assert [(event.outcome, event.at, event.model, event.spent, event.saved) for event in ledger.events()] == written
    assert ledger.damaged() == 0
    assert [*folder.glob("*.segment"), *folder.glob("*damaged*")] == []


def test_an_earlier_versions_ledger_is_read_and_added_to(folder: Path) -> None:
    check_all_is_there(folder)
    ledger = Ledger(folder)
    ledger.record(Event(Outcome.HIT, 1.0, "default"))
    ledger.close()
    assert stats(folder).requests == 5
    assert run(folder, "SELECT line FROM later") == [(LATER[17:-1].decode(),)] * 2


def test_a_ledger_that_a_later_version_has_used_is_added_to_and_nothing_of_it_is_lost(folder: Path) -> None:
    run(folder, *TOMORROW)
    check_all_is_there(folder)
    for number in (3, 4):  # the later version in between: a line of a new kind, and one with a new field
        hit = json.loads(encode(outcomes()[1])[17:]) | {"v": 2, "variant": 4}
        (folder / f"{OWNER}-00000{number}.segment").write_bytes(LATER + sealed(json.dumps(hit).encode()))
        Ledger(folder).record(Event(Outcome.HIT, 2.0, "default"))
        assert Ledger(folder).damaged() == 0
        run(folder, "UPDATE events SET variant = json_extract(extra, '$.variant') WHERE extra IS NOT NULL")
    assert stats(folder).hits == 5
    assert run(folder, "SELECT count(*), sum(variant) FROM events WHERE variant IS NOT NULL") == [(4, 14)]
    assert run(folder, "SELECT * FROM budgets") == [("2026-11-28", "5")]
    assert run(folder, "SELECT count(*) FROM later") == [(4,)]
    assert run(folder, "PRAGMA user_version") == [(2,)]
    assert run(folder, "SELECT name FROM sqlite_master WHERE name = 'events_by_variant'") != []
    assert report_json(Ledger(folder), by="model", store_sizes=(0, 0, 0))["totals"]["requests"] == 8


def test_what_a_later_version_calls_an_outcome_is_no_damage(folder: Path) -> None:
    run(folder, *TOMORROW, "INSERT INTO events SELECT * FROM events LIMIT 1")
    run(folder, "UPDATE events SET outcome = 'REFUNDED' WHERE rowid = (SELECT max(rowid) FROM events)")
    assert Ledger(folder).damaged() == 0
    assert stats(folder).misses == 1


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE events RENAME COLUMN saved_usd TO saved_eur",
        "ALTER TABLE events RENAME TO outcomes",
        "ALTER TABLE segments ADD COLUMN kind TEXT NOT NULL",
        "ALTER TABLE counters DROP COLUMN value",
    ],
)
def test_a_ledger_that_only_a_later_version_can_use_is_left_alone(folder: Path, change: str) -> None:
    run(folder, "DELETE FROM segments", "DELETE FROM counters", *TOMORROW, change)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    ledger = Ledger(folder)
    for work in (ledger.fold, ledger.events, ledger.damaged, lambda: stats(folder)):
        with pytest.raises(LedgerError, match="format 2, this version knows 1: update cachelayer"):
            work()
    ledger.record(Event(Outcome.HIT, 1.0, "default"))
    ledger.close()
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    (written,) = (name for name in after.keys() - before.keys() if name.endswith(".segment"))
    assert b'"HIT"' in after[written]
    assert {name: after[name] for name in before} == before


def test_what_an_older_version_could_not_read_is_read_by_the_one_that_can(folder: Path) -> None:
    hit = encode(outcomes()[1])[17:-1].decode()
    call = f"{OWNER}-7"
    asked = Asked("ab", b"", "d", "image", "m", "s", "h", "default", 1, False, None)
    begun = encode_begun(call, asked, 1.0)[17:-1].decode()
    check_all_is_there(folder)
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db, db:
        lines = [hit] * 1_500 + [begun, "no line at all"]
        db.executemany("INSERT INTO later (line, format) VALUES (?, 0)", [(line,) for line in lines])
    for _ in range(2):
        found = stats(folder)
        assert (found.hits, found.lost, found.saved_usd) == (1_501, 2, 1_501 * Decimal("0.04"))
        assert Ledger(folder).damaged() == 1
    assert run(folder, "SELECT line, format FROM later") == [(LATER[17:-1].decode(), 1)] * 2


def add_variant(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE events ADD COLUMN variant INTEGER")


def fill_variant(db: sqlite3.Connection) -> None:
    db.execute("UPDATE events SET variant = 5")


def fail(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM events")
    raise sqlite3.OperationalError("killed")


def upgraded(folder: Path, *upgrades: Callable[[sqlite3.Connection], None]) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite3", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        formats.upgrade(db, upgrades)
        db.execute("COMMIT")


def test_an_older_ledger_is_brought_up_step_by_step_each_once(folder: Path) -> None:
    upgraded(folder, add_variant)
    assert run(folder, "PRAGMA user_version") == [(2,)]
    upgraded(folder, add_variant)
    upgraded(folder, add_variant, fill_variant)
    assert run(folder, "PRAGMA user_version") == [(3,)]
    assert run(folder, "SELECT DISTINCT variant FROM events") == [(5,)]
    check_all_is_there(folder)


def test_an_upgrade_that_fails_has_changed_nothing(folder: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        upgraded(folder, add_variant, fail)
    assert run(folder, "PRAGMA user_version") == [(1,)]
    check_all_is_there(folder)
