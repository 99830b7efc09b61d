"""The buffer that a thread keeps: small enough, never shared by two bodies that are being rebuilt at once."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import xxhash
from blake3 import blake3

from cachelayer.core.entry import PIECE, BlobRef, Broken, Entry, Pour, Take
from cachelayer.core.model import Cost
from cachelayer.runtime import body
from cachelayer.runtime.body import body_of

EMPTY = Entry("k", 1, "n", 0.0, None, 200, (), (), Cost(None, "unpriced", "test"), 1.0, "image", "m", "h", 1)
SIZES = (20_000, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 20_000_000)


def entry_of(data: bytes) -> Entry:
    only = BlobRef(blake3(data).hexdigest(), len(data), xxhash.xxh3_64_intdigest(data), False)
    return replace(EMPTY, template=(only,))


def pour_of(data: bytes, before: Callable[[], None] = lambda: None) -> Pour:
    """before: called ahead of each piece."""

    def pour(digest: str, buffer: memoryview, take: Take) -> bool:
        for start in range(0, len(data), len(buffer)):
            piece = data[start : start + len(buffer)]
            buffer[: len(piece)] = piece
            before()
            if not take(buffer[: len(piece)]):
                break
        return True

    return pour


@pytest.mark.parametrize("size", SIZES)
def test_a_body_of_any_size_through_a_small_buffer(size: int) -> None:
    data = random.Random(size).randbytes(size)

    def run() -> int:
        assert body_of(entry_of(data), pour_of(data)) == data
        return len(body._kept.buffer)

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(run).result() == PIECE


def test_a_body_rebuilt_in_the_middle_of_another() -> None:
    """A signal handler, or a finalizer, may ask in the same thread while the buffer is in use."""
    outer, inner = random.Random(1).randbytes(500_000), random.Random(2).randbytes(500_000)
    told: list[bytes] = []

    def interrupt() -> None:
        told.append(body_of(entry_of(inner), pour_of(inner)))

    assert body_of(entry_of(outer), pour_of(outer, interrupt)) == outer
    assert set(told) == {inner}


def test_after_a_failure_the_buffer_serves_again() -> None:
    data = bytes(100_000)
    with pytest.raises(Broken):
        body_of(entry_of(data), lambda digest, buffer, take: None)
    assert body_of(entry_of(data), pour_of(data)) == data


def test_threads_and_a_forked_child_write_into_buffers_of_their_own() -> None:
    mine, theirs = bytes([1]) * 100_000, bytes([2]) * 100_000
    body_of(entry_of(mine), pour_of(mine))
    kept = body._kept.buffer
    in_a_thread: list[object] = []

    def run() -> None:
        body_of(entry_of(theirs), pour_of(theirs))
        in_a_thread.append(body._kept.buffer)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert in_a_thread[0] is not kept
    child = os.fork()
    if child == 0:
        body_of(entry_of(theirs), pour_of(theirs))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert kept[: len(mine)] == mine
