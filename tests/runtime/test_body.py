"""The buffer that a thread keeps: small enough, never shared by two bodies that are being rebuilt at once."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import xxhash
from blake3 import blake3

from cachelayer.core.entry import BlobRef, Broken, Entry
from cachelayer.core.model import Cost
from cachelayer.runtime import body
from cachelayer.runtime.body import body_of

EMPTY = Entry("k", 1, "n", 0.0, None, 200, (), (), Cost(None, "unpriced", "test"), 1.0, "image", "m", "h", 1)
SIZES = (20_000, 1_000_000, 8 * 1024 * 1024 - 1, 8 * 1024 * 1024, 20_000_000)


def entry_of(data: bytes) -> Entry:
    only = BlobRef(blake3(data).hexdigest(), len(data), xxhash.xxh3_64_intdigest(data), False)
    return replace(EMPTY, template=(only,))


def reader(data: bytes, before: object = None) -> object:
    def read(digest: str, buffer: memoryview, start: int) -> int:
        piece = data[start : start + len(buffer)]
        buffer[: len(piece)] = piece
        if callable(before):
            before()
        return len(piece)

    return read


@pytest.mark.parametrize("size", SIZES)
def test_a_body_of_any_size_through_at_most_8_mb(size: int) -> None:
    data = random.Random(size).randbytes(size)

    def run() -> int:
        assert body_of(entry_of(data), reader(data)) == data  # type: ignore[arg-type]
        return len(body._kept.buffer)

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(run).result() <= 8 * 1024 * 1024


def test_a_body_rebuilt_in_the_middle_of_another() -> None:
    """A signal handler, or a finalizer, may ask in the same thread while the buffer is in use."""
    outer, inner = random.Random(1).randbytes(500_000), random.Random(2).randbytes(500_000)
    told: list[bytes] = []

    def interrupt() -> None:
        told.append(body_of(entry_of(inner), reader(inner)))  # type: ignore[arg-type]

    assert body_of(entry_of(outer), reader(outer, interrupt)) == outer  # type: ignore[arg-type]
    assert told == [inner]


def test_after_a_failure_the_buffer_serves_again() -> None:
    data = bytes(100_000)
    with pytest.raises(Broken):
        body_of(entry_of(data), lambda digest, buffer, start: None)
    assert body_of(entry_of(data), reader(data)) == data  # type: ignore[arg-type]


def test_threads_and_a_forked_child_write_into_buffers_of_their_own() -> None:
    mine, theirs = bytes([1]) * 300_000, bytes([2]) * 300_000
    body_of(entry_of(mine), reader(mine))  # type: ignore[arg-type]
    kept = body._kept.buffer
    in_a_thread: list[object] = []

    def run() -> None:
        body_of(entry_of(theirs), reader(theirs))  # type: ignore[arg-type]
        in_a_thread.append(body._kept.buffer)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert in_a_thread[0] is not kept
    child = os.fork()
    if child == 0:
        body_of(entry_of(theirs), reader(theirs))  # type: ignore[arg-type]
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert kept[: len(mine)] == mine
