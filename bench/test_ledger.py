"""What the ledger costs a request, and a report. Floor: the same bytes written to a file that lies open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.outcome import HIT
from cachelayer.core.model import Asked
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.lines import encode
from cachelayer.ledger.reports import totals

ASKED = Asked("ab" * 32, b"{}", "gemini", "image", "gemini-3-pro-image", "h", "h", "default", 1, False, None)
OUTCOMES = 20_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger")
    yield ledger
    ledger.close()


@pytest.mark.benchmark(group="an outcome is written down")
def test_write_the_bytes(benchmark: Any, tmp_path: Path) -> None:
    line, fd = encode(HIT), os.open(tmp_path / "file", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    benchmark(os.write, fd, line)
    os.close(fd)


@pytest.mark.benchmark(group="an outcome is written down")
def test_record(benchmark: Any, ledger: Ledger) -> None:
    benchmark(ledger.record, HIT)


@pytest.mark.benchmark(group="an outcome is written down")
def test_begin(benchmark: Any, ledger: Ledger) -> None:
    benchmark(ledger.begin, ASKED, 1.0)


@pytest.mark.benchmark(group="stats() of 20,000 outcomes")
def test_stats(benchmark: Any, ledger: Ledger) -> None:
    for _ in range(OUTCOMES):
        ledger.record(HIT)
    ledger.fold()
    assert benchmark(totals, ledger, store_sizes=(0, 0, 0)).requests == OUTCOMES
