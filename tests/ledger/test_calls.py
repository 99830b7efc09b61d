"""A call that was begun is booked once, whatever becomes of its process: as its outcome, or as lost."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cachelayer.core.model import Asked, Cost, Event, Outcome
from cachelayer.core.reasons import Reason
from cachelayer.ledger import fold, segments
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.lines import encode, encode_begun
from cachelayer.ledger.reports import Stats, groups, totals

Start = Callable[..., "subprocess.Popen[str]"]

ASKED = Asked(
    key="ab" * 32,
    canonical=b"{}",
    dialect="gemini",
    operation="image",
    model="gemini-3-pro-image",
    scope="h",
    host="h",
    namespace="default",
    count=1,
    stream=False,
    never_cached=None,
    size="2K",
)

# Does what its lines of input say, each with a word of answer; argv: folders.
PUPPET = """
import os, sys
from pathlib import Path
from cachelayer.core.model import Asked, Event, Outcome
from cachelayer.ledger import segments
from cachelayer.ledger.ledger import Ledger
asked = Asked("ab" * 32, b"{}", "gemini", "image", "gemini-3-pro-image", "h", "h", "default", 1, False, None, "2K")
ledgers = [Ledger(Path(folder)) for folder in sys.argv[1:]]
calls = []
while line := sys.stdin.readline():
    verb, *which = line.split()
    ledger = ledgers[int(which[0]) if which else 0]
    if verb == "begin":
        calls.append((ledger, ledger.begin(asked, 1.0)))
    elif verb == "end":
        ledger, call = calls.pop(0)
        ledger.record(Event(Outcome.MISS, 2.0, "default", key="ab" * 32, upstream=1, call=call))
    elif verb == "close":
        ledger.close()
    elif verb == "fork":
        if os.fork():
            os.wait()
            os._exit(0)
    elif verb == "die":
        os.kill(os.getpid(), 9)
    print(verb, flush=True)
"""


class Puppet:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def do(self, *orders: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        for order in orders:
            self.process.stdin.write(order + "\n")
            self.process.stdin.flush()
            if order != "die":
                assert self.process.stdout.readline().split() == [order.split()[0]]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def puppet(python: Start, folder: Path) -> Callable[..., Puppet]:
    return lambda *folders: Puppet(python(PUPPET, *(folders or (folder,))))


def stats(ledger: Ledger) -> Stats:
    found = totals(ledger, store_sizes=(0, 0, 0))
    ended = found.hits + found.misses + found.coalesced + found.stale + found.bypassed + found.errors
    assert found.requests == ended
    rows = totals(ledger, since=0.0, store_sizes=(0, 0, 0))
    assert found == rows  # the sums that are kept are those of the rows
    return found


def test_a_call_of_a_killed_process_is_an_error_without_a_price(puppet: Callable[..., Puppet], ledger: Ledger) -> None:
    one = puppet()
    one.do("begin", "begin", "end")
    assert (stats(ledger).requests, stats(ledger).lost) == (1, 0)  # it lives
    one.kill()
    for _ in range(3):
        found = stats(ledger)
        assert (found.requests, found.misses, found.errors, found.lost) == (2, 1, 1, 1)
        assert (found.upstream_calls, found.unpriced, found.spent_usd) == (2, 1, 0)
    (lost,) = (event for event in ledger.events() if event.reason == Reason.LOST)
    assert lost == Event(
        Outcome.ERROR,
        1.0,
        "default",
        operation="image",
        model="gemini-3-pro-image",
        size="2K",
        host="h",
        key="ab" * 32,
        reason=Reason.LOST,
        upstream=1,
        spent=Cost(None, "unpriced", "killed before its usage was known"),
    )
    assert Reason.LOST.meaning
    assert [(name, sums.lost) for name, sums in groups(ledger, "model")] == [("", 0), ("gemini-3-pro-image", 1)]


def test_a_call_whose_beginning_was_folded_before_its_process_died(
    puppet: Callable[..., Puppet], ledger: Ledger
) -> None:
    one = puppet()
    one.do("begin", "begin", "begin")
    assert ledger.fold() == 0
    one.do("end")
    assert ledger.fold() == 1
    one.kill()
    found = stats(ledger)
    assert (found.requests, found.misses, found.lost) == (3, 1, 2)


def test_a_forked_child_begins_its_own_calls_and_none_of_its_parent_is_its_own(
    puppet: Callable[..., Puppet], ledger: Ledger
) -> None:
    parent = puppet()
    parent.do("begin", "fork")  # the child goes on with the orders, its parent waits for it
    parent.do("begin")
    assert stats(ledger).lost == 0
    parent.kill()
    assert stats(ledger).lost == 1  # the parent's; the child lives on
    parent.do("close", "die")  # of the child: what it had begun is still under way
    assert parent.process.stdout
    assert parent.process.stdout.read() == ""  # the child has ended
    found = stats(ledger)
    assert (found.requests, found.lost) == (2, 2)


def test_two_folders_of_one_process(puppet: Callable[..., Puppet], tmp_path: Path) -> None:
    folders = [tmp_path / name / "ledger" for name in ("one", "two")]
    one = puppet(*folders)
    one.do("begin 0", "begin 1", "begin 1", "end", "close 0")
    ledgers = [Ledger(folder) for folder in folders]
    assert [stats(ledger).lost for ledger in ledgers] == [0, 0]
    one.kill()
    assert [(stats(ledger).misses, stats(ledger).lost) for ledger in ledgers] == [(1, 0), (0, 2)]


def test_a_ledger_closed_under_a_call_waits_for_it_and_then_lets_go(
    ledger: Ledger, puppet: Callable[..., Puppet]
) -> None:
    before = sorted(os.listdir("/dev/fd"))
    call = ledger.begin(ASKED, 1.0)
    ledger.close()
    other = puppet()
    other.do("begin", "end", "close")  # whoever folds now sees that we live
    assert (stats(ledger).requests, stats(ledger).lost) == (1, 0)
    ledger.record(Event(Outcome.MISS, 2.0, "default", upstream=1, call=call))
    assert (stats(ledger).requests, stats(ledger).lost) == (2, 0)
    other.kill()
    for pipe in (other.process.stdin, other.process.stdout):
        assert pipe
        pipe.close()
    assert sorted(os.listdir("/dev/fd")) == before


def test_a_lost_call_is_taken_back_when_its_outcome_comes_after_all(ledger: Ledger, folder: Path, hit: Event) -> None:
    ledger.record(hit)
    calls = [ledger.begin(ASKED, 1.0) for _ in range(3)]
    # Somebody deletes the file that says who lives: to everybody else we are dead.
    (folder / "segments.lock").unlink()
    folding = os.fork()
    if not folding:
        other = Ledger(folder)
        other.fold()
        os._exit(0 if totals(other, store_sizes=(0, 0, 0)).lost == 3 else 1)
    assert os.waitpid(folding, 0)[1] == 0
    assert stats(ledger).lost == 3
    ledger.record(Event(Outcome.MISS, 2.0, "default", upstream=1, call=calls[0]))
    found = stats(ledger)
    assert (found.requests, found.misses, found.errors, found.lost, found.upstream_calls) == (4, 1, 2, 2, 3)
    ledger.record(Event(Outcome.ERROR, 2.0, "default", call=calls[1]))
    found = stats(ledger)
    assert (found.requests, found.errors, found.lost, found.unpriced) == (4, 2, 1, 1)


@pytest.mark.parametrize("lines", [1, 100])
def test_an_outcome_that_is_folded_before_its_beginning(
    ledger: Ledger, folder: Path, hit: Event, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments are read oldest first, as far as the clock tells, and a clock may be set."""
    monkeypatch.setattr(fold, "LINES", lines)
    folder.mkdir(parents=True)
    call = "0123456789abcde-7"
    beginning, end = (folder / f"0123456789abcde-00000{number}.segment" for number in (1, 2))
    beginning.write_bytes(encode_begun(call, ASKED, 1.0) + encode(hit))
    end.write_bytes(encode(replace(hit, call=call)) + encode(hit))
    os.utime(end, (1e9, 1e9))
    assert (stats(ledger).requests, stats(ledger).lost) == (3, 0)


def test_a_damaged_beginning_loses_nothing(puppet: Callable[..., Puppet], ledger: Ledger, folder: Path) -> None:
    one = puppet()
    one.do("begin", "end", "begin")
    (segment,) = folder.glob("*.segment")
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b'"model"', b'"modeX"', 1))
    one.kill()
    found = stats(ledger)
    assert (found.requests, found.misses, found.lost, ledger.damaged()) == (2, 1, 1, 1)


# Begins and ends calls for ever, in small segments that are folded as it goes, and acknowledges what it has done.
BUSY = """
import os, sys, threading
from pathlib import Path
from cachelayer.core.model import Asked, Event, Outcome
from cachelayer.ledger import segments
from cachelayer.ledger.ledger import Ledger
segments.ROTATE_AT = 20_000
asked = Asked("ab" * 32, b"{}", "gemini", "image", "m", "h", "h", "default", 1, False, None)
ledger, told = Ledger(Path(sys.argv[1])), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def work(thread):
    number = 0
    while True:
        call = ledger.begin(asked, 1.0)
        os.write(told, b"b")
        ledger.record(Event(Outcome.MISS, 1.0, "default", upstream=1, call=call))
        os.write(told, b"e")
        number += 1
        if number % 40 == thread:
            ledger.fold()
for thread in range(3):
    threading.Thread(target=work, args=(thread,)).start()
"""


def test_nothing_is_lost_or_doubled_by_kills_at_any_moment(python: Start, folder: Path, tmp_path: Path) -> None:
    """Twelve processes are killed, each after some hundred calls of its three threads, while all fold."""
    ledger = Ledger(folder)
    told = [tmp_path / f"told-{number}" for number in range(12)]
    for number in range(0, 12, 2):
        processes = [python(BUSY, folder, path) for path in told[number : number + 2]]
        for process, path in zip(processes, told[number : number + 2], strict=True):
            while not path.exists() or path.stat().st_size < 150 + 31 * number:
                assert process.poll() is None
                ledger.fold()
            process.send_signal(signal.SIGKILL)
        for process in processes:
            process.wait()
    begun = sum(path.read_bytes().count(b"b") for path in told)
    ended = sum(path.read_bytes().count(b"e") for path in told)
    found = stats(ledger)
    assert stats(ledger) == found
    # A thread may have been killed between its line and its word for it.
    assert ended <= found.misses <= ended + 3 * 12
    assert begun <= found.requests <= begun + 3 * 12
    assert found.lost == found.requests - found.misses <= 3 * 12
    assert ledger.damaged() == 0
    assert segments.names(folder) == []
