"""A body is rebuilt through a buffer of any size, byte for byte, and never from bytes that were not checked."""

from __future__ import annotations

from dataclasses import replace

import pybase64
import pytest
import xxhash
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from cachelayer.core.entry import BlobRef, Broken, Entry, Take, Text, rebuild
from cachelayer.core.model import Cost

EMPTY = Entry("k", 1, "n", 0.0, None, 200, (), (), Cost(None, "unpriced", "test"), 1.0, "image", "m", "h", 1)
BLOBS = st.binary(max_size=3000) | st.integers(0, 400_000).map(lambda size: bytes(range(256)) * (size // 256))


def ref(data: bytes, *, base64: bool) -> BlobRef:
    return BlobRef(blake3(data).hexdigest(), len(data), xxhash.xxh3_64_intdigest(data), base64)


class Shelf:
    """Blobs by digest; whatever stands under a name is what is read."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def pour(self, digest: str, buffer: memoryview, take: Take) -> bool:
        if digest not in self.blobs:
            return False
        data = self.blobs[digest]
        for start in range(0, len(data), len(buffer)):
            piece = data[start : start + len(buffer)]
            buffer[: len(piece)] = piece
            if not take(buffer[: len(piece)]):
                break
        return True


@settings(deadline=None)
@given(
    pieces=st.lists(st.tuples(st.sampled_from(["text", "raw", "base64"]), BLOBS), max_size=5),
    buffer=st.integers(4, 5000) | st.just(200_000) | st.just(1_000_000),
)
def test_any_body_through_any_buffer(pieces: list[tuple[str, bytes]], buffer: int) -> None:
    template: list[Text | BlobRef] = []
    shelf, expected = Shelf(), b""
    for kind, data in pieces:
        if kind == "text":
            template.append(Text(data))
            expected += data
        else:
            found = ref(data, base64=kind == "base64")
            template.append(found)
            shelf.blobs[found.digest] = data
            expected += pybase64.b64encode(data) if kind == "base64" else data
    entry = replace(EMPTY, template=tuple(template))
    assert rebuild(entry, shelf.pour, memoryview(bytearray(buffer))) == expected


@pytest.mark.parametrize("base64", [False, True])
@pytest.mark.parametrize("buffer", [100, 3000, 3001, 8999, 9000, 9001, 9002, 100_000])
@pytest.mark.parametrize("damage", ["missing", "empty", "shorter", "longer", "much longer", "flipped", "flipped last"])
def test_a_blob_that_is_not_what_it_was(damage: str, buffer: int, base64: bool) -> None:
    good, bad = b"good" * 3000, b"picture!!" * 1000
    shelf, sound, broken = Shelf(), ref(good, base64=base64), ref(bad, base64=base64)
    shelf.blobs = {sound.digest: good, broken.digest: bad}
    entry = replace(EMPTY, template=(Text(b"a"), sound, Text(b"b"), broken, Text(b"c")))
    assert len(rebuild(entry, shelf.pour, memoryview(bytearray(buffer)))) == entry.body_size
    flipped = bytearray(bad)
    flipped[-1 if damage == "flipped last" else 4000] ^= 1
    found = {
        "empty": b"",
        "shorter": bad[:-1],
        "longer": bad + b"!",
        "much longer": bad * 3,
        "flipped": bytes(flipped),
        "flipped last": bytes(flipped),
    }
    if damage == "missing":
        del shelf.blobs[broken.digest]
    else:
        shelf.blobs[broken.digest] = found[damage]
    with pytest.raises(Broken):
        rebuild(entry, shelf.pour, memoryview(bytearray(buffer)))


def test_no_more_is_read_of_a_blob_than_it_should_hold() -> None:
    data, taken = bytes(range(256)) * 100, 0
    only = ref(data[:5000], base64=True)

    def pour(digest: str, buffer: memoryview, take: Take) -> bool:
        nonlocal taken
        while take(buffer):
            taken += len(buffer)
        return True

    with pytest.raises(Broken):
        rebuild(replace(EMPTY, template=(only,)), pour, memoryview(bytearray(999)))
    assert taken == 4995
