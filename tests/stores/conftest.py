"""Stores to test. A new store joins the conformance suite by a line in OPENERS."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cachelayer.stores.base import Store
from cachelayer.stores.layers import Breaker
from cachelayer.stores.local import LocalStore, open_local
from tests.stores.memory import MemoryStore, Shelf

WORKER = Path(__file__).with_name("worker.py")


@functools.cache
def _load_worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cachelayer_stores_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class Clock:
    """Time that stands still until it is moved."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def open_memory(path: Path, *, size_limit: int, clock: Clock) -> MemoryStore:
    return MemoryStore(_shelves.setdefault(path, Shelf()), clock)


_shelves: dict[Path, Shelf] = {}


def open_layered(path: Path, *, size_limit: int, clock: Clock) -> Store:
    """A layer is a store too."""
    return Breaker(open_memory(path, size_limit=size_limit, clock=clock), clock=clock)


OPENERS: dict[str, Callable[..., Any]] = {"layered": open_layered, "local": open_local, "memory": open_memory}
BOUNDED = ["local"]
"""Those that keep to a size limit."""


@pytest.fixture
def worker() -> ModuleType:
    """worker.py: samples, and whole() to read one back."""
    return _load_worker()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where open_here opens the store."""
    return tmp_path / "store"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=sorted(OPENERS))
def open_store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Any]]:
    """Open the store under test; again, or again at the same time, gives the same content."""
    with _opener(OPENERS[request.param], tmp_path, clock) as open_:
        yield open_


@pytest.fixture(params=BOUNDED)
def open_bounded(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Any]]:
    """As open_store, for what every store with a size limit must do."""
    with _opener(OPENERS[request.param], tmp_path, clock) as open_:
        yield open_


@contextlib.contextmanager
def _opener(opener: Callable[..., Any], tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Any]]:
    opened: list[Any] = []

    def open_(size_limit: int = 10_000_000, name: str = "store") -> Any:
        store = opener(tmp_path / name, size_limit=size_limit, clock=clock)
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def open_here(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., LocalStore]]:
    """Open the local store in tmp_path/store."""
    opened: list[LocalStore] = []

    def open_(size_limit: int = 10_000_000) -> LocalStore:
        store = open_local(tmp_path / "store", size_limit=size_limit, clock=clock)
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start worker.py, on tmp_path/store unless told otherwise: start(mode, limit, seed)."""
    started: list[subprocess.Popen[str]] = []

    def start_(
        mode: str, limit: int = 10_000_000, seed: int = 0, folder: Path = tmp_path / "store"
    ) -> subprocess.Popen[str]:
        command = [sys.executable, "-X", "dev", "-W", "error", str(WORKER), mode]
        process = subprocess.Popen(
            [*command, str(folder), str(limit), str(seed)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start_
    for process in started:
        with contextlib.suppress(ProcessLookupError):  # its forked children too: they hold the pipe
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
