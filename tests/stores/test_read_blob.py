"""What every store must do when a blob is read into a buffer (stores.base.Store.read_blob)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from cachelayer.core.errors import StoreError

Open = Callable[..., Any]

FILL = 0xAA


def read(store: Any, digest: str, size: int, start: int = 0) -> bytes | None:
    """What came; what lies behind it in the buffer must be untouched."""
    buffer = bytearray([FILL]) * size
    got = store.read_blob(digest, memoryview(buffer), start)
    assert buffer[got or 0 :] == bytes([FILL]) * (size - (got or 0))
    return None if got is None else bytes(buffer[:got])


@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 3_000_000])
def test_a_blob_comes_whole_or_in_any_pieces(size: int, open_store: Open, worker: Any) -> None:
    data = random.Random(size).randbytes(size)
    one = worker.sample("one", data)
    (digest,) = one.blobs
    store = open_store()
    one.put(store)
    for reader in (store, open_store()):
        assert read(reader, digest, size + 1) == data
        assert read(reader, digest, size + 100_000) == data
        assert read(reader, digest, size) == data
        assert read(reader, digest, size // 2) == data[: size // 2]
        assert read(reader, digest, 7, start=size // 3) == data[size // 3 : size // 3 + 7]
        assert read(reader, digest, 10, start=size) == b""
        assert read(reader, digest, 10, start=size + 5) == b""
        pieces, step = b"", size // 4 + 1
        while piece := read(reader, digest, step, start=len(pieces)):
            pieces += piece
        assert pieces == data


def test_a_blob_that_is_not_there(open_store: Open, worker: Any) -> None:
    store, one = open_store(), worker.sample("one", b"image" * 1000)
    (digest,) = one.blobs
    assert read(store, digest, 10) is None
    one.put(store)
    assert read(store, digest, 5) == b"image"
    store.delete(one.key)
    assert read(store, digest, 10) is None


def test_a_closed_store_raises(open_store: Open, worker: Any) -> None:
    store, one = open_store(), worker.sample("one", b"image")
    one.put(store)
    store.close()
    with pytest.raises(StoreError):
        store.read_blob(next(iter(one.blobs)), memoryview(bytearray(10)))
