"""Image containers: whether bytes are an image, and whole. One file per family; this one is the door.

A container is walked from its start to the end of the MAIN image, by the lengths it gives: markers inside a thumbnail
do not count, bytes behind the end are allowed. Nothing is decoded, so that no decompression bomb goes off; what only
the decoded pixels could tell (a stream that ends early inside a whole container) is not looked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import error as ReadPastTheEnd
from typing import Final

from cachelayer.dialects.wire.containers import bmff, bmp, gif, jpeg, png, svg, tiff, webp
from cachelayer.dialects.wire.containers.steps import TooMany

__all__ = ["Container", "container_of", "known_type"]

_FAMILIES: Final[tuple[tuple[Callable[[bytes], str | None], Callable[[bytes], bool]], ...]] = (
    (png.known_type, png.is_whole),
    (jpeg.known_type, jpeg.is_whole),
    (webp.known_type, webp.is_whole),
    (gif.known_type, gif.is_whole),
    (bmff.known_type, bmff.is_whole),
    (bmp.known_type, bmp.is_whole),
    (tiff.known_type, tiff.is_whole),
    (svg.known_type, svg.is_whole),
)


@dataclass(frozen=True, slots=True)
class Container:
    """Bytes that begin as an image does."""

    type: str
    """The media type, by content."""
    is_whole: bool


def known_type(data: bytes) -> str | None:
    """The media type that the signature says; None where it is of no image that is known. Says nothing of the rest."""
    return next((found for type_of, _ in _FAMILIES if (found := type_of(data)) is not None), None)


def container_of(data: bytes) -> Container | None:
    """What image the bytes are, and whether it is whole; None for what begins like no image that is known.

    Never raises. Takes time linear in the size, and at most steps.MOST_STEPS steps of Python.
    """
    for type_of, is_whole in _FAMILIES:
        found = type_of(data)
        if found is not None:
            return Container(found, _walked(is_whole, data))
    return None


def _walked(is_whole: Callable[[bytes], bool], data: bytes) -> bool:
    try:
        return is_whole(data)
    except (ReadPastTheEnd, IndexError, OverflowError, TooMany):  # a length leads behind the end, or beyond any memory
        return False
