"""What every store with a size limit must do. Nothing here knows how one does it."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from cachelayer.core.errors import NoRoom
from cachelayer.stores.base import Evicted

Open = Callable[..., Any]

LARGE = 500_000
"""Bytes of a blob beside which all that a store keeps for itself is small."""


def room_for(samples: int) -> int:
    """A size limit that holds so many large samples, and not one more."""
    return samples * LARGE + LARGE * 4 // 5


def test_the_least_recently_used_makes_room(open_bounded: Open, worker: Any, clock: Any) -> None:
    samples = [worker.sample(n, bytes([n]) * LARGE) for n in range(4)]
    store = open_bounded(size_limit=room_for(3))
    for one in samples[:3]:
        clock.now += 1
        one.put(store)
    assert store.take_evicted() == Evicted()
    clock.now += 1
    assert worker.get(store, samples[0].key)  # now samples[1] is the oldest
    clock.now += 1
    samples[3].put(store)
    assert [worker.get(store, one.key) is not None for one in samples] == [True, False, True, True]
    assert store.sizes().bytes <= room_for(3)
    assert store.take_evicted() == Evicted(1, Decimal("0.04"))
    assert store.take_evicted() == Evicted()


def test_expired_entries_make_room_before_live_ones(open_bounded: Open, worker: Any, clock: Any) -> None:
    samples = [worker.sample(n, bytes([n]) * LARGE) for n in range(4)]
    store = open_bounded(size_limit=room_for(3))
    for one, expires in zip(samples, (None, None, clock.now + 10), strict=False):
        clock.now += 1
        one.put(store, expires=expires)
    clock.now += 20
    samples[3].put(store)
    assert [worker.get(store, one.key) is not None for one in samples] == [True, True, False, True]
    assert store.take_evicted() == Evicted()  # nobody could have been served it


def test_what_can_never_fit_is_refused_and_costs_nothing(open_bounded: Open, worker: Any) -> None:
    small, large = worker.sample("small", b"s" * 100), worker.sample("large", b"l" * LARGE * 2)
    store = open_bounded(size_limit=large.size - 1)
    small.put(store)
    with pytest.raises(NoRoom):
        large.put(store)
    assert worker.whole(store, small.key) == small.body
    assert worker.get(store, large.key) is None
    assert store.sizes()[:2] == (1, 1)
    assert store.take_evicted() == Evicted()


def test_a_store_for_one_keeps_the_last_one(open_bounded: Open, worker: Any) -> None:
    store = open_bounded(size_limit=room_for(1))
    for n in range(5):
        one = worker.sample(n, bytes([n]) * LARGE)
        one.put(store)
        assert worker.whole(store, one.key) == one.body
        assert store.sizes().entries == 1
    assert store.take_evicted() == Evicted(4, Decimal("0.16"))


def test_many_small_entries_are_bounded_too(open_bounded: Open, worker: Any) -> None:
    """Nothing but records and canonical requests: they count as well."""
    store = open_bounded(size_limit=1_000_000)
    for n in range(600):
        one = worker.sample(n, text=b"%d" % n * 1000)
        worker.put(store, one, canonical=str(random.Random(n).random()).encode() * 100)
        assert store.sizes().bytes <= 1_000_000
    assert 100 < store.sizes().entries < 600
    assert store.take_evicted().entries == 600 - store.sizes().entries
