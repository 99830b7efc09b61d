"""JPEG: segments and scans from SOI to EOI (ITU-T T.81, annex B): baseline, progressive, arithmetic, lossless."""

from __future__ import annotations

import re
import struct
from typing import Final

from cachelayer.dialects.wire.containers.steps import MOST_STEPS

_SOI, _EOI, _SOS, _DQT, _DNL, _TEM = 0xD8, 0xD9, 0xDA, 0xDB, 0xDC, 0x01
_RESTARTS: Final = range(0xD0, 0xD8)
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF markers; the three left out are DHT, JPG and DAC."""
_LOSSLESS: Final = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
"""Those that need no quantization tables. Without them no other can be decoded (Huffman tables have a default)."""
_BEHIND_A_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The next marker behind coded data: there FF is followed by 00, a restart or a fill byte. A regular expression, since
searching for FF one by one takes a step of Python for every FF 00."""
_NEXT: Final = re.compile(rb"\xff[^\x00\xff]")
"""The next marker behind a segment. Decoders pass over what stands before it, and files with padding there exist."""

_NOTHING: Final = re.compile(rb"(?:\xff++[\xd0-\xd7])*+\xff*+")


def known_type(data: bytes) -> str | None:
    return "image/jpeg" if data.startswith(b"\xff\xd8\xff") else None


def is_whole(data: bytes) -> bool:
    """Whether a frame, its tables and coded data of each component come before EOI, and its height is told. Segments
    are passed by their length, whatever markers they hold."""
    at = 2
    walk = _Walk()
    for _ in range(MOST_STEPS):
        found = _NEXT.search(data, at)
        if found is None:
            return False
        at = found.end()
        marker = data[at - 1]
        if marker == _EOI:
            return walk.is_whole
        if marker in _RESTARTS or marker == _TEM:
            continue
        if marker == _SOI:
            return False
        (size,) = struct.unpack_from(">H", data, at)
        end = at + size
        if size < 2 or end > len(data):
            return False
        if marker == _DQT:
            walk.has_tables = True
        elif marker in _FRAMES:
            walk.frame(data[at + 2 : end], is_lossless=marker in _LOSSLESS)
        elif marker == _DNL:
            walk.has_height = walk.has_height or any(data[at + 2 : end])
        elif marker == _SOS:
            behind = _BEHIND_A_SCAN.search(data, end)
            if behind is None or not walk.scan(data[at + 2 : end], _is_coded(data, end, behind.start())):
                return False
            end = behind.start()
        at = end
    return False


class _Walk:
    """What was met of an image."""

    def __init__(self) -> None:
        self._owed: set[int] | None = None
        """Components of the frame that no scan has had; None before one."""
        self.has_height = self.has_tables = False

    @property
    def is_whole(self) -> bool:
        return self._owed is not None and not self._owed and self.has_height

    def frame(self, head: bytes, *, is_lossless: bool) -> None:
        """The first one that names a width and components counts. A height of 0 is told by a later segment."""
        _, height, width, components = struct.unpack_from(">BHHB", head)
        if self._owed is None and width and components and len(head) == 6 + 3 * components:
            self._owed = set(head[6::3])
            self.has_height = height > 0
            self.has_tables = self.has_tables or is_lossless

    def scan(self, head: bytes, is_coded: bool) -> bool:
        """Whether a scan may stand here."""
        if self._owed is None or not is_coded or not self.has_tables:
            return False
        self._owed.difference_update(head[1 : 1 + 2 * head[0] : 2])
        return True


def _is_coded(data: bytes, at: int, end: int) -> bool:
    """Whether a scan has data besides restarts and fill bytes."""
    empty = _NOTHING.match(data, at, end)
    return empty is not None and empty.end() < end
