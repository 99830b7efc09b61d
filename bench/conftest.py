"""What the benches share: one real image, and a simulator that answers with it at once.

A figure is a ratio against a floor or a peer of the same run and group (pytest-benchmark prints it in parentheses):
these machines are noisy, and a millisecond of one is not a millisecond of another. Command: make bench
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pybase64
import pytest

import cachelayer
from cachelayer.simulator import Simulator

IMAGE_SIZE = 2 * 1024 * 1024
"""Bytes of the image in an answer, about what gpt-image-2 sends for 1024x1024 in high quality."""


@pytest.fixture(scope="session")
def image() -> bytes:
    return random.Random(1).randbytes(IMAGE_SIZE)


@pytest.fixture(scope="session")
def answer(image: bytes) -> bytes:
    """The JSON body of an answer that carries the image."""
    return b'{"created":1780000000,"data":[{"b64_json":"' + pybase64.b64encode(image) + b'"}],"usage":null}'


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[cachelayer.Cache]:
    with cachelayer.Cache(path=tmp_path / "cache") as cache:
        yield cache


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator
