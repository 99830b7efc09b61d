"""BMP: headers, and the pixels that they announce (Windows bitmap and OS/2 bitmap)."""

from __future__ import annotations

import struct
from typing import Final

_FILE_HEADER: Final = 14
_CORE: Final = 12
"""Bytes of the oldest header, whose fields are narrower."""
_HEADERS: Final = frozenset({_CORE, 16, 40, 52, 56, 64, 108, 124})
_RGB, _BIT_FIELDS, _ALPHA_BIT_FIELDS = 0, 3, 6
_DEPTHS: Final = frozenset({1, 2, 4, 8, 16, 24, 32})


def known_type(data: bytes) -> str | None:
    # Two letters are little of a signature: the header's size counts with them.
    return "image/bmp" if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _HEADERS else None


def is_whole(data: bytes) -> bool:
    """Whether all rows are there. The file's own size is believed only where the rows' cannot be reckoned: it is 0, or
    wrong, in many a file."""
    declared, _, offset, header = struct.unpack_from("<IIII", data, 2)
    if header == _CORE:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, depth = struct.unpack_from("<iiHH", data, 18)
    if width <= 0 or height == 0:
        return False
    compression, size = struct.unpack_from("<II", data, 30) if header >= 40 else (_RGB, 0)
    if compression in (_RGB, _BIT_FIELDS, _ALPHA_BIT_FIELDS):
        if depth not in _DEPTHS:
            return False
        size = (width * depth + 31) // 32 * 4 * abs(height)
    elif not size:
        # Run lengths end where they end; without a size only the file's own tells where that should be.
        size = max(declared - offset, 0)
    return bool(size > 0 and max(offset, _FILE_HEADER + header) + size <= len(data))
