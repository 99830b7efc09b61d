"""Events to write down, and processes that write them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from cachelayer.core.model import Cost, Event, Outcome
from cachelayer.ledger.ledger import Ledger


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store" / "ledger"


@pytest.fixture
def ledger(folder: Path) -> Ledger:
    return Ledger(folder)


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the machine has one: for tests that sync some hundred times."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


@pytest.fixture
def hit() -> Event:
    return Event(
        outcome=Outcome.HIT,
        at=1_795_000_000.25,
        namespace="default",
        operation="image",
        model="gemini-3-pro-image",
        size="2K",
        host="generativelanguage.googleapis.com",
        key="ab" * 32,
        status=200,
        saved=Cost(Decimal("0.137934"), "exact", "reported usage"),
        images=1,
        wait=0.004,
        latency=21.5,
        normalized=("nfc", "strip"),
        tags=("blog",),
    )


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python process with a script and arguments; what still runs at the end is killed and reaped."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
