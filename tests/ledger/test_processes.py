"""Four processes with threads write ten thousand outcomes, all fold, some are killed: every acknowledged one counts
once, and the totals are the writers' own."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.reports import totals

Start = Callable[..., "subprocess.Popen[str]"]

THREADS = 5
EACH = 500

# Each thread records its outcomes and acknowledges each in a file of the process, by one write() that outlives SIGKILL.
WRITER = f"""
import os, sys, threading
from decimal import Decimal
from pathlib import Path
from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Cost, Event, Outcome
from cachelayer.ledger import segments
from cachelayer.ledger.ledger import Ledger

segments.ROTATE_AT = 100_000
ledger = Ledger(Path(sys.argv[1]))
name, acknowledged = sys.argv[2], os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
cost = Cost(Decimal("0.137934"), "exact", "")

def work(thread):
    for number in range(int(sys.argv[4])):
        key = f"{{name}}-{{thread}}-{{number}}"
        if number % 5 == 0:
            ledger.record(Event(Outcome.MISS, 1.0, "default", key=key, upstream=1, spent=cost), sync=number % 50 == 0)
        else:
            ledger.record(Event(Outcome.HIT, 1.0, "default", key=key, saved=cost))
        os.write(acknowledged, key.encode() + b"\\n")
        if number % 200 == 100:
            ledger.fold()

print("started", flush=True)
threads = [threading.Thread(target=work, args=(thread,)) for thread in range({THREADS})]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def keys(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def recorded(ledger: Ledger) -> Counter[str]:
    return Counter(event.key or "none" for event in ledger.events())


def test_ten_thousand_outcomes_of_four_processes_are_counted_once(python: Start, folder: Path, tmp_path: Path) -> None:
    acknowledged = [tmp_path / f"acknowledged-{number}" for number in range(4)]
    writers = [python(WRITER, folder, number, path, EACH) for number, path in enumerate(acknowledged)]
    ledger = Ledger(folder)
    while any(writer.poll() is None for writer in writers):
        # A report taken meanwhile holds all that was acknowledged before it, and nothing twice.
        before = sum(len(keys(path)) for path in acknowledged)
        seen = totals(ledger, store_sizes=(0, 0, 0)).requests
        after = sum(len(keys(path)) for path in acknowledged)
        assert before <= seen <= after + 4 * THREADS
    assert [writer.returncode for writer in writers] == [0] * 4
    stats = totals(ledger, store_sizes=(0, 0, 0))
    assert stats.requests == 4 * THREADS * EACH == 10_000
    assert (stats.hits, stats.misses, stats.upstream_calls) == (8_000, 2_000, 2_000)
    assert stats.spent_usd == 2_000 * Decimal("0.137934")
    assert stats.saved_usd == 8_000 * Decimal("0.137934")
    assert ledger.damaged() == 0
    assert sorted(recorded(ledger)) == sorted(key for path in acknowledged for key in keys(path))
    ledger.fold()
    assert list(folder.glob("*.segment")) == []


def test_writers_killed_midway_lose_nothing_that_was_acknowledged(python: Start, folder: Path, tmp_path: Path) -> None:
    acknowledged = [tmp_path / f"acknowledged-{number}" for number in range(4)]
    # Those to be killed would write for ever.
    writers = [
        python(WRITER, folder, number, path, 10**9 if number < 2 else EACH) for number, path in enumerate(acknowledged)
    ]
    ledger = Ledger(folder)
    for number, least in ((0, 200), (1, 900)):
        # Killed in the middle of writing and folding: at its own pace, not after a pause of ours.
        while len(keys(acknowledged[number])) < least:
            ledger.fold()
        writers[number].send_signal(signal.SIGKILL)
    assert [writer.wait() for writer in writers] == [-signal.SIGKILL, -signal.SIGKILL, 0, 0]
    found = recorded(ledger)
    assert set(found.values()) == {1}
    for number, path in enumerate(acknowledged):
        mine = {key for key in found if key and key.startswith(f"{number}-")}
        assert set(keys(path)) <= mine
        # At most one outcome a thread was written but not yet acknowledged.
        assert len(mine) - len(keys(path)) <= (THREADS if number < 2 else 0)
    assert ledger.damaged() == 0
    ledger.fold()
    assert list(folder.glob("*.segment")) == []


def test_a_child_forked_while_threads_fold_and_read_is_not_stuck(python: Start, folder: Path) -> None:
    """SQLite's allocator has one mutex for the process; a child forked while a thread holds it never gets it."""
    process = python(FORKS, folder)
    output, _ = process.communicate(timeout=90)
    assert output.split() == ["0", "60"]


FORKS = """
import os, random, signal, sys, threading
from dataclasses import replace
from pathlib import Path
from cachelayer.core.model import Event, Outcome
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.reports import totals
ledger = Ledger(Path(sys.argv[1]))
event = Event(Outcome.HIT, 1.0, "default")
for _ in range(100):
    ledger.record(event)
go, over = threading.Event(), threading.Event()
def work():
    while go.wait() and not over.is_set():
        ledger.record(event)
        totals(ledger, store_sizes=(0, 0, 0))
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
failed = 0
for number in range(60):
    go.set()
    # Not a wait: the moment of the fork, somewhere in the threads' work.
    threading.Event().wait(random.random() * 0.02)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # what would be stuck is ended, and seen
        ledger.record(replace(event, namespace="child"))
        good = sum(1 for _ in ledger.events()) > 100
        ledger.close()
        os._exit(0 if good else 1)
    go.clear()  # the threads would keep the database locked for most of the time
    failed += os.waitpid(child, 0)[1] != 0
over.set()
go.set()
for thread in threads:
    thread.join()
print(failed, sum(event.namespace == "child" for event in ledger.events()), flush=True)
"""
