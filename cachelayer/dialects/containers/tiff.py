"""TIFF and BigTIFF, either byte order: every directory, and the strips and tiles it places (TIFF 6.0)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from cachelayer.dialects.containers.steps import Steps

_CLASSIC: Final = (b"II*\0", b"MM\0*")
_BIG: Final = (b"II+\0", b"MM\0+")
_TYPES: Final = {
    1: "B", 2: "B", 3: "H", 4: "I", 5: "Q", 6: "B", 7: "B", 8: "H", 9: "I", 10: "Q", 11: "I", 12: "Q", 13: "I",
    16: "Q", 17: "Q", 18: "Q",
}  # fmt: skip
"""Field type -> an unsigned integer of its size: values are only used where they are such."""
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _SUB_DIRECTORIES = 256, 257, 258, 259, 277, 330
_DATA: Final = ((273, 279), (324, 325), (513, 514))
"""Where strips, tiles and an old JPEG stream begin, and their sizes."""
_WANTED: Final = frozenset({_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _SUB_DIRECTORIES}.union(*_DATA))


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
    """Whether a directory places an image. Raises _NotWhole where it places one outside the file."""
    found = False
    for starts, sizes in _DATA:
        offsets, counts = fields.get(starts, ()), fields.get(sizes)
        if not offsets:
            continue
        if counts is None:
            counts = _computed(fields) if starts == 273 and len(offsets) == 1 else ()
        if len(counts) < len(offsets):
            raise _NotWhole
        if any(offset + count > len(data) for offset, count in zip(offsets, counts, strict=False)):
            raise _NotWhole
        found = found or any(counts)
    return found


def _computed(fields: dict[int, tuple[int, ...]]) -> tuple[int, ...]:
    """The size of the only strip, which old writers left out: known only where it is not compressed."""
    if fields.get(_COMPRESSION, (1,)) != (1,) or not fields.get(_WIDTH) or not fields.get(_HEIGHT):
        return ()
    bits = fields.get(_BITS) or (1,)
    depth = sum(bits) if len(bits) > 1 else bits[0] * (fields.get(_SAMPLES) or (1,))[0]
    return ((fields[_WIDTH][0] * depth + 7) // 8 * fields[_HEIGHT][0],)
