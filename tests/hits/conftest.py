"""A hit is the answer to this very question: pairs that never meet, pairs that always do, and a sweep of both.

Whether an answer is right is told by the provider's own bytes: a second simulator draws the same pictures for the same
request, and every answer of a simulator carries an id of its own, so that one answer is never mistaken for another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.hits.desk import Desk


@pytest.fixture
def desk(cache: cachelayer.Cache, simulator: Simulator) -> Iterator[Desk]:
    with Simulator() as truth:
        desk = Desk(cache, simulator, truth)
        yield desk
        desk.close()
