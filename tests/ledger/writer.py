"""A process that writes outcomes, and what it leaves."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from cachelayer.ledger.ledger import Ledger

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
