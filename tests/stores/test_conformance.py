"""What every store must do (stores.base.Store). Nothing here knows how one does it."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachelayer.core.errors import NoRoom, StoreError
from cachelayer.stores.base import Evicted

Open = Callable[..., Any]


def test_what_was_put_is_found(open_store: Open, worker: Any) -> None:
    one = worker.sample("one", b"image" * 1000, b"other" * 1000)
    store = open_store()
    one.put(store)
    for reader in (store, open_store()):
        assert reader.get(one.key) == one.record
        assert {digest: reader.get_blob(digest) for digest in one.blobs} == one.blobs
        assert reader.canonical(one.key) == b'{"of":"%s"}' % one.key.encode()
        assert list(reader.scan()) == [(one.key, one.record)]
        assert reader.sizes()[:2] == (1, 2)
        assert reader.sizes()[2] >= one.size


def test_it_outlives_the_store(open_store: Open, worker: Any) -> None:
    one = worker.sample("one", b"image" * 1000)
    store = open_store()
    one.put(store)
    store.close()
    assert worker.whole(open_store(), one.key) == one.body


def test_what_was_not_put_is_not_found(open_store: Open, worker: Any) -> None:
    store, absent = open_store(), worker.sample("absent").key
    assert store.get(absent) is None
    assert store.get_blob(absent) is None
    assert store.canonical(absent) is None
    assert store.delete(absent) is False
    assert list(store.scan()) == []
    assert store.sizes()[:2] == (0, 0)


def test_a_put_replaces_all_that_was_under_the_key(open_store: Open, worker: Any) -> None:
    store = open_store()
    old, new = worker.sample("one", b"old" * 1000), worker.sample("one", b"new" * 2000)
    old.put(store)
    new.put(store)
    assert worker.whole(store, new.key) == new.body
    assert [store.get_blob(digest) for digest in old.blobs] == [None]
    assert store.sizes()[:2] == (1, 1)


def test_a_blob_is_kept_once_until_its_last_entry_goes(open_store: Open, worker: Any) -> None:
    store, image = open_store(), b"image" * 1000
    one, two = worker.sample("one", image), worker.sample("two", image)
    (digest,) = one.blobs
    one.put(store)
    two.put(store)
    assert store.sizes()[:2] == (2, 1)
    assert store.delete(one.key) is True
    assert worker.whole(store, two.key) == two.body
    assert store.delete(two.key) is True
    assert store.get_blob(digest) is None
    assert store.sizes()[:2] == (0, 0)


def test_a_deleted_entry_is_gone(open_store: Open, worker: Any) -> None:
    store, one = open_store(), worker.sample("one", b"image")
    one.put(store)
    assert (store.delete(one.key), store.delete(one.key)) == (True, False)
    assert store.get(one.key) is None
    assert store.canonical(one.key) is None


def test_scan_gives_the_newest_first(open_store: Open, worker: Any, clock: Any) -> None:
    store = open_store()
    keys: list[str] = []
    for n in range(250):  # more than a page
        clock.now += 1
        one = worker.sample(n)
        one.put(store)
        keys.insert(0, one.key)
    assert [key for key, _ in store.scan()] == keys


def test_entries_may_be_deleted_during_a_scan(open_store: Open, worker: Any) -> None:
    store = open_store()
    for n in range(120):
        worker.sample(n).put(store)
    assert sum(store.delete(key) for key, _ in store.scan()) == 120
    assert store.sizes()[:2] == (0, 0)


LARGE = 500_000
"""Bytes of a blob beside which all that a store keeps for itself is small."""


def room_for(samples: int) -> int:
    """A size limit that holds so many large samples, and not one more."""
    return samples * LARGE + LARGE * 4 // 5


def test_the_least_recently_used_makes_room(open_store: Open, worker: Any, clock: Any) -> None:
    samples = [worker.sample(n, bytes([n]) * LARGE) for n in range(4)]
    store = open_store(size_limit=room_for(3))
    for one in samples[:3]:
        clock.now += 1
        one.put(store)
    assert store.take_evicted() == Evicted()
    clock.now += 1
    assert store.get(samples[0].key)  # now samples[1] is the oldest
    clock.now += 1
    samples[3].put(store)
    assert [store.get(one.key) is not None for one in samples] == [True, False, True, True]
    assert store.sizes()[2] <= room_for(3)
    assert store.take_evicted() == Evicted(1, Decimal("0.04"))
    assert store.take_evicted() == Evicted()


def test_expired_entries_make_room_before_live_ones(open_store: Open, worker: Any, clock: Any) -> None:
    samples = [worker.sample(n, bytes([n]) * LARGE) for n in range(4)]
    store = open_store(size_limit=room_for(3))
    for one, expires in zip(samples, (None, None, clock.now + 10), strict=False):
        clock.now += 1
        one.put(store, expires=expires)
    clock.now += 20
    samples[3].put(store)
    assert [store.get(one.key) is not None for one in samples] == [True, True, False, True]
    assert store.take_evicted() == Evicted()  # nobody could have been served it


def test_what_can_never_fit_is_refused_and_costs_nothing(open_store: Open, worker: Any) -> None:
    small, large = worker.sample("small", b"s" * 100), worker.sample("large", b"l" * LARGE * 2)
    store = open_store(size_limit=large.size - 1)
    small.put(store)
    with pytest.raises(NoRoom):
        large.put(store)
    assert worker.whole(store, small.key) == small.body
    assert store.get(large.key) is None
    assert store.sizes()[:2] == (1, 1)
    assert store.take_evicted() == Evicted()


def test_a_store_for_one_keeps_the_last_one(open_store: Open, worker: Any) -> None:
    store = open_store(size_limit=room_for(1))
    for n in range(5):
        one = worker.sample(n, bytes([n]) * LARGE)
        one.put(store)
        assert worker.whole(store, one.key) == one.body
        assert store.sizes()[0] == 1
    assert store.take_evicted() == Evicted(4, Decimal("0.16"))


def test_many_small_entries_are_bounded_too(open_store: Open, worker: Any) -> None:
    """Nothing but records and canonical requests: they count as well."""
    store = open_store(size_limit=1_000_000)
    for n in range(600):
        one = worker.sample(n, text=b"%d" % n * 1000)
        store.put(one.key, one.record, {}, canonical=str(random.Random(n).random()).encode() * 100, expires=None)
        assert store.sizes()[2] <= 1_000_000
    assert 100 < store.sizes()[0] < 600
    assert store.take_evicted().entries == 600 - store.sizes()[0]


def test_a_closed_store_raises(open_store: Open, worker: Any) -> None:
    store, one = open_store(), worker.sample("one")
    store.close()
    store.close()
    for call in (
        lambda: store.get(one.key),
        lambda: store.get_blob(one.key),
        lambda: one.put(store),
        lambda: store.delete(one.key),
        lambda: next(store.scan()),
        store.sizes,
    ):
        with pytest.raises(StoreError):
            call()


def test_threads_at_once(open_store: Open, worker: Any) -> None:
    """Twelve threads put, delete and read a few entries that share blobs; nobody ever reads half of one."""
    store = open_store()
    barrier = threading.Barrier(12)

    def run(seed: int) -> int:
        rng, read = random.Random(seed), 0
        barrier.wait()
        for _ in range(40):
            one = worker.drawn(rng)
            step = rng.random()
            if step < 0.4:
                one.put(store)
            elif step < 0.8:
                # A record read before a delete may find its blobs gone: that is a miss. Wrong bytes are not.
                record = store.get(one.key)
                assert record in (None, one.record)
                assert all(store.get_blob(digest) in (None, data) for digest, data in one.blobs.items())
                read += record is not None
            else:
                store.delete(one.key)
        return read

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(run, range(12))) > 0
    for key, _ in store.scan():
        assert worker.whole(store, key) is not None


_NUMBERS = itertools.count()  # an example must not find what another left
_STEP = st.tuples(st.sampled_from(["put", "get", "delete"]), st.integers(0, 11))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEP, max_size=30), limit=st.sampled_from([330_000, 400_000, 3_000_000]))
def test_any_history(open_store: Open, worker: Any, steps: list[tuple[str, int]], limit: int) -> None:
    """After any steps: what is found is whole and what was last put, the sum is right and within the limit."""
    store = open_store(limit, name=f"store-{next(_NUMBERS)}")
    model: dict[str, Any] = {}
    for step, n in steps:
        one = worker.sample(n, *(bytes([b]) * (1000 + 3000 * b) for b in {n % 5, n % 3 + 2}))
        if step == "put":
            one.put(store)
            model[one.key] = one
        elif step == "delete":
            assert store.delete(one.key) or one.key not in model or limit < 3_000_000
            model.pop(one.key, None)
        else:
            assert worker.whole(store, one.key) in (None, model[one.key].body if one.key in model else None)
    kept = [key for key, _ in store.scan()]
    if limit == 3_000_000:
        assert set(kept) == set(model)
    assert set(kept) <= set(model)
    assert all(worker.whole(store, key) == model[key].body for key in kept)
    blobs = {digest: len(data) for key in kept for digest, data in model[key].blobs.items()}
    assert store.sizes()[:2] == (len(kept), len(blobs))
    assert sum(len(model[key].record) for key in kept) + sum(blobs.values()) <= store.sizes()[2] <= limit
    store.close()
