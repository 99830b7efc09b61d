"""AVIF and HEIC: the boxes of an ISO base media file (ISO/IEC 14496-12), an image's bytes found through `iloc`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cachelayer.dialects.wire.containers.steps import Steps

_TYPES: Final = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"hevc": "image/heic-sequence",
    b"hevx": "image/heic-sequence",
    b"mif1": "image/heif",
    b"mif2": "image/heif",
    b"msf1": "image/heif-sequence",
}
"""By brand, the telling ones first: a major brand of mif1 may stand before a compatible one of avif."""
_STRUCTURE: Final = frozenset({b"ftyp", b"meta", b"mdat", b"moov", b"moof", b"free", b"skip", b"uuid"})
"""Top-level boxes of images. What reaches behind the end of the file is cut off if it is one of them, and else
something that lies behind the image."""
_HEAD: Final = struct.Struct(">I4s")


class _NotWhole(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    at: int
    """Where its payload begins."""
    end: int
    is_open: bool = False
    """Whether it gives no length and lasts to the end of the file."""


@dataclass(frozen=True, slots=True)
class _Item:
    number: int
    is_in_idat: bool
    extents: tuple[tuple[int, int], ...]
    """(offset, length); a length of 0 means to the end."""


def known_type(data: bytes) -> str | None:
    if data[4:8] != b"ftyp":
        return None
    size = int.from_bytes(data[:4], "big")
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(size, len(data), 4_096), 4))}
    return next((found for brand, found in _TYPES.items() if brand in brands), None)


def is_whole(data: bytes) -> bool:
    """Whether every box is there, and every byte that `iloc` places, in `mdat` or `idat`. A
    sequence without still image is whole when its
    boxes are, and its data gives its length."""
    steps = Steps()
    try:
        boxes = [box for box in _top(data, steps) if box.kind in (b"meta", b"mdat", b"moov")]
        metas = [box for box in boxes if box.kind == b"meta"]
        media = [box for box in boxes if box.kind == b"mdat"]
        if metas:
            return all(_has_its_items(data, box, media, steps) for box in metas)
    except _NotWhole:
        return False
    return bool(media) and not any(box.is_open for box in media) and any(box.kind == b"moov" for box in boxes)


def _top(data: bytes, steps: Steps) -> Iterator[_Box]:
    at = 0
    while at + _HEAD.size <= len(data):
        steps.take()
        box = _box(data, at, len(data))
        if box.end > len(data) or box.end < box.at:
            if box.kind in _STRUCTURE:
                raise _NotWhole
            return
        yield box
        at = box.end


def _children(data: bytes, at: int, end: int, steps: Steps) -> Iterator[_Box]:
    while at + _HEAD.size <= end:
        steps.take()
        box = _box(data, at, end)
        if box.end > end or box.end < box.at:
            raise _NotWhole
        yield box
        at = box.end


def _box(data: bytes, at: int, limit: int) -> _Box:
    size, kind = _HEAD.unpack_from(data, at)
    if size == 0:
        return _Box(kind, at + 8, limit, is_open=True)
    if size == 1:
        (size,) = struct.unpack_from(">Q", data, at + 8)
        return _Box(kind, at + 16, at + size)
    return _Box(kind, at + 8, at + size)


def _has_its_items(data: bytes, meta: _Box, media: list[_Box], steps: Steps) -> bool:
    found = {box.kind: box for box in _children(data, meta.at + 4, meta.end, steps)}
    iloc, pitm, idat, iprp = (found.get(kind) for kind in (b"iloc", b"pitm", b"idat", b"iprp"))
    if iloc is None or pitm is None or (iprp is not None and _has_an_empty_size(data, iprp, steps)):
        return False
    (primary,) = struct.unpack_from(">I" if data[pitm.at] else ">H", data, pitm.at + 4)
    has_primary = False
    for item in _items(data, iloc, steps):
        rooms = media if not item.is_in_idat else [] if idat is None else [idat]
        base = idat.at if item.is_in_idat and idat is not None else 0
        steps.take(len(rooms) * len(item.extents))
        if not all(
            any(room.at <= base + offset and base + offset + max(length, 1) <= room.end for room in rooms)
            for offset, length in item.extents
        ):
            return False
        has_primary = has_primary or (item.number == primary and bool(item.extents))
    return has_primary


def _has_an_empty_size(data: bytes, properties: _Box, steps: Steps) -> bool:
    """Whether an image of no width or height is among them."""
    return any(
        0 in struct.unpack_from(">II", data, size.at + 4)
        for box in _children(data, properties.at, properties.end, steps)
        if box.kind == b"ipco"
        for size in _children(data, box.at, box.end, steps)
        if size.kind == b"ispe"
    )


def _items(data: bytes, iloc: _Box, steps: Steps) -> Iterator[_Item]:
    reader = _Reader(data, iloc.at, iloc.end)
    version = reader.number(1)
    reader.number(3)
    sizes = reader.number(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 0xF for shift in (12, 8, 4, 0))
    if version > 2:
        raise _NotWhole
    for _ in range(reader.number(4 if version == 2 else 2)):
        number = reader.number(4 if version == 2 else 2)
        method = reader.number(2) & 0xF if version else 0
        if reader.number(2) or method > 1:  # in another file, or made of parts of another item
            raise _NotWhole
        base = reader.number(base_size)
        extents = []
        count = reader.number(2)
        steps.take(1 + count)
        for _ in range(count):
            if version:
                reader.number(index_size)
            extents.append((base + reader.number(offset_size), reader.number(length_size)))
        yield _Item(number, method == 1, tuple(extents))


class _Reader:
    """Big-endian numbers one after the other, up to an end."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self._data, self._at, self._end = data, at, end

    def number(self, size: int) -> int:
        at = self._at
        self._at += size
        if self._at > self._end:
            raise _NotWhole
        return int.from_bytes(self._data[at : self._at], "big")
