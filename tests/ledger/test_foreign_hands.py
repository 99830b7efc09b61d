"""A database that somebody else holds, or has changed: it is waited for, summed up anew, or moved aside."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Asked, Event, Outcome
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.lines import Fault, NotKept, encode, sealed
from cachelayer.ledger.reports import Stats, groups, totals

Start = Callable[..., "subprocess.Popen[str]"]
OWNER = "0123456789abcde"


def stats(ledger: Ledger) -> Stats:
    return totals(ledger, store_sizes=(0, 0, 0))


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite3", isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


@pytest.fixture
def folded(ledger: Ledger, hit: Event) -> Ledger:
    """A ledger with a hit and two notes in the database; its own segment still holds them too."""
    ledger.record(hit)
    ledger.record_fault("read an entry", "OSError")
    ledger.record_not_kept(Asked("", b"", "d", "image", "m", "s", "h", "default", 1, False, None), "no-room", None, 1.0)
    ledger.fold()
    return ledger


HOLDS_THE_RIGHT_TO_FOLD = """
import sys
from pathlib import Path
from cachelayer.ledger.locks import fold_alone

def hold(right):
    print("held", flush=True)
    sys.stdin.read()

fold_alone(Path(sys.argv[1]), hold, wait_here=10, wait=10)
"""


def test_while_another_process_folds_a_report_is_as_complete(
    folded: Ledger, folder: Path, hit: Event, python: Start
) -> None:
    change(folder, "UPDATE totals SET value = 'nothing of ours'")  # so that the rows are added up
    folded.record(hit)
    process = python(HOLDS_THE_RIGHT_TO_FOLD, folder)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    found = stats(folded)
    assert (found.hits, found.faults, found.not_kept) == (2, 1, 1)
    process.communicate()
    assert folded.fold() == 1
    assert stats(folded).hits == 2


def test_a_database_that_is_locked_for_a_moment_is_waited_for(folded: Ledger, folder: Path, hit: Event) -> None:
    folded.record(hit)
    came: list[Stats] = []
    with closing(sqlite3.connect(folder / "ledger.sqlite3", isolation_level=None, check_same_thread=False)) as db:
        db.execute("BEGIN EXCLUSIVE")
        thread = threading.Thread(target=lambda: came.append(stats(folded)))
        thread.start()
        thread.join(0.3)
        assert came == []
        db.execute("ROLLBACK")
        thread.join()
    assert [found.hits for found in came] == [2]


def text_of(document: str) -> str:
    return f"{xxhash.xxh3_64_hexdigest(document.encode())} {document}"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM totals",
        "INSERT INTO totals SELECT value FROM totals",
        "UPDATE totals SET value = 5",
        f"UPDATE totals SET value = '{text_of('[]')}'",
        f"UPDATE totals SET value = '{text_of('{}')}'",
        "DELETE FROM notes",
    ],
)
def test_totals_that_are_not_those_of_the_rows_are_summed_up_anew(
    folded: Ledger, folder: Path, hit: Event, statement: str
) -> None:
    change(folder, statement)
    folded.record(hit)
    found = stats(folded)
    assert (found.hits, found.faults) == (2, 0 if "notes" in statement else 1)
    assert stats(folded) == found


@pytest.mark.parametrize(
    "statements",
    [
        ("UPDATE segments SET offset = -1",),
        ("UPDATE segments SET offset = 'far'",),
        ("UPDATE segments SET name = 'x'",),
        ("PRAGMA auto_vacuum = 1", "VACUUM"),
    ],
)
def test_what_would_count_twice_or_never_commit_is_moved_aside(
    folded: Ledger, folder: Path, statements: tuple[str, ...]
) -> None:
    change(folder, *statements)
    assert stats(folded).hits == 1  # its own segment is alive, and still holds all
    assert (folder / "ledger.sqlite3.damaged-1").exists()


@pytest.mark.parametrize("state", ["begun", "ended"])
def test_calls_that_somebody_has_changed_cost_no_outcome(folded: Ledger, folder: Path, hit: Event, state: str) -> None:
    change(
        folder,
        f"INSERT INTO calls (call, state, begun) VALUES ('{OWNER}-1', '{state}', 'no line')",
        f"INSERT INTO calls (call, state, begun) VALUES ('nobody', '{state}', 'no line')",
    )
    folded.record(hit)
    found = stats(folded)
    assert (found.hits, found.lost, folded.damaged()) == (2, 0, int(state == "begun"))


def test_a_line_of_no_call_is_damage(ledger: Ledger, folder: Path, hit: Event) -> None:
    folder.mkdir(parents=True)
    line = encode(replace(hit, call=f"{OWNER}-0"))
    segment = folder / f"{OWNER}-000001.segment"
    segment.write_bytes(line + sealed(line[17:-1].replace(b'-0"', b'-x"')) + line[:-1])
    assert stats(ledger).hits == 1
    assert ledger.damaged() == 2  # that, and a last line that a dead process has not ended
    assert not segment.exists()


def test_a_pipe_or_a_link_among_the_segments_is_passed_over(ledger: Ledger, folder: Path, hit: Event) -> None:
    ledger.record(hit)
    os.mkfifo(folder / f"{OWNER}-000001.segment")
    (folder / f"{OWNER}-000002.segment").symlink_to(folder / "nowhere")
    assert stats(ledger).hits == 1


def test_a_time_that_no_calendar_has_is_a_day_without_a_name(ledger: Ledger, hit: Event) -> None:
    ledger.record(replace(hit, at=1e300))
    assert [(name, sums.hits) for name, sums in groups(ledger, "day")] == [("", 1)]


def test_what_no_line_can_carry_is_said_to_be_lost(ledger: Ledger, hit: Event) -> None:
    for wrong in (replace(hit, at=float("nan")), replace(hit, images=2**40), replace(hit, call="x")):
        with pytest.raises(LedgerError, match="cannot be written down"):
            ledger.record(wrong)
    with pytest.raises(LedgerError, match="cannot be written down"):
        encode(Fault(float("inf"), "w", "e", 1))
    assert encode(NotKept(1.0, "no-room", "default", "m", "h", None)).endswith(b"\n")
    ledger.record(Event(Outcome.HIT, 1.0, "default"))
    assert stats(ledger).hits == 1
