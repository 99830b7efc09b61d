"""PNG and APNG: chunks from IHDR to IEND (PNG specification, third edition, section 5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from cachelayer.dialects.wire.containers.steps import MOST_STEPS

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEAD: Final = struct.Struct(">I4s")
_CRC: Final = struct.Struct(">I")
_IHDR: Final = struct.Struct(">IIBBBBB")
_DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTED: Final = 3
_DENSEST: Final = 1_032
"""Bytes that one byte of deflate stands for at most: 258 in two bits."""


@dataclass(frozen=True, slots=True)
class _Header:
    colour: int
    fewest: int
    """Bytes of pixel data below which it cannot be whole, however well it is packed."""


def known_type(data: bytes) -> str | None:
    return "image/png" if data.startswith(_SIGNATURE) else None


def is_whole(data: bytes) -> bool:
    """Whether IHDR comes first, then a palette where colours are numbers in one, then enough of IDAT, and every chunk
    up to IEND is there. The checksums of critical chunks count, as they do for decoders; they cost less than the base64
    around them."""
    view = memoryview(data)
    at = len(_SIGNATURE)
    header: _Header | None = None
    has_palette = False
    pixels = 0
    for step in range(MOST_STEPS):
        size, kind = _HEAD.unpack_from(data, at)
        start = at + _HEAD.size
        end = start + size
        if end + _CRC.size > len(data) or not kind.isalpha():
            return False
        is_critical = kind[:1].isupper()
        if is_critical and crc32(view[at + 4 : end]) != _CRC.unpack_from(data, end)[0]:
            return False
        if step == 0:
            header = _header(data, start, size) if kind == b"IHDR" else None
        if header is None or (step and kind == b"IHDR"):
            return False
        if kind == b"IEND":
            return 0 < pixels >= header.fewest
        if kind == b"PLTE":
            has_palette = size > 0 and size % 3 == 0
        if kind == b"IDAT":
            if header.colour == _PALETTED and not has_palette:
                return False
            pixels += size
        at = end + _CRC.size
    return False


def _header(data: bytes, at: int, size: int) -> _Header | None:
    width, height, depth, colour, *methods, interlace = _IHDR.unpack_from(data, at)
    if size != _IHDR.size or not width or not height or any(methods) or interlace > 1:
        return None
    if depth not in _DEPTHS.get(colour, ()):
        return None
    row = 1 + (width * depth * _CHANNELS[colour] + 7) // 8
    return _Header(colour, row * height // _DENSEST)
