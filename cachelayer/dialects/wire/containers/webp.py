"""WebP: RIFF chunks, simple, extended and animated (RFC 9649)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from cachelayer.dialects.wire.containers.steps import Steps

_HEAD: Final = struct.Struct("<4sI")
_RIFF_HEAD: Final = 12
_SIZE: Final = 0x3FFF
"""Of a width or height; the bits above scale it."""
_FRAME_HEAD: Final = 16
"""Bytes of an ANMF chunk before the chunks of its frame."""


def known_type(data: bytes) -> str | None:
    return "image/webp" if data.startswith(b"RIFF") and data[8:12] == b"WEBP" else None


def is_whole(data: bytes) -> bool:
    """Whether the file is as long as it says, every chunk fits into it, and an image (or each frame) is there."""
    (size,) = struct.unpack_from("<I", data, 4)
    end = 8 + size
    if size < 4 or end > len(data):
        return False
    steps = Steps()
    images = 0
    is_animation = False
    for position, (kind, at, behind) in enumerate(_chunks(data, _RIFF_HEAD, end, steps)):
        if behind > end:
            return False
        if position == 0:
            if kind not in (b"VP8 ", b"VP8L", b"VP8X"):
                return False
            is_animation = kind == b"VP8X" and bool(data[at] & 0x02)
        if is_animation and kind == b"ANMF":
            if not _is_frame(data, at, behind, steps):
                return False
            images += 1
        elif not is_animation and kind in (b"VP8 ", b"VP8L"):
            if not _is_bitstream(data, kind, at, behind):
                return False
            images += 1
    return images > 0


def _chunks(data: bytes, at: int, end: int, steps: Steps) -> Iterator[tuple[bytes, int, int]]:
    """(name, where its payload begins, where it ends). The last one may end behind `end`: it is cut off."""
    while at + _HEAD.size <= end:
        steps.take()
        kind, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        yield kind, at, at + size
        at += size + (size & 1)


def _is_frame(data: bytes, at: int, end: int, steps: Steps) -> bool:
    found = False
    for kind, start, behind in _chunks(data, at + _FRAME_HEAD, end, steps):
        if behind > end:
            return False
        found = found or (kind in (b"VP8 ", b"VP8L") and _is_bitstream(data, kind, start, behind))
    return found


def _is_bitstream(data: bytes, kind: bytes, at: int, end: int) -> bool:
    """Whether a frame header begins it and, for VP8, its first partition fits (the others' sizes are coded)."""
    if kind == b"VP8L":
        return end - at > 5 and data[at] == 0x2F and not data[at + 4] >> 5  # of which only version 0 exists
    if end - at <= 10 or data[at + 3 : at + 6] != b"\x9d\x01\x2a":
        return False
    tag = int.from_bytes(data[at : at + 3], "little")
    width, height = struct.unpack_from("<HH", data, at + 6)
    return not tag & 1 and bool(width & _SIZE and height & _SIZE) and at + 10 + (tag >> 5) <= end
