"""An exception out of a signal handler may strike anywhere: the ledger goes on, and nothing of it stays locked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from cachelayer.core.model import Asked, Event, Outcome
from cachelayer.ledger import segments
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.reports import totals

Start = Callable[..., "subprocess.Popen[str]"]

# Interrupts itself some thousand times at random moments, and then says what still works.
INTERRUPTED = """
import os, random, signal, sys, threading, time
from pathlib import Path
from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Asked, Event, Outcome
from cachelayer.ledger import segments
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.reports import totals

folder, times, how = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
segments.ROTATE_AT = 10_000
asked = Asked("ab" * 32, b"{}", "gemini", "image", "m", "h", "h", "default", 1, False, None)
ledger = Ledger(folder)
draw = random.Random(1)
interrupts = begun = 0

class Interrupt(BaseException):
    pass

def strike(number, frame):
    global interrupts
    interrupts += 1
    if how == "handler":  # one that makes a request of its own, and goes on
        ledger.record(Event(Outcome.HIT, 1.0, "handler"))
        if interrupts % 200 == 0:
            ledger.close()
    else:
        raise Interrupt

def work():
    global begun
    call = ledger.begin(asked, 1.0)
    begun += 1
    ledger.record(Event(Outcome.MISS, 1.0, "default", upstream=1, call=call), sync=draw.random() < 0.1)
    ledger.record(Event(Outcome.HIT, 1.0, "default"))
    if draw.random() < 0.01:
        ledger.close()
    if draw.random() < 0.05:
        ledger.record_fault("fly", "OSError")

signal.signal(signal.SIGALRM, strike)
work()
descriptors = len(os.listdir("/dev/fd"))
while interrupts < times:
    try:
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.00002, 0.002))
        while True:
            work()
            if how == "handler":
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.00002, 0.002))
                if interrupts >= times:
                    break
    except Interrupt:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, signal.SIG_DFL)

signal.alarm(120)  # what would be stuck is ended, and seen
for thread in threading.enumerate():
    if thread.name == "cachelayer-fold":
        try:
            thread.join()
        except RuntimeError:  # one that was interrupted in start(): it never ran, or nobody was told that it does
            pass
for _ in range(100):
    ledger.record(Event(Outcome.HIT, 1.0, "after"))
thread = threading.Thread(target=lambda: [ledger.record(Event(Outcome.HIT, 1.0, "after")) for _ in range(100)])
thread.start()
thread.join()
child = os.fork()
if not child:
    signal.alarm(60)
    ledger.record(Event(Outcome.HIT, 1.0, "child"))
    ledger.close()
    os._exit(0)
forked = os.waitpid(child, 0)[1]
found = totals(ledger, store_sizes=(0, 0, 0))
named = [event.namespace for event in ledger.events()]
ledger.close()
more = len(os.listdir("/dev/fd")) - descriptors
print(interrupts >= times, forked, named.count("after"), named.count("child"), found.requests == len(named), more < 10,
      found.lost, flush=True)
sys.stdin.read()
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["exception", "handler"])
def test_interrupts_at_any_moment_leave_a_ledger_that_works(how: str, python: Start, memory_path: Path) -> None:
    folder = memory_path / "ledger"
    process = python(INTERRUPTED, folder, 3_000 if how == "exception" else 1_000, how)
    assert process.stdout
    assert process.stdout.readline().split() == ["True", "0", "200", "1", "True", "True", "0"]
    # The right to fold is free for others while it lives, and nothing was cut into another line.
    ledger = Ledger(folder)
    ledger.fold()
    process.kill()
    process.wait()
    ledger.fold()
    found = totals(ledger, store_sizes=(0, 0, 0))
    assert found.requests == found.misses + found.hits + found.errors
    assert found.lost == found.errors
    assert segments.names(folder) == []
    if how == "handler":
        assert (found.lost, ledger.damaged()) == (0, 0)


def a_call_struck_at(line: int, ledger: Ledger) -> bool:
    """Book a call; at the given line of segments.py that it comes by, do what a signal handler may do. False: it comes
    by fewer lines."""
    asked = Asked("ab" * 32, b"{}", "gemini", "image", "m", "h", "h", "default", 1, False, None)
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != segments.__file__:
            return None
        lines += event == "line"
        if lines == line:
            sys.settrace(None)
            ledger.record(Event(Outcome.HIT, 1.0, "handler"))
            ledger.record(Event(Outcome.HIT, 1.0, "handler"))
            ledger.close()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call = ledger.begin(asked, 1.0)
        ledger.record(Event(Outcome.MISS, 1.0, "default", upstream=1, call=call), sync=True)
    finally:
        sys.settrace(before)
    return lines >= line


@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.acceptance)])
def test_a_handler_that_records_and_closes_at_any_line_costs_no_outcome(
    step: int, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "ROTATE_AT", 1)
    line, struck = 0, True
    while struck:
        line += step
        ledger = Ledger(memory_path / str(line))
        struck = a_call_struck_at(line, ledger)
        ledger.fold()  # what is finished by now is deleted, read or unread
        ledger.record(Event(Outcome.HIT, 1.0, "default"))
        ledger.close()
        found = totals(ledger, store_sizes=(0, 0, 0))
        assert (found.misses, found.hits, found.lost, ledger.damaged()) == (1, 3 if struck else 1, 0, 0), line
        assert segments.names(ledger.folder) == []
    assert line > 50
