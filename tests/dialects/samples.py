"""Whole images of every family that is known, made here (one is a file), and where the main image of each ends. Only
building; no assertion.
"""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

HEIC = Path(__file__).parents[1] / "data" / "images" / "hopper.heif"


def picture(side: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Noise, which no format makes much smaller."""
    size = side * side * {"L": 1, "P": 1, "RGB": 3, "RGBA": 4}[mode]
    image = Image.frombytes(mode, (side, side), random.Random(seed).randbytes(size))
    if mode == "P":
        image.putpalette(random.Random(seed).randbytes(768))
    return image


@functools.cache
def made(kind: str, side: int = 24, mode: str = "RGB", **options: Any) -> bytes:
    """An image as Pillow writes it; frames: how many of an animation."""
    frames = options.pop("frames", 1)
    if frames > 1:
        options |= {"save_all": True, "append_images": [picture(side, mode, seed) for seed in range(1, frames)]}
    out = io.BytesIO()
    picture(side, mode).save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def segment(marker: int, data: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def box(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(data), kind) + data


def with_thumbnail() -> bytes:
    """A JPEG whose EXIF segment holds a whole JPEG, end marker and all."""
    plain = made("JPEG")
    return plain[:2] + segment(0xE1, b"Exif\0\0" + made("JPEG", 8)) + plain[2:]


def with_restarts() -> bytes:
    return made("JPEG", 64, restart_marker_blocks=1)


def run_length_bmp(*, size: bool = True) -> bytes:
    """A BMP of 8 bits in run lengths: two rows of four pixels."""
    runs = b"\x04\x01\x00\x00\x04\x02\x00\x00\x00\x01"
    offset = 14 + 40 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 8, 1, len(runs) if size else 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(runs), 0, 0, offset) + header + bytes(1024) + runs


def core_bmp() -> bytes:
    """A BMP with the header of OS/2 1.x."""
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 26) + struct.pack("<IHHHH", 12, 3, 2, 1, 24) + bytes(24)


def big_endian_tiff(*, is_big: bool = False) -> bytes:
    """A TIFF, its directory behind its one strip."""
    pixels = random.Random(1).randbytes(48)
    start = 16 if is_big else 8
    fields = [
        (256, 3, 4),
        (257, 3, 4),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 2),
        (273, 4, start),
        (277, 3, 3),
        (279, 4, 48),
    ]
    entries = b"".join(
        struct.pack(">HH" + ("Q" if is_big else "I"), tag, kind, 1)
        + struct.pack(">H" if kind == 3 else ">I", value).ljust(8 if is_big else 4, b"\0")
        for tag, kind, value in fields
    )
    if is_big:
        head = b"MM\0+" + struct.pack(">HHQ", 8, 0, start + len(pixels))
        return head + pixels + struct.pack(">Q", len(fields)) + entries + struct.pack(">Q", 0)
    head = b"MM\0*" + struct.pack(">I", start + len(pixels))
    return head + pixels + struct.pack(">H", len(fields)) + entries + struct.pack(">I", 0)


SVG = (
    b'<?xml version="1.0"?>\n<!-- a > b -->\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://localhost:1/x.dtd">\n'
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><svg/><text>&lt;/svg&gt;</text><path d="M0 0h9"/></svg>'
)


@dataclass(frozen=True)
class Sample:
    data: bytes
    type: str
    end: int
    """Bytes from here on may be missing without a loss to the main image."""


def _sample(data: bytes, type: str, spare: int = 0) -> Sample:
    return Sample(data, type, len(data) - spare)


SAMPLES: dict[str, Sample] = {
    "png": _sample(made("PNG"), "image/png"),
    "png of one pixel": _sample(made("PNG", 1, "L"), "image/png"),
    "apng": _sample(made("PNG", 12, frames=3), "image/png"),
    "jpeg": _sample(made("JPEG"), "image/jpeg"),
    "progressive jpeg": _sample(made("JPEG", progressive=True), "image/jpeg"),
    "jpeg with restarts": _sample(with_restarts(), "image/jpeg"),
    "jpeg with a thumbnail": _sample(with_thumbnail(), "image/jpeg"),
    "jpeg with another behind it": _sample(made("JPEG") + made("JPEG", 8), "image/jpeg", len(made("JPEG", 8))),
    "webp": _sample(made("WEBP"), "image/webp"),
    "lossless webp": _sample(made("WEBP", lossless=True), "image/webp"),
    "webp with alpha": _sample(made("WEBP", 24, "RGBA"), "image/webp"),
    "webp with exif": _sample(made("WEBP", exif=b"Exif\0\0" + bytes(64)), "image/webp"),
    "animated webp": _sample(made("WEBP", frames=3), "image/webp"),
    "gif": _sample(made("GIF", 24, "P"), "image/gif"),
    "animated gif": _sample(made("GIF", 12, "P", frames=3), "image/gif"),
    "avif": _sample(made("AVIF"), "image/avif"),
    "avif with alpha": _sample(made("AVIF", 24, "RGBA"), "image/avif"),
    "animated avif": _sample(made("AVIF", frames=2), "image/avif"),
    "heic": _sample(HEIC.read_bytes(), "image/heic"),
    "bmp": _sample(made("BMP"), "image/bmp"),
    "bmp with a palette": _sample(made("BMP", 23, "P"), "image/bmp"),
    "bmp of os/2": _sample(core_bmp(), "image/bmp"),
    "bmp in run lengths": _sample(run_length_bmp(), "image/bmp"),
    "bmp in run lengths without a size": _sample(run_length_bmp(size=False), "image/bmp"),
    "tiff": _sample(made("TIFF"), "image/tiff"),
    "packed tiff": _sample(made("TIFF", compression="tiff_lzw"), "image/tiff"),
    "tiff of pages": _sample(made("TIFF", 8, frames=3), "image/tiff", 4),
    "tiff, big endian": _sample(big_endian_tiff(), "image/tiff"),
    "bigtiff": _sample(made("TIFF", big_tiff=True), "image/tiff"),
    "bigtiff, big endian": _sample(big_endian_tiff(is_big=True), "image/tiff"),
    "svg": _sample(SVG, "image/svg+xml"),
    "svg with a mark": _sample(b"\xef\xbb\xbf" + SVG, "image/svg+xml"),
    "svg in utf-16": _sample(
        ('<?xml version="1.0" encoding="utf-16"?>' + "<svg a='é'/>").encode("utf-16"), "image/svg+xml"
    ),
}
