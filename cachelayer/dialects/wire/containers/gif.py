"""GIF: blocks from the screen descriptor to the trailer (GIF89a specification)."""

from __future__ import annotations

from typing import Final

from cachelayer.dialects.wire.containers.steps import MOST_STEPS, Steps, TooMany

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_DESCRIPTOR: Final = 10
"""Bytes of an image descriptor, its introducer included."""


def known_type(data: bytes) -> str | None:
    return "image/gif" if data.startswith((b"GIF87a", b"GIF89a")) else None


def is_whole(data: bytes) -> bool:
    """Whether at least one image with a size and data comes before the trailer."""
    steps = Steps()
    at = 13 + _colours(data[10])
    has_image = False
    while True:
        steps.take()
        introducer = data[at]
        if introducer == _TRAILER:
            return has_image
        if introducer == _EXTENSION:
            at = _behind_blocks(data, at + 2, steps)
        elif introducer == _IMAGE:
            first = at + _DESCRIPTOR + _colours(data[at + 9]) + 1  # one byte: the size of the first codes
            has_image = has_image or (data[first] > 0 and any(data[at + 5 : at + 7]) and any(data[at + 7 : at + 9]))
            at = _behind_blocks(data, first, steps)
        else:
            return False


def _colours(packed: int) -> int:
    """Bytes of the colour table that a descriptor announces."""
    return 3 << (packed & 7) + 1 if packed & 0x80 else 0


def _behind_blocks(data: bytes, at: int, steps: Steps) -> int:
    for count in range(MOST_STEPS):
        size = data[at]
        at += size + 1
        if not size:
            steps.take(count)  # at once: a call for each would cost as much as the walk
            return at
    raise TooMany
