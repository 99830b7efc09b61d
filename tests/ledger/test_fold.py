"""A fold counts every line once, wherever it is killed; it happens while processes live; and it holds up nobody."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from cachelayer.core.model import Asked, Event, Outcome
from cachelayer.ledger import database, fold, segments, view
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.lines import Evicted, Fault, NotKept, encode, encode_begun
from cachelayer.ledger.reports import Stats, report_json, survey, totals

Start = Callable[..., "subprocess.Popen[str]"]

ASKED = Asked("ab" * 32, b"{}", "gemini", "image", "m", "h", "h", "default", 1, False, None)
NOWHERE = (0, 0, 0)


def both(ledger: Ledger) -> Stats:
    """The sums that are kept, which are those of the rows."""
    kept = totals(ledger, store_sizes=NOWHERE)
    assert kept == totals(ledger, since=-1e300, store_sizes=NOWHERE)
    return kept


def leave_segments(folder: Path, hit: Event) -> None:
    """Two dead processes' segments, with something of every kind."""
    folder.mkdir(parents=True)
    one, two = "0123456789abcde", "fedcba987654321"
    hits = [encode(replace(hit, at=float(number))) for number in range(5)]
    miss = replace(hit, outcome=Outcome.MISS, spent=hit.saved, saved=None, upstream=1)
    lines = {
        f"{one}-000001": [encode_begun(f"{one}-0", ASKED, 1.0), encode_begun(f"{one}-1", ASKED, 1.0), *hits[:3]],
        f"{one}-000002": [
            encode(replace(miss, call=f"{one}-1")),
            b"damaged\n",
            encode(Evicted(1.0, 3, Decimal("0.4"))),
        ],
        f"{two}-000001": [hits[3], encode(Fault(1.0, "fly", "OSError", 5)), encode_begun(f"{two}-0", ASKED, 1.0)],
        f"{two}-000002": [encode(NotKept(1.0, "no-room", "default", "m", "h", hit.saved)), hits[4], b"cut off"],
    }
    for name, content in lines.items():
        (folder / f"{name}.segment").write_bytes(b"".join(content))


@pytest.mark.timeout(300)
def test_a_fold_killed_before_any_statement_is_finished_by_the_next(
    memory_path: Path, hit: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "LINES", 6)
    leave_segments(memory_path / "template", hit)
    for number in itertools.count():
        folder = memory_path / str(number)
        shutil.copytree(memory_path / "template", folder)
        child = os.fork()
        if not child:
            try:
                die_before(number)
                Ledger(folder).fold()
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        ledger = Ledger(folder)
        stats = both(ledger)
        assert (stats.requests, stats.hits, stats.misses, stats.errors, stats.lost) == (8, 5, 1, 2, 2)
        assert (stats.saved_usd, stats.spent_usd) == (5 * Decimal("0.137934"), Decimal("0.137934"))
        assert (stats.evicted, stats.evicted_usd, stats.faults, stats.not_kept) == (3, Decimal("0.4"), 5, 1)
        assert ledger.damaged() == 2
        assert segments.names(folder) == []
        shutil.rmtree(folder)
        if not os.WIFSIGNALED(status):
            assert status == 0
            break
    assert number > 50


def die_before(number: int) -> None:
    """Kill this process before its so manieth statement of SQL, or deletion of a segment."""
    left = itertools.count(number, -1)

    def one(*_: object) -> None:
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    connect, remove = database.connect, segments.remove

    def traced(path: Path, mode: str, wait: float) -> sqlite3.Connection:
        db = connect(path, mode, wait)
        db.set_trace_callback(one)
        return db

    database.connect = traced

    def removed(folder: Path, name: str) -> None:
        one()
        remove(folder, name)
        one()

    segments.remove = removed


def test_segments_do_not_pile_up_while_a_process_lives(ledger: Ledger, folder: Path, hit: Event) -> None:
    """Nobody asks for a report, and still what is full is folded."""
    for _ in range(3 * segments.ROTATE_AT // len(encode(hit))):
        ledger.record(hit)
    for thread in threading.enumerate():
        if thread.name == "cachelayer-fold":
            thread.join()
    assert len(segments.names(folder)) == 1
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db:
        assert db.execute("SELECT count(*) FROM events").fetchone()[0] * len(encode(hit)) > 2 * segments.ROTATE_AT


def test_no_stay_inside_the_gate_holds_more_than_a_stretch(
    ledger: Ledger, folder: Path, hit: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork waits for one stay at most. How long each takes is measured in bench/; here, how much it does."""
    folder.mkdir(parents=True)
    (folder / "0123456789abcde-000001.segment").write_bytes(
        b"".join(encode(replace(hit, at=float(number))) for number in range(12_345))
    )
    stays: list[int] = []
    connect = database.connect

    def traced(path: Path, mode: str, wait: float) -> sqlite3.Connection:
        stays.append(0)  # each stay has a connection of its own
        db = connect(path, mode, wait)
        db.set_progress_handler(lambda: stays.append(stays.pop() + 1), 1_000)
        return db

    monkeypatch.setattr(database, "connect", traced)
    ledger.fold()
    assert len(stays) >= 12_345 // 1_000
    folded = max(stays)
    stays.clear()
    document = report_json(ledger, by="day", store_sizes=NOWHERE)
    assert document["totals"]["requests"] == 12_345
    assert len(stays) > 12
    thousand = max(stays)
    stays.clear()
    assert totals(ledger, store_sizes=NOWHERE).requests == 12_345
    assert max(stays) <= 1  # the sums are kept: a few statements
    # In thousands of SQLite's own instructions: some hundred for each row.
    assert 10 < folded < 500
    assert 10 < thousand < 500


def test_totals_that_are_damaged_are_summed_up_anew(ledger: Ledger, folder: Path, hit: Event) -> None:
    for number in range(10):
        ledger.record(replace(hit, at=float(number)))
    ledger.record_evicted(2, Decimal("0.25"))
    expected = both(ledger)
    for planted in (
        "UPDATE totals SET value = replace(value, '\"requests\": 10', '\"requests\": 11')",
        "UPDATE totals SET value = x'00'",
        "DELETE FROM totals",
        "INSERT INTO totals VALUES ('more')",
    ):
        with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db, db:
            db.execute(planted)
        assert both(ledger) == expected
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db, db:
        db.execute("DELETE FROM events WHERE at = 9")  # somebody's own doing
    assert both(ledger).requests == 9


def test_a_report_begun_before_a_call_is_taken_back_counts_it_once(
    ledger: Ledger, folder: Path, hit: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "STRETCH", 2)
    leave_segments(folder, hit)
    late = encode(replace(hit, outcome=Outcome.MISS, call="0123456789abcde-0"))
    assert both(ledger).lost == 2
    looks: list[int] = []

    def work(seen: view.View) -> int:
        looks.append(0)
        count = 0
        for outcomes in seen.outcomes(None):
            count += len(outcomes)
            if len(looks) == 1 and count == 2:
                (folder / "0123456789abcde-000003.segment").write_bytes(late)
                assert Ledger(folder).fold() == 1
        return count

    assert ledger.look(work) == 8
    assert len(looks) == 2  # the rows had changed under the first
    assert (both(ledger).requests, both(ledger).lost) == (8, 1)


def test_one_pass_says_what_the_single_reports_say(ledger: Ledger, folder: Path, hit: Event) -> None:
    leave_segments(folder, hit)
    stats, found = survey(ledger, by="host", since=None, store_sizes=NOWHERE)
    assert stats == both(ledger)
    assert [(name, sums.requests, sums.not_kept, sums.lost) for name, sums in found.groups] == [
        (hit.host, 6, 0, 0),
        ("h", 2, 1, 2),
    ]
    assert [(one.reason, one.outcome, one.requests, one.spent_usd) for one in found.reasons] == [
        ("lost", "ERROR", 2, 0),
        ("no-room", "MISS", 1, Decimal("0.137934")),
    ]
