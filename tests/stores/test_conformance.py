"""What every store must do (stores.base.Store). Nothing here knows how one does it."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachelayer.core.errors import StoreError

Open = Callable[..., Any]


def test_what_was_put_is_found(open_store: Open, worker: Any) -> None:
    one = worker.sample("one", b"image" * 1000, b"other" * 1000)
    store = open_store()
    one.put(store)
    for reader in (store, open_store()):
        assert worker.get(reader, one.key) == one.record
        assert worker.whole(reader, one.key) == one.body
        assert worker.keys(reader) == [one.key]
        assert reader.sizes()[:2] == (1, 2)
        assert reader.sizes().bytes >= one.size


def test_it_outlives_the_store(open_store: Open, worker: Any) -> None:
    one = worker.sample("one", b"image" * 1000)
    store = open_store()
    one.put(store)
    store.close()
    assert worker.whole(open_store(), one.key) == one.body


def test_what_was_not_put_is_not_found(open_store: Open, worker: Any) -> None:
    store, absent = open_store(), worker.sample("absent").key
    assert store.fetch(absent) is None
    assert store.delete([absent]) == 0
    assert list(store.heads()) == []
    assert store.sizes()[:2] == (0, 0)


def test_a_put_is_create_only(open_store: Open, worker: Any) -> None:
    store = open_store()
    old, new = worker.sample("one", b"old" * 1000), worker.sample("one", b"new" * 2000)
    assert store.put(old.parcel) is True
    assert store.put(new.parcel) is False
    assert store.put(new.parcel, replace=b"another version") is False
    assert worker.whole(store, new.key) == old.body
    assert store.sizes()[:2] == (1, 1)


def test_a_put_replaces_exactly_the_version_it_names(open_store: Open, worker: Any) -> None:
    store = open_store()
    old, new, other = (worker.sample("one", data) for data in (b"old" * 1000, b"new" * 2000, b"other" * 3000))
    store.put(old.parcel)
    version = store.fetch(old.key).version
    assert store.put(new.parcel, replace=version) is True
    assert worker.whole(store, new.key) == new.body
    assert store.sizes()[:2] == (1, 1)
    assert store.put(other.parcel, replace=version) is False  # that one is gone
    assert worker.whole(store, new.key) == new.body


def test_where_nothing_is_a_put_replaces_nothing_and_is_kept(open_store: Open, worker: Any) -> None:
    store, one = open_store(), worker.sample("one", b"image")
    assert store.put(one.parcel, replace=b"what was evicted meanwhile") is True
    assert worker.whole(store, one.key) == one.body


def test_of_many_who_put_at_once_one_wins(open_store: Open, worker: Any) -> None:
    store = open_store()
    samples = [worker.sample("one", b"%d" % n * 1000) for n in range(12)]
    barrier = threading.Barrier(12)

    def put(one: Any) -> bool:
        barrier.wait()
        kept: bool = store.put(one.parcel)
        return kept

    with ThreadPoolExecutor(12) as pool:
        kept = list(pool.map(put, samples))
    assert kept.count(True) == 1
    assert worker.whole(store, samples[0].key) == samples[kept.index(True)].body
    assert store.sizes()[:2] == (1, 1)


def test_a_blob_is_kept_once_until_its_last_entry_goes(open_store: Open, worker: Any) -> None:
    store, image = open_store(), b"image" * 1000
    one, two = worker.sample("one", image), worker.sample("two", image)
    one.put(store)
    two.put(store)
    assert store.sizes()[:2] == (2, 1)
    assert store.delete([one.key]) == 1
    assert worker.whole(store, two.key) == two.body
    assert store.delete([two.key]) == 1
    assert store.sizes()[:2] == (0, 0)


def test_a_deleted_entry_is_gone(open_store: Open, worker: Any) -> None:
    store, one, two = open_store(), worker.sample("one", b"image"), worker.sample("two")
    one.put(store)
    two.put(store)
    assert (store.delete([one.key, worker.sample("absent").key]), store.delete([one.key])) == (1, 0)
    assert store.fetch(one.key) is None
    assert worker.keys(store) == [two.key]
    assert store.delete([]) == 0


def test_heads_come_newest_first(open_store: Open, worker: Any, clock: Any) -> None:
    store = open_store()
    samples: list[Any] = []
    for n in range(250):  # more than a page
        clock.now += 1
        one = worker.sample(n)
        one.put(store, expires=clock.now + 100)
        samples.insert(0, one)
    heads = list(store.heads())
    assert [head.key for head in heads] == [one.key for one in samples]
    assert [head.size for head in heads] == [len(one.record) for one in samples]
    assert [head.expires for head in heads] == [head.stored + 100 for head in heads]
    assert heads[0].stored == clock.now
    for prefix in ("", "a", samples[7].key[:6], samples[7].key, "f" * 64):
        assert [head.key for head in store.heads(prefix)] == [one.key for one in samples if one.key.startswith(prefix)]


def test_entries_may_be_deleted_while_they_are_listed(open_store: Open, worker: Any) -> None:
    store = open_store()
    for n in range(120):
        worker.sample(n).put(store)
    assert sum(store.delete([head.key]) for head in store.heads()) == 120
    assert store.sizes()[:2] == (0, 0)


def test_a_closed_store_raises(open_store: Open, worker: Any) -> None:
    store, one = open_store(), worker.sample("one")
    store.close()
    store.close()
    for call in (
        lambda: store.fetch(one.key),
        lambda: store.put(one.parcel),
        lambda: store.delete([one.key]),
        lambda: next(store.heads()),
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
                found = store.fetch(one.key)
                assert found is None or found.record == one.record
                for digest, data in one.blobs.items() if found is not None else ():
                    assert found.contents.blob(digest) in (None, data)
                read += found is not None
            else:
                store.delete([one.key])
        return read

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(run, range(12))) > 0
    for key in worker.keys(store):
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
            assert store.delete([one.key]) == 1 or one.key not in model or limit < 3_000_000
            model.pop(one.key, None)
        else:
            assert worker.whole(store, one.key) in (None, model[one.key].body if one.key in model else None)
    kept = worker.keys(store)
    if limit == 3_000_000:
        assert set(kept) == set(model)
    assert set(kept) <= set(model)
    assert all(worker.whole(store, key) == model[key].body for key in kept)
    blobs = {digest: len(data) for key in kept for digest, data in model[key].blobs.items()}
    assert store.sizes()[:2] == (len(kept), len(blobs))
    assert sum(len(model[key].record) for key in kept) + sum(blobs.values()) <= store.sizes()[2] <= limit
    store.close()
