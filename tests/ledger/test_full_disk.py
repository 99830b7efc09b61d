"""A full disk loses no outcome: the ledger has blocks ahead, and a reserve, on a real small file system."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cachelayer.ledger import room

# Fills the disk around a ledger, and goes on recording. argv: folder, outcomes, what happens to the process first.
FILL = """
import json, os, sys
from decimal import Decimal
from pathlib import Path
from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Asked, Cost, Event, Outcome
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.reports import totals
place, number, how = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
asked = Asked("ab" * 32, b"{}", "gemini", "image", "gemini-3-pro-image", "h", "h", "default", 1, False, None)
cost = Cost(Decimal("0.134"), "exact", "reported usage")

def fill():
    with open(place / "filler", "ab", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(512))
        except OSError:
            return

def go_on(ledger):
    recorded = 0
    for turn in range(number):
        try:
            call = ledger.begin(asked, 1.0)
            ledger.record(Event(Outcome.MISS, 1.0, "default", upstream=1, spent=cost, call=call), sync=turn % 10 == 0)
            recorded += 1
        except LedgerError:
            pass
    return recorded

ledger = Ledger(place / "ledger")
ledger.record(Event(Outcome.HIT, 1.0, "default"))
if how == "closed":  # the disk fills while no ledger is open
    ledger.close()
fill()
recorded = go_on(ledger)
full = totals(ledger, store_sizes=(0, 0, 0))
os.unlink(place / "filler")
recorded_after = go_on(ledger)
after = totals(ledger, store_sizes=(0, 0, 0))
ledger.close()
again = totals(ledger, store_sizes=(0, 0, 0))
print(json.dumps([recorded, full.misses, recorded_after, after.misses, again.misses, again.requests, again.lost,
                  ledger.damaged()]))
"""


def small_disk(folder: Path, size: str) -> list[str]:
    """A command that runs what follows it with a file system of a size at a folder."""
    folder.mkdir()
    mount = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={size} none "$0" && exec "$@"', str(folder)]
    try:
        subprocess.run([*mount, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no private mounts here")
    return mount


@pytest.mark.parametrize("how", ["open", "closed"])
@pytest.mark.parametrize("size", ["4m", "64m"])
def test_a_full_disk_loses_no_outcome(tmp_path: Path, how: str, size: str) -> None:
    number = 200 if size == "4m" else 1_000
    command = [*small_disk(tmp_path / "small", size), sys.executable, "-c", FILL, str(tmp_path / "small"), str(number)]
    done = subprocess.run([*command, how], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    recorded, full, recorded_after, after, again, requests, lost, damaged = json.loads(done.stdout)
    assert recorded == full == number
    assert recorded_after == number
    assert after == again == 2 * number == requests - 1
    assert (lost, damaged) == (0, 0)


def test_blocks_ahead_change_neither_size_nor_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"line\n")
    with path.open("ab") as file:
        reached = room.reserve_ahead(file.fileno(), 5)
    assert reached >= 5 + 16_384
    assert path.read_bytes() == b"line\n"


def test_a_reserve_that_is_none_of_ours_is_not_taken(tmp_path: Path) -> None:
    assert not room.take_reserve(tmp_path, "name")
    (tmp_path / "reserve").write_bytes(b"somebody's")
    room.lay_reserve(tmp_path)
    assert not room.take_reserve(tmp_path, "name")
    assert (tmp_path / "reserve").read_bytes() == b"somebody's"
    (tmp_path / "reserve").unlink()
    (tmp_path / "reserve").symlink_to(tmp_path / "elsewhere")
    room.lay_reserve(tmp_path)
    assert not room.take_reserve(tmp_path, "name")
    assert not (tmp_path / "elsewhere").exists()
