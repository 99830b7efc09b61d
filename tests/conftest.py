"""Fixtures that every room's tests share: a store of their own and a simulator on a real socket."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import cachelayer
from cachelayer.simulator import Simulator

# The suite also runs beside four others: how long an example takes says nothing there.
settings.register_profile("cachelayer", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# What a coverage figure counts must not be up to chance, and tracing makes every example dear.
settings.register_profile("coverage", settings.get_profile("cachelayer"), max_examples=30, derandomize=True)
settings.load_profile("cachelayer")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    # Started from a script's background, or below `trap "" INT`. Children would inherit it, and those that tests send a
    # Ctrl-C would never end.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the developer's own CACHELAYER_ variables, cache folder or cachelayer.toml."""
    import os

    for name in list(os.environ):
        if name.startswith(("CACHELAYER_", "OPENAI_", "GEMINI_", "GOOGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture(autouse=True)
def _an_answer_comes_when_it_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine storing takes longer than a caller would wait for it; who asks again then joins a flight, and
    tests that say HIT see COALESCED."""
    monkeypatch.setattr("cachelayer.runtime.flight.HANDOVER_WAIT", 15.0)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> Iterator[cachelayer.Cache]:
    with cachelayer.Cache(path=folder) as cache:
        yield cache


Program = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Start a Python program in a process of its own: program(source, *arguments); arguments arrive as `args`."""
    started: list[subprocess.Popen[str]] = []

    def start(source: str, *arguments: Any) -> subprocess.Popen[str]:
        preamble = "import json, sys, os, warnings\nwarnings.simplefilter('error')\nargs = json.loads(sys.argv[1])\n"
        process = subprocess.Popen(
            [sys.executable, "-c", preamble + textwrap.dedent(source), json.dumps([str(a) for a in arguments])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str], timeout: float = 60) -> str:
    """What a program printed; fails with its stderr when it did not exit with 0."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err
    return out
