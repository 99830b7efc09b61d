"""The database of what was folded: damaged, planted, locked or shared, it takes nobody's outcome."""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
from contextlib import closing, suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Cost, Event
from cachelayer.ledger.database import visit
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.reports import totals
from cachelayer.ledger.view import View
from tests.ledger.writer import Start, count, kill


def test_an_unreadable_database_is_moved_aside_with_one_warning_and_a_new_one_begins(
    ledger: Ledger, folder: Path, hit: Event, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.record(hit)
    ledger.fold()
    ledger.record(replace(hit, namespace="later"))
    (folder / "ledger.sqlite3").write_bytes(b"no database at all" * 100)
    with caplog.at_level(logging.WARNING, "cachelayer"):
        assert [event.namespace for event in ledger.events()] == ["default", "later"]
        assert count(ledger) == 2
    (record,) = caplog.records
    assert "ledger.sqlite3.damaged-1" in record.getMessage()
    assert (folder / "ledger.sqlite3.damaged-1").read_bytes() == b"no database at all" * 100


def test_damage_that_only_a_reader_meets_is_moved_aside_too(
    ledger: Ledger, folder: Path, hit: Event, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1_500):  # less than a segment, which would be folded and deleted by itself
        ledger.record(hit)
    ledger.fold()
    path = folder / "ledger.sqlite3"
    data = bytearray(path.read_bytes())
    data[20 * 4096 : 60 * 4096] = b"\xff" * (40 * 4096)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING, "cachelayer"):
        with pytest.raises(LedgerError, match="cannot read"):
            count(ledger)
        ledger.record(hit)
        # Our own segment is alive and still holds everything, though it had been folded.
        assert count(ledger) == 1_501
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE TRIGGER bite AFTER INSERT ON events BEGIN DELETE FROM events; END",
        'CREATE TRIGGER "b""ite" AFTER INSERT ON segments BEGIN UPDATE events SET saved_usd = \'999\'; END',
        "CREATE UNIQUE INDEX bite ON events (outcome)",
    ],
)
def test_a_planted_trigger_or_index_does_not_bite(
    ledger: Ledger, folder: Path, hit: Event, planted: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.record(hit)
    ledger.fold()
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db:
        db.execute(planted)
    ledger.record(hit)
    with caplog.at_level(logging.WARNING, "cachelayer"):
        assert list(ledger.events()) == [hit, hit]
        ledger.fold()
    assert [record.getMessage().split(" that ")[0] for record in caplog.records] in (["A trigger"], ["A index"])


@pytest.mark.parametrize(
    "planted",
    [
        ("DROP TABLE events", "CREATE VIEW events AS SELECT load_extension('x')"),
        ("ALTER TABLE events ADD COLUMN trap TEXT NOT NULL DEFAULT 'x'",),
        ("DROP TABLE segments",),
    ],
)
def test_tables_that_are_not_ours_are_not_used(
    ledger: Ledger, folder: Path, hit: Event, planted: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    ledger.record(hit)
    ledger.fold()
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db:
        for statement in planted:
            db.execute(statement)
        db.commit()
    with caplog.at_level(logging.WARNING, "cachelayer"):
        assert list(ledger.events()) == [hit]
    assert (folder / "ledger.sqlite3.damaged-1").exists()
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "planted",
    [
        "outcome = 'WIN'",
        "key = x'00'",
        "upstream = 0.5",
        "upstream = 'many'",
        "images = 9223372036854775807",
        "status = -1",
        "at = -9e999",
        "wait = 'long'",
        "latency = 9e999",
        "normalized = '['",
        "tags = '[1]'",
        "tags = x'5b22ff225d'",
        "saved_usd = NULL",
        "saved_pricing = NULL",
        "saved_pricing = 'free'",
        "saved_reason = NULL",
        *(f"saved_usd = {usd}" for usd in ("x'30'", "''", "'.5'", "'5.'", "'1e3'", "'-1'", "'0.0.1'", "'NaN'")),
        *(f"saved_usd = '0.' || {usd}" for usd in ("char(0) || '1'", "CAST(x'd5' AS TEXT)", "char(0x0661)")),
        f"saved_usd = '{'1' * 41}'",
    ],
)
def test_a_row_that_is_none_of_ours_counts_as_damaged_and_nowhere_else(
    ledger: Ledger, folder: Path, hit: Event, planted: str
) -> None:
    for number in range(3):
        ledger.record(replace(hit, at=float(number)))
    ledger.fold()
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db:
        assert db.execute(f"UPDATE events SET {planted} WHERE at = 1").rowcount == 1
        db.commit()
    assert [event.at for event in ledger.events()] == [0, 2]
    assert ledger.damaged() == 1
    sums = totals(ledger, since=-1e300, store_sizes=(0, 0, 0))
    assert (sums.requests, sums.saved_usd) == (2, 2 * Decimal("0.137934"))
    # The sums of all time are kept beside the rows, under a checksum of their own: they still know all three.
    kept = totals(ledger, store_sizes=(0, 0, 0))
    assert (kept.requests, kept.saved_usd) == (3, 3 * Decimal("0.137934"))


@pytest.mark.parametrize("seed", range(80))
def test_whatever_bytes_the_database_has_the_second_look_succeeds(ledger: Ledger, hit: Event, seed: int) -> None:
    draw = random.Random(seed)
    for number in range(20):
        ledger.record(replace(hit, at=float(number), spent=Cost(Decimal("0.00388"), "estimated", "x"), upstream=1))
    ledger.fold()
    path = ledger.folder / "ledger.sqlite3"
    data = bytearray(path.read_bytes())
    places = [place for place, byte in enumerate(data) if byte or place < 100]
    for _ in range(draw.choice([1, 1, 3])):
        # A third of them in the header, which is 100 bytes of many thousand.
        place = draw.choice(places[:100] if draw.random() < 1 / 3 else places)
        data[place] = draw.choice([data[place] ^ 1 << draw.randrange(8), 0, 0x82, 0xFF])
    path.write_bytes(data)
    for look in (lambda: totals(ledger, store_sizes=(0, 0, 0)), ledger.events):  # the sums, and the rows
        with suppress(LedgerError):
            look()
    ledger.record(hit)
    assert totals(ledger, store_sizes=(0, 0, 0)).requests in range(1, 22)
    ledger.fold()
    assert list(ledger.events())


def test_a_statement_that_is_wrong_costs_no_ledger(ledger: Ledger, folder: Path, hit: Event) -> None:
    ledger.record(hit)
    ledger.fold()

    def wrong(view: View) -> None:
        with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db:
            db.execute("SELECT absent FROM events")

    with pytest.raises(LedgerError, match="no such column"):
        ledger.look(wrong)
    assert list(ledger.events()) == [hit]
    assert not list(folder.glob("*damaged*"))


def test_a_fold_leaves_a_reader_of_the_same_process_its_lock(
    python: Start, ledger: Ledger, folder: Path, hit: Event
) -> None:
    """Closing any descriptor of a file drops all locks that the process has on it."""
    begin_alone = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=0)
try:
    db.execute("BEGIN EXCLUSIVE")
except sqlite3.OperationalError as error:
    print(error)
"""
    ledger.record(hit)
    ledger.fold()

    def read(db: sqlite3.Connection) -> str:
        assert db.execute("SELECT count(*) FROM events").fetchone() == (1,)
        other = threading.Thread(target=Ledger(folder).close)
        other.start()
        other.join()
        output: str = python(begin_alone, folder / "ledger.sqlite3").communicate()[0]
        return output

    assert visit(folder / "ledger.sqlite3", "read", read, 0) == "database is locked\n"


def test_somebodys_own_view_does_not_disturb(ledger: Ledger, folder: Path, hit: Event) -> None:
    ledger.record(hit)
    ledger.fold()
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db:
        db.execute("CREATE VIEW mine AS SELECT model FROM events")
    ledger.record(hit)
    assert list(ledger.events()) == [hit, hit]
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db:
        assert len(db.execute("SELECT * FROM mine").fetchall()) == 2


def test_while_another_process_folds_reading_is_complete_and_does_not_wait(
    python: Start, ledger: Ledger, folder: Path, hit: Event
) -> None:
    holder = """
import sys
from pathlib import Path
from cachelayer.ledger.locks import fold_alone
def hold(right):
    print(right is not None, flush=True)
    sys.stdin.read()
fold_alone(Path(sys.argv[1]), hold, wait_here=0, wait=0)
"""
    ledger.record(hit)
    ledger.fold()
    process = python(holder, folder)
    assert process.stdout
    assert process.stdout.readline() == "True\n"
    ledger.record(hit)
    assert list(ledger.events()) == [hit, hit]
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db:
        assert db.execute("SELECT count(*) FROM events").fetchone() == (1,)
    kill(process)
    assert ledger.fold() == 1
