"""Nothing acknowledged is lost or counted twice: not by folding, death, fork, damage, a full or a read-only disk."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path

import pytest

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Cost, Event
from cachelayer.ledger import segments
from cachelayer.ledger.database import visit
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.reports import totals
from cachelayer.ledger.view import View

Start = Callable[..., "subprocess.Popen[str]"]

# Records argv[2] events, says so, and waits to be killed or told to end.
WRITER = """
import sys
from pathlib import Path
from cachelayer.core.model import Event, Outcome
from cachelayer.ledger.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    ledger.record(Event(Outcome.HIT, float(number), "default"))
print("recorded", flush=True)
sys.stdin.read()
"""


def segment_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.segment"))


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def count(ledger: Ledger) -> int:
    return sum(1 for _ in ledger.events())


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
