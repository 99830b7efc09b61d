"""PNG and APNG: chunks from IHDR to IEND (PNG specification, third edition, section 5)."""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

from cachelayer.dialects.containers.steps import MOST_STEPS

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEAD: Final = struct.Struct(">I4s")
_CRC: Final = struct.Struct(">I")
_IHDR_SIZE: Final = 13


def known_type(data: bytes) -> str | None:
    return "image/png" if data.startswith(_SIGNATURE) else None


def is_whole(data: bytes) -> bool:
    """Whether IHDR comes first, IDAT follows, and every chunk up to IEND is there. The checksums of critical chunks
    count, as they do for decoders; they cost less than the base64 around them."""
    view = memoryview(data)
    at = len(_SIGNATURE)
    has_pixels = False
    for step in range(MOST_STEPS):
        size, kind = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + size
        if end + _CRC.size > len(data) or not kind.isalpha():
            return False
        is_critical = kind[:1].isupper()
        if is_critical and crc32(view[at + 4 : end]) != _CRC.unpack_from(data, end)[0]:
            return False
        if (step == 0) != (kind == b"IHDR") or (step == 0 and not _is_header(data, at + _HEAD.size, size)):
            return False
        if kind == b"IEND":
            return has_pixels
        has_pixels = has_pixels or (kind == b"IDAT" and size > 0)
        at = end + _CRC.size
    return False


def _is_header(data: bytes, at: int, size: int) -> bool:
    width, height = struct.unpack_from(">II", data, at)
    return size == _IHDR_SIZE and width > 0 and height > 0
