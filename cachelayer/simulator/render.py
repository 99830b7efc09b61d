"""Pictures: a flat background in a colour of the prompt's own, the prompt as visible text, and a strip of
grain.

The bytes depend on (seed, prompt, width, height, format, index, number of references) and on the Pillow at
hand. The grain makes every picture its own and gives it a size that is worth storing as a blob; a flat
picture would compress to nothing.

Without Pillow (extra ``demo``) every picture is a PNG of the asked size, whatever was asked, and the prompt
stands in an iTXt chunk in place of the drawn text: answers name the format they carry, so that none of them
lies.
"""

from __future__ import annotations

import colorsys
import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL import Image as PillowImage
    from PIL import ImageFont as PillowFont

    Font = PillowFont.FreeTypeFont | PillowFont.ImageFont

Format = Literal["png", "jpeg", "webp"]
Colour = tuple[int, int, int]

MOST_TEXT = 600
"""Characters of the prompt that are drawn; more would not be legible."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image."""

    format: Format
    data: bytes

    @property
    def mime(self) -> str:
        """``image/png`` and the like."""
        return f"image/{self.format}"


@lru_cache(maxsize=64)
def render(
    prompt: str,
    width: int,
    height: int,
    format: Format,
    *,
    seed: int = 0,
    index: int = 0,
    references: int = 0,
    transparent: bool = False,
) -> Picture:
    """A picture of exactly width x height pixels. The last 64 are kept, so that a repeated ask costs nothing.

    transparent: no background, where the format can (PNG, WebP).
    """
    ask = f"{seed}:{index}:{references}:{width}x{height}:{format}:{transparent}:{prompt}"
    digest = hashlib.sha256(ask.encode("utf-8", "surrogatepass")).digest()
    hue, saturation, value = digest[0] / 255, 0.25 + digest[1] / 640, 0.35 + digest[2] / 420
    red, green, blue = (round(part * 255) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    rows = min(height, max(2, height // 48))
    grain = Random(digest).randbytes(width * rows * 3)  # noqa: S311
    text = prompt.encode("utf-8", "replace").decode()
    caption = f"{width} x {height} {format}, image {index + 1}, {_plural(references)}, seed {seed}"
    try:
        from PIL import Image, ImageChops
    except ImportError:
        return Picture("png", _plain_png(text, width, height, (red, green, blue), grain))
    alpha = transparent and format != "jpeg"
    image = Image.new("RGB", (width, height), (red, green, blue))
    _write(image, text, caption, dark=red * 0.3 + green * 0.59 + blue * 0.11 > 140)
    if alpha:
        background = Image.new("RGB", (width, height), (red, green, blue))
        shown = ImageChops.difference(image, background).convert("L").point([0] + [255] * 255)
        image.putalpha(shown)
    image.paste(Image.frombytes("RGB", (width, rows), grain), (0, height - rows))
    out = io.BytesIO()
    if format == "png":
        image.save(out, "PNG", compress_level=1)
    elif format == "jpeg":
        image.save(out, "JPEG", quality=90)
    else:
        image.save(out, "WEBP", quality=90, method=0)
    return Picture(format, out.getvalue())


def _plural(references: int) -> str:
    return f"{references} reference{'' if references == 1 else 's'}"


def _write(image: PillowImage.Image, text: str, caption: str, *, dark: bool) -> None:
    """Draw the text as large as it fits, and the caption below it."""
    from PIL import ImageDraw

    width, height = image.size
    ink = (16, 16, 16) if dark else (245, 245, 245)
    margin = max(1, min(width, height) // 16)
    room = (width - 2 * margin, height - 4 * margin)
    text = text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"
    size = max(10, min(width, height) // 7)
    while True:
        font = _font(size)
        lines = _wrapped(text, room[0], font.getlength)
        line_height = size * 1.25
        if size <= 10 or len(lines) * line_height <= room[1]:
            break
        size = max(10, size * 4 // 5)
    lines = lines[: max(1, int(room[1] // line_height))]
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((margin, margin + number * line_height), line, fill=ink, font=font)
    small = max(10, min(width, height) // 48)
    draw.text((margin, height - 2 * margin), caption, fill=ink, font=_font(small))


@lru_cache(maxsize=64)
def _font(size: int) -> Font:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _wrapped(text: str, width: float, length: Callable[[str], float]) -> list[str]:
    """Lines of the text that fit; a word wider than a line (or a script without spaces) is cut."""
    lines: list[str] = []
    space = length(" ")
    for paragraph in text.splitlines() or [""]:
        line, used = "", 0.0
        for word in paragraph.split():
            wide = length(word)
            if line and used + space + wide <= width:
                line, used = f"{line} {word}", used + space + wide
                continue
            if line:
                lines.append(line)
            while wide > width and len(word) > 1:
                fits = max(1, min(len(word) - 1, int(len(word) * width / wide)))
                lines.append(word[:fits])
                word = word[fits:]
                wide = length(word)
            line, used = word, wide
        lines.append(line)
    return lines


def _plain_png(text: str, width: int, height: int, colour: Colour, grain: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    stride = width * 3
    rows = len(grain) // stride
    row = b"\0" + bytes(colour) * width
    packed = [packer.compress(row) for _ in range(height - rows)]
    packed += [packer.compress(b"\0" + grain[start : start + stride]) for start in range(0, len(grain), stride)]
    packed.append(packer.flush())
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            chunk(b"iTXt", b"Description\0\0\0\0\0" + text.encode()),
            chunk(b"IDAT", b"".join(packed)),
            chunk(b"IEND", b""),
        )
    )
