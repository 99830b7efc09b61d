"""Failures of our own are counted, not written one by one; what cannot be written is not forgotten."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Asked, Event, Outcome
from cachelayer.ledger.faults import EVERY, Faults
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.lines import Fault
from cachelayer.ledger.reports import totals


def test_one_line_a_minute_and_kind_and_none_is_lost() -> None:
    faults, written = Faults(), list[Fault]()
    for second in range(200):
        for what in ("read an entry", "write an entry"):
            kind = faults.add(what, "OSError", now=float(second))
            if kind is not None:
                faults.take(float(second), written.append, kind)
    assert [fault.at for fault in written if fault.what == "read an entry"] == [0.0, EVERY, 2 * EVERY, 3 * EVERY]
    assert sum(fault.count for fault in written) + faults.waiting() == 400
    faults.take(200.0, written.append)
    faults.take(200.0, written.append)
    assert sum(fault.count for fault in written) == 400
    assert len(written) == 10


def test_kinds_without_end_become_one() -> None:
    faults, written = Faults(), list[Fault]()
    for number in range(1_500):
        faults.add(f"what {number}", "OSError", now=0.0)
    faults.take(1.0, written.append)
    assert len(written) == 1_001
    assert [fault for fault in written if fault.what == "others"] == [Fault(1.0, "others", "", 500)]


def test_where_nothing_can_be_written_everything_says_so_and_faults_wait(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ledger = Ledger(tmp_path / "file" / "ledger")
    asked = Asked("ab", b"", "d", "image", "m", "s", "h", "default", 1, False, None)
    for work in (
        lambda: ledger.begin(asked, 1.0),
        lambda: ledger.record(Event(Outcome.HIT, 1.0, "default")),
        lambda: ledger.record_fault("read an entry", "OSError"),
    ):
        with pytest.raises(LedgerError, match="cannot write to the ledger"):
            work()
    ledger.record_fault("read an entry", "OSError")  # within the minute: only counted
    ledger.close()
    assert ledger.faults_waiting() == 2
    (tmp_path / "file").unlink()
    ledger.close()
    assert (ledger.faults_waiting(), totals(ledger, store_sizes=(0, 0, 0)).faults) == (0, 2)


def test_nothing_evicted_is_no_line(ledger: Ledger, folder: Path) -> None:
    ledger.record_evicted(0, Decimal(0))
    assert not folder.exists()
