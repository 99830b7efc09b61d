"""What every store must do when the contents of an entry are asked for (stores.base.Contents)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from cachelayer.core.errors import StoreError

Open = Callable[..., Any]


def pieces(contents: Any, digest: str, size: int, most: int = 10**9) -> list[bytes] | None:
    """The pieces of a blob that come through a buffer, no more than ``most``; None when there is no such blob."""
    buffer, taken = bytearray(size), []

    def take(piece: memoryview) -> bool:
        taken.append(bytes(piece))
        return len(taken) < most

    return taken if contents.pour(digest, memoryview(buffer), take) else None


@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 3_000_000])
def test_a_blob_comes_whole_or_in_any_pieces(size: int, open_store: Open, worker: Any) -> None:
    data = random.Random(size).randbytes(size)
    one = worker.sample("one", data)
    (digest,) = one.blobs
    store = open_store()
    one.put(store)
    for reader in (store, open_store()):
        contents = reader.fetch(one.key).contents
        assert contents.blob(digest) == data
        for buffer in {size + 1, size + 100_000, max(1, size), size // 2 + 1, size // 4 + 1}:
            found = pieces(contents, digest, buffer)
            assert found is not None
            assert b"".join(found) == data
            assert [len(piece) for piece in found[:-1]] == [buffer] * (len(found) - 1)  # only the last is smaller
            assert b"" not in found


def test_what_is_not_wanted_is_left_unread(open_store: Open, worker: Any) -> None:
    store, one = open_store(), worker.sample("one", b"image" * 1000)
    (digest,) = one.blobs
    one.put(store)
    assert pieces(store.fetch(one.key).contents, digest, 100, most=2) == [b"image" * 20] * 2


def test_a_blob_that_is_not_there(open_store: Open, worker: Any) -> None:
    store, one = open_store(), worker.sample("one", b"image" * 1000)
    one.put(store)
    contents = store.fetch(one.key).contents
    assert pieces(contents, worker.sample("other").key, 10) is None
    assert contents.blob(worker.sample("other").key) is None


def test_the_canonical_request_comes_back(open_store: Open, worker: Any) -> None:
    store, one = open_store(), worker.sample("one")
    one.put(store)
    assert store.fetch(one.key).contents.canonical() == b'{"of":"%s"}' % one.key.encode()


def test_a_parcel_goes_from_one_store_into_another(open_store: Open, worker: Any) -> None:
    """As it came: what is fetched can be put."""
    near, far = open_store(name="near"), open_store(name="far")
    one = worker.sample("one", b"image" * 1000, b"other" * 70_000)
    one.put(far)
    assert near.put(far.fetch(one.key)) is True
    assert worker.whole(near, one.key) == one.body
    assert near.fetch(one.key).contents.canonical() == far.fetch(one.key).contents.canonical()


def test_what_is_not_whole_is_refused(open_store: Open, worker: Any) -> None:
    store, one = open_store(), worker.sample("one", b"image" * 1000)
    with pytest.raises(StoreError):
        store.put(worker.Parcel(one.key, one.record, worker.Given({}, b"")))
    assert store.fetch(one.key) is None
