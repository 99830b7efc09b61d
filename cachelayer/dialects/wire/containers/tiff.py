"""TIFF and BigTIFF, either byte order: every directory, and the strips and tiles it places (TIFF 6.0)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from cachelayer.dialects.wire.containers.steps import Steps

_CLASSIC: Final = (b"II*\0", b"MM\0*")
_BIG: Final = (b"II+\0", b"MM\0+")
_TYPES: Final = {
    1: "B", 2: "B", 3: "H", 4: "I", 5: "Q", 6: "B", 7: "B", 8: "H", 9: "I", 10: "Q", 11: "I", 12: "Q", 13: "I",
    16: "Q", 17: "Q", 18: "Q",
}  # fmt: skip
"""Field type -> an unsigned integer of its size: values are only used where they are such."""
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _KIND, _SAMPLES, _ROWS = 256, 257, 258, 259, 262, 277, 278
_PLANES, _COLOURS, _TILE_WIDTH, _TILE_HEIGHT, _SUB_DIRECTORIES = 284, 320, 322, 323, 330
_STRIPS, _TILES, _STREAM = (273, 279), (324, 325), (513, 514)
"""Where strips, tiles and an old JPEG stream begin, and their sizes."""
_WANTED: Final = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _KIND, _SAMPLES, _ROWS, _PLANES, _COLOURS, _TILE_WIDTH, _TILE_HEIGHT}
).union({_SUB_DIRECTORIES}, _STRIPS, _TILES, _STREAM)
_PALETTED, _SUBSAMPLED = 3, 6
"""Photometric interpretations: colours by number; luminance and chrominance, the latter of fewer pixels."""


@dataclass(frozen=True, slots=True)
class _Layout:
    order: str
    count: str
    """Of a directory's entries."""
    offset: str

    @property
    def entry(self) -> struct.Struct:
        return struct.Struct(f"{self.order}HH{self.offset}")


class _NotWhole(Exception):
    pass


def known_type(data: bytes) -> str | None:
    return "image/tiff" if data.startswith(_CLASSIC + _BIG) else None


def is_whole(data: bytes) -> bool:
    """Whether every directory of the chain, sub-directories too, is there with all that it places, and one of them
    places an image."""
    order = "<" if data.startswith(b"II") else ">"
    is_big = data.startswith(_BIG)
    layout = _Layout(order, "Q", "Q") if is_big else _Layout(order, "H", "I")
    pending = [_number(data, 8 if is_big else 4, layout.order + layout.offset)]
    seen = set()
    steps = Steps()
    images = 0
    try:
        while pending:
            at = pending.pop()
            if not at:
                continue
            if at in seen:
                return False
            seen.add(at)
            fields, behind = _directory(data, at, layout, steps)
            images += _has_its_data(data, fields)
            pending += fields.get(_SUB_DIRECTORIES, ())
            pending.append(behind)
    except _NotWhole:
        return False
    return images > 0


def _number(data: bytes, at: int, layout: str) -> int:
    (number,) = struct.unpack_from(layout, data, at)
    return int(number)


def _directory(data: bytes, at: int, layout: _Layout, steps: Steps) -> tuple[dict[int, tuple[int, ...]], int]:
    """The fields that are wanted, and where the next directory begins."""
    count = _number(data, at, layout.order + layout.count)
    steps.take(1 + count)
    at += struct.calcsize(layout.count)
    entry, room = layout.entry, struct.calcsize(layout.offset)
    fields = {}
    for _ in range(count):
        tag, kind, values = entry.unpack_from(data, at)
        at += entry.size
        letter = _TYPES.get(kind)
        size = values * struct.calcsize(letter or "B")
        where = at if size <= room else _number(data, at, layout.order + layout.offset)
        if where + size > len(data):
            raise _NotWhole
        if tag in _WANTED and letter is not None:
            steps.take(values)
            fields[tag] = struct.unpack_from(f"{layout.order}{values}{letter}", data, where)
        at += room
    return fields, _number(data, at, layout.order + layout.offset)


def _has_its_data(data: bytes, fields: dict[int, tuple[int, ...]]) -> bool:
    """Whether a directory places an image. Raises _NotWhole where it places one outside the file, or too little."""
    found = False
    for starts, sizes in (_STRIPS, _TILES, _STREAM):
        offsets, counts = fields.get(starts, ()), fields.get(sizes)
        if not offsets:
            continue
        blocks = None if (starts, sizes) == _STREAM else _blocks(fields, is_tiled=starts == _TILES[0])
        if counts is None and blocks is not None and starts == _STRIPS[0] and len(offsets) == 1:
            counts = (blocks.size(0),)  # old writers left it out; known only where it is not compressed
        if counts is None or len(counts) < len(offsets) or counts == (0,):
            raise _NotWhole
        if any(offset + count > len(data) for offset, count in zip(offsets, counts, strict=False)):
            raise _NotWhole
        if blocks is not None and not blocks.are_there(counts[: len(offsets)]):
            raise _NotWhole
        found = found or any(counts)
    return found


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The strips or tiles that an image of its size has."""

    across: int
    down: int
    planes: int
    row: int
    """Bytes of a row of one block; 0 where pixels are packed and it cannot be known."""
    rows: int
    """Rows of one block."""
    last: int
    """Of the last one of a plane: a strip is cut off where the image ends, a tile is not."""

    def size(self, number: int) -> int:
        """Bytes of one block, 0 where that cannot be known."""
        in_plane = number % (self.across * self.down)
        return self.row * (self.last if in_plane == self.across * self.down - 1 else self.rows)

    def are_there(self, counts: tuple[int, ...]) -> bool:
        """Whether there are enough, none of them short. One of no bytes is a hole (GDAL's sparse files)."""
        if len(counts) < self.across * self.down * self.planes:
            return False
        return all(not count or count >= self.size(number) for number, count in enumerate(counts))


def _blocks(fields: dict[int, tuple[int, ...]], *, is_tiled: bool) -> _Blocks:
    """Raises _NotWhole for an image without a size, or without the colours that its pixels name."""

    def one(tag: int, otherwise: int) -> int:
        return (fields.get(tag) or (otherwise,))[0]

    width, height, samples = one(_WIDTH, 0), one(_HEIGHT, 0), one(_SAMPLES, 1)
    if not width or not height or not samples or (one(_KIND, 0) == _PALETTED and not fields.get(_COLOURS)):
        raise _NotWhole
    bits = fields.get(_BITS) or (1,)
    is_planar = one(_PLANES, 1) == 2
    depth = bits[0] if is_planar else sum(bits) if len(bits) > 1 else bits[0] * samples
    if one(_COMPRESSION, 1) != 1 or one(_KIND, 0) == _SUBSAMPLED:
        depth = 0
    planes = samples if is_planar else 1
    if is_tiled:
        wide, high = one(_TILE_WIDTH, 0), one(_TILE_HEIGHT, 0)
        if not wide or not high:
            raise _NotWhole
        return _Blocks(-(-width // wide), -(-height // high), planes, (wide * depth + 7) // 8, high, high)
    rows = min(one(_ROWS, height) or height, height)
    down = -(-height // rows)
    return _Blocks(1, down, planes, (width * depth + 7) // 8, rows, height - rows * (down - 1))
