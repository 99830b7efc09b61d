"""Damage: no wrong byte is handed out, no exception reaches the caller, each is counted, the next request repairs.

Every answer is held against the simulator's own pictures for the same request, asked of a second one past the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cachelayer.simulator import Simulator
from tests.faults.shop import KNOWN, Shop, Truth


@pytest.fixture(scope="module")
def truth() -> Iterator[Truth]:
    with Simulator() as simulator:
        yield Truth(simulator)


@pytest.fixture
def shop(folder: Path, simulator: Simulator, truth: Truth) -> Iterator[Shop]:
    with Shop(folder, simulator, truth) as shop:
        assert shop.outcomes(KNOWN) == ["MISS"] * len(KNOWN)
        assert shop.outcomes(KNOWN) == ["HIT"] * len(KNOWN)
        yield shop
