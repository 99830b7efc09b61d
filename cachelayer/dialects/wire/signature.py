"""Whether bytes begin as an image does. Only that lives here; whether the rest is whole is not asked of a request.

Short signatures are not enough here: what looks like base64 may be an id, and an id that happens to decode to two right
letters would be taken for the content it names.
"""

from __future__ import annotations

import re
from typing import Final

HEAD: Final = 512
"""Bytes of an image that are looked at."""

_FIXED: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
_BRANDS: Final = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_SVG = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?:<\?xml\b[^>]*+>\s*+|<!--[^>]*+>\s*+|<!DOCTYPE\s++svg\b[^>]*+>\s*+)*+<svg[\s>]"
)
_BMP_HEADERS: Final = (12, 40, 52, 56, 64, 108, 124)


def is_image(head: bytes, size: int) -> bool:
    """Whether `size` bytes that begin with `head` (HEAD bytes, or all there are) are an image of a known kind."""
    return (
        head.startswith(_FIXED)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in _BRANDS)
        or _is_bmp(head, size)
        or _SVG.match(head) is not None
    )


def _is_bmp(head: bytes, size: int) -> bool:
    if head[:2] != b"BM" or len(head) < 18:
        return False
    told = int.from_bytes(head[2:6], "little")
    return told in (0, size) and int.from_bytes(head[14:18], "little") in _BMP_HEADERS
