"""Segments of living and of dead writers: what is whole is counted once, what is not waits or is dropped."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cachelayer.core.model import Event
from cachelayer.ledger import segments
from cachelayer.ledger.ledger import Ledger
from tests.ledger.writer import WRITER, Start, count, kill, segment_files


def test_the_segment_of_a_living_writer_stays_and_of_a_dead_one_goes(
    python: Start, ledger: Ledger, folder: Path
) -> None:
    writer = python(WRITER, folder, 3)
    assert writer.stdout
    assert writer.stdout.readline() == "recorded\n"
    assert ledger.fold() == 3
    assert len(segment_files(folder)) == 1
    kill(writer)
    assert ledger.fold() == 0
    assert segment_files(folder) == []
    assert count(ledger) == 3
    ledger.fold()
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db:
        assert db.execute("SELECT count(*) FROM segments").fetchone() == (0,)


def test_an_unfinished_last_line_waits_for_a_living_writer_and_is_dropped_of_a_dead_one(
    python: Start, ledger: Ledger, folder: Path
) -> None:
    writer = python(WRITER, folder, 3)
    assert writer.stdout
    writer.stdout.readline()
    (segment,) = segment_files(folder)
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    assert ledger.fold() == 2
    assert ledger.damaged() == 0
    with segment.open("ab") as file:
        file.write(lines[2][40:])
    assert ledger.fold() == 1
    with segment.open("ab") as file:
        file.write(lines[2][:40])
    kill(writer)
    assert ledger.fold() == 0
    assert ledger.damaged() == 1
    assert count(ledger) == 3


@pytest.mark.parametrize("folded_before", [False, True])
def test_damaged_lines_are_skipped_and_counted_once(
    python: Start, ledger: Ledger, folder: Path, folded_before: bool
) -> None:
    writer = python(WRITER, folder, 5)
    assert writer.stdout
    writer.stdout.readline()
    kill(writer)
    (segment,) = segment_files(folder)
    data = bytearray(segment.read_bytes())
    middle = data.index(b'"at":2.0')
    data[middle + 5] ^= 1
    segment.write_bytes(b"\x00" * 200_000 + b"\n" + data)
    if folded_before:
        assert ledger.fold() == 4
    assert [event.at for event in ledger.events()] == [0.0, 1.0, 3.0, 4.0]
    # 200,000 bytes without a newline are read in pieces of the longest line there can be.
    assert ledger.damaged() == ledger.damaged() == 5


def test_a_segment_is_left_when_it_is_full(
    ledger: Ledger, folder: Path, hit: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "ROTATE_AT", 2_000)
    for number in range(20):
        ledger.record(replace(hit, at=float(number)), sync=number % 2 == 0)
        for path in segment_files(folder):
            with contextlib.suppress(FileNotFoundError):  # folded meanwhile, in the background
                assert path.stat().st_size < 3_000
    assert int(segment_files(folder)[-1].stem.partition("-")[2]) > 3
    assert [event.at for event in ledger.events()] == [float(number) for number in range(20)]


def test_a_fold_through_another_path_does_not_take_us_for_dead(
    ledger: Ledger, folder: Path, hit: Event, tmp_path: Path
) -> None:
    """An fcntl lock does not hold within one process: it must know its own segments by itself."""
    ledger.record(hit)
    (tmp_path / "alias").symlink_to(folder)
    alias = Ledger(tmp_path / "alias")
    alias.record(hit)
    assert alias.fold() == 2
    assert len(segment_files(folder)) == 2
    ledger.record(hit)
    alias.record(hit)
    assert count(ledger) == count(alias) == 4


def test_a_closed_ledger_leaves_its_segment_and_its_descriptors(ledger: Ledger, folder: Path, hit: Event) -> None:
    before = sorted(os.listdir("/dev/fd"))
    ledger.record(hit)
    ledger.fold()
    ledger.close()
    assert sorted(os.listdir("/dev/fd")) == before
    ledger.close()
    ledger.fold()
    assert segment_files(folder) == []
    ledger.record(hit)
    assert count(ledger) == 2
    ledger.close()


def test_another_ledgers_close_does_not_make_us_dead(
    python: Start, ledger: Ledger, folder: Path, hit: Event, tmp_path: Path
) -> None:
    """Closing the lock file anywhere in a process would drop the locks of all its segments."""
    (tmp_path / "alias").symlink_to(folder)
    alias = Ledger(tmp_path / "alias")
    ledger.record(hit)
    alias.record(hit)
    alias.close()
    ledger.record(hit)
    fold = "import sys; from pathlib import Path; from cachelayer.ledger.ledger import Ledger; "
    process = python(fold + "print(Ledger(Path(sys.argv[1])).fold())", folder)
    assert process.communicate()[0] == "1\n"
    assert len(segment_files(folder)) == 1
    ledger.record(hit)
    assert count(ledger) == 4
    ledger.close()


def test_a_removed_folder_is_begun_anew(ledger: Ledger, folder: Path, hit: Event) -> None:
    ledger.record(hit)
    shutil.rmtree(folder)
    ledger.record(hit)
    ledger.record(hit)
    assert count(ledger) == 2


def test_what_is_no_segment_is_left_alone(ledger: Ledger, folder: Path, hit: Event, tmp_path: Path) -> None:
    ledger.record(hit)
    (tmp_path / "secret").write_bytes(b"not yours\n")
    planted = [folder / f"{number:015x}-000001.segment" for number in range(2)]
    os.mkfifo(planted[0])
    planted[1].symlink_to(tmp_path / "secret")
    (folder / "notes.segment").write_text("mine\n")
    assert ledger.fold() == 1
    assert ledger.damaged() == 0
    assert all(path.is_symlink() or path.exists() for path in planted)
    assert (folder / "notes.segment").read_text() == "mine\n"


FORKING = r"""
import os, sys
from pathlib import Path
from cachelayer.core.model import Event, Outcome
from cachelayer.ledger.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
ledger.record(Event(Outcome.HIT, 1.0, "parent"))
to_child, from_parent = os.pipe()
child = os.fork()
if child == 0:
    os.close(from_parent)
    os.write(1, b"ready\n")
    os.read(to_child, 1)  # nothing comes: it ends when the parent dies
    sys.stdin.readline()
    ledger.record(Event(Outcome.HIT, 3.0, "child"), sync=True)
    print("recorded", flush=True)
    sys.stdin.readline()
    os._exit(0)
ledger.record(Event(Outcome.HIT, 2.0, "parent"))
os.write(1, b"ready\n")
os.waitpid(child, 0)
"""


def test_a_killed_parent_is_dead_though_its_forked_child_lives_and_writes(
    python: Start, ledger: Ledger, folder: Path
) -> None:
    parent = python(FORKING, folder)
    assert parent.stdout
    assert parent.stdin
    assert [parent.stdout.readline(), parent.stdout.readline()] == ["ready\n", "ready\n"]
    (before,) = segment_files(folder)
    kill(parent)
    assert ledger.fold() == 2
    assert segment_files(folder) == []
    parent.stdin.write("\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == "recorded\n"
    (after,) = segment_files(folder)
    assert after != before
    assert [event.namespace for event in ledger.events()] == ["parent", "parent", "child"]
    assert len(segment_files(folder)) == 1  # the child lives
    parent.stdin.write("\n")
    parent.stdin.close()
    assert parent.stdout.read() == ""  # the child ended
