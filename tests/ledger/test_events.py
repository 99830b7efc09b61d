"""Nothing acknowledged is lost or counted twice: not by folding, death, fork, damage, a full or a read-only disk."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path

import pytest

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Cost, Event
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.reports import totals
from tests.ledger.writer import WRITER, Start


def test_constructing_and_reading_touch_no_file(ledger: Ledger, folder: Path) -> None:
    assert list(ledger.events()) == []
    assert ledger.fold() == 0
    assert ledger.damaged() == 0
    assert not folder.parent.exists()


def test_what_is_recorded_is_read_whether_folded_or_not(ledger: Ledger, hit: Event) -> None:
    events = [replace(hit, at=float(number), latency=None, spent=hit.saved) for number in range(5)]
    ledger.record(events[0])
    ledger.record(events[1], sync=True)
    assert ledger.fold() == 2
    assert ledger.fold() == 0
    ledger.record(events[2])
    assert list(ledger.events()) == events[:3]
    ledger.record(events[3])
    ledger.record(events[4])
    assert list(ledger.events()) == events
    assert list(ledger.events(since=3.0)) == events[3:]


def test_files_are_for_their_owner_alone(folder: Path, hit: Event) -> None:
    old = os.umask(0)
    try:
        ledger = Ledger(folder)
        ledger.record(hit)
        ledger.fold()
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_folder_that_cannot_be_made_is_a_ledger_error_at_the_first_record(tmp_path: Path, hit: Event) -> None:
    (tmp_path / "file").write_text("in the way")
    ledger = Ledger(tmp_path / "file" / "ledger")
    with pytest.raises(LedgerError, match="cannot write"):
        ledger.record(hit)
    assert list(ledger.events()) == []


def test_sums_are_exact_whatever_the_callers_decimal_context(ledger: Ledger, hit: Event) -> None:
    for _ in range(10_000):
        ledger.record(hit)
    large = Decimal("1000000000000000000000000000000.000000000000000001")
    ledger.record(replace(hit, saved=Cost(large, "exact", "")))
    with localcontext() as context:
        context.prec = 3
        sums = [totals(ledger, since=since, store_sizes=(0, 0, 0)).saved_usd for since in (None, 0.0)]
    assert [str(usd) for usd in sums] == ["1000000000000000000000000001379.340000000000000001"] * 2


def test_money_is_text_on_disk(ledger: Ledger, folder: Path, hit: Event) -> None:
    ledger.record(hit)
    ledger.fold()
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db:
        assert db.execute("SELECT saved_usd, typeof(saved_usd) FROM events").fetchall() == [("0.137934", "text")]


FULL_DISK = """
import os, resource, sys
from pathlib import Path
from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Event, Outcome
from cachelayer.ledger.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
event = Event(Outcome.HIT, 1.0, "default")
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), hard))
recorded = failed = 0
for _ in range(60):
    try:
        ledger.record(event)
        recorded += 1
    except LedgerError:
        failed += 1
folding = "folded"
try:
    ledger.fold()
except LedgerError:
    folding = "refused"
seen = sum(1 for _ in ledger.events())
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
for _ in range(10):
    ledger.record(event)
print(recorded, failed, folding, seen, sum(1 for _ in ledger.events()), ledger.damaged())
"""


def test_a_full_disk_loses_only_what_was_refused_and_reports_go_on(python: Start, folder: Path) -> None:
    process = python(FULL_DISK, folder, 5_000)  # not a multiple of a line: the last write is a short one
    output, _ = process.communicate()
    recorded, failed, folding, seen, after, damaged = output.split()
    assert int(recorded) > 5
    assert int(failed) > 5
    assert folding == "refused"
    assert int(seen) == int(recorded)
    assert int(after) == int(recorded) + 10
    assert damaged == "0"


READ_ONLY = """
import sys
from pathlib import Path
from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Event, Outcome
from cachelayer.ledger.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
refused = []
for attempt in (lambda: ledger.record(Event(Outcome.HIT, 1.0, "default")), ledger.fold):
    try:
        attempt()
    except LedgerError:
        refused.append(attempt)
print(len(refused), sum(1 for _ in ledger.events()), sum(1 for _ in ledger.events(since=1.0)))
"""


@pytest.mark.parametrize("folded", [0, 2])
def test_a_read_only_folder_is_reported_in_full(python: Start, folder: Path, folded: int) -> None:
    writer = python(WRITER, folder, 2)
    assert writer.stdout
    writer.stdout.readline()
    ledger = Ledger(folder)
    if folded:
        assert ledger.fold() == folded
    other = python(WRITER, folder, 3)
    assert other.stdout
    other.stdout.readline()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    for path in folder.iterdir():
        path.chmod(0o400)
    folder.chmod(0o500)
    # Root may write anywhere, so it has to lay that right down first.
    prefix = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
    try:
        output, _ = python(READ_ONLY, folder, prefix=prefix).communicate()
    finally:
        folder.chmod(0o700)
    assert output == "2 5 3\n"
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
