"""JPEG: segments and scans from SOI to EOI (ITU-T T.81, annex B): baseline, progressive, arithmetic, lossless."""

from __future__ import annotations

import re
import struct
from typing import Final

from cachelayer.dialects.containers.steps import MOST_STEPS

_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_RESTARTS: Final = range(0xD0, 0xD8)
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF markers; the three left out are DHT, JPG and DAC."""
_BEHIND_A_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The next marker behind coded data: there FF is followed by 00, a restart or a fill byte. A regular expression, since
searching for FF one by one takes a step of Python for every FF 00."""
_NEXT: Final = re.compile(rb"\xff[^\x00\xff]")
"""The next marker behind a segment. Decoders pass over what stands before it, and files with padding there exist."""


def known_type(data: bytes) -> str | None:
    return "image/jpeg" if data.startswith(b"\xff\xd8\xff") else None


def is_whole(data: bytes) -> bool:
    """Whether a frame and a scan come before EOI. Segments are passed by their length, whatever markers they hold."""
    at = 2
    has_frame = has_scan = False
    for _ in range(MOST_STEPS):
        found = _NEXT.search(data, at)
        if found is None:
            return False
        at = found.end()
        marker = data[at - 1]
        if marker == _EOI:
            return has_scan
        if marker in _RESTARTS or marker == _TEM:
            continue
        if marker == _SOI:
            return False
        (size,) = struct.unpack_from(">H", data, at)
        end = at + size
        if size < 2 or end > len(data):
            return False
        if marker in _FRAMES:
            has_frame = has_frame or _is_frame(data, at, size)
        if marker == _SOS:
            if not has_frame:
                return False
            has_scan = True
            behind = _BEHIND_A_SCAN.search(data, end)
            if behind is None:
                return False
            end = behind.start()
        at = end
    return False


def _is_frame(data: bytes, at: int, size: int) -> bool:
    """Whether it names a width and components; a height of 0 is told by a later segment (DNL)."""
    _, _, _, width, components = struct.unpack_from(">HBHHB", data, at)
    return bool(width and components and size == 8 + 3 * components)
