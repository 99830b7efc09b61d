"""Pixels and tokens: how large an image of a given size is, what it costs in tokens, and how large a
reference is.

Looked up in November 2026. Google's and OpenAI's own tables could only be read as others quote them:
- Gemini pixels: "Aspect ratios and image size" of ai.google.dev/gemini-api/docs/image-generation, as SDKs repeat it;
  2K and 4K are the 1K figures times two and four. Extreme ratios (1:4 to 8:1) are in none of them: by area.
- Gemini tokens: genai-prices' notes on gemini-3-pro-image (560 an input image, 1,120 at 1K and 2K, 2,000 at 4K);
  recorded answers of gemini-2.5-flash-image (1,290). Those of 3.1-flash are derived from its prices per image.
- OpenAI output tokens: the table of the image generation guide, "Cost and latency", as quoted in
  community.openai.com/t/1371851; it yields the prices per image of OpenAI's model pages. gpt-image-2 by the formula in
  community.openai.com/t/1382699, which gives the 120 tokens of a recorded 1536x864 low edit.
- OpenAI input images: 65 + 129 a 512 px tile at low fidelity (two recorded references: 517); gpt-image-2 a token a
  16 px patch, 1,536 at most (a recorded 128x128 reference: 64).
"""

from __future__ import annotations

import struct

_GEMINI_3_1K = {
    "1:1": (1024, 1024),
    "2:3": (848, 1264),
    "3:2": (1264, 848),
    "3:4": (896, 1200),
    "4:3": (1200, 896),
    "4:5": (928, 1152),
    "5:4": (1152, 928),
    "9:16": (768, 1376),
    "16:9": (1376, 768),
    "21:9": (1584, 672),
    "1:4": (512, 2048),
    "4:1": (2048, 512),
    "1:8": (384, 3072),
    "8:1": (3072, 384),
}
_GEMINI_25 = {
    "1:1": (1024, 1024),
    "2:3": (832, 1248),
    "3:2": (1248, 832),
    "3:4": (864, 1184),
    "4:3": (1184, 864),
    "4:5": (896, 1152),
    "5:4": (1152, 896),
    "9:16": (768, 1344),
    "16:9": (1344, 768),
    "21:9": (1536, 672),
}
_SCALE = {"512": 0.5, "0.5K": 0.5, "1K": 1, "2K": 2, "4K": 4}

_OPENAI_TOKENS = {
    # quality: square, portrait, landscape
    "low": (272, 408, 400),
    "medium": (1056, 1584, 1568),
    "high": (4160, 6240, 6208),
}
_GPT_IMAGE_2_AXIS = {"low": 16, "medium": 48, "high": 96}
PARTIAL_TOKENS = 100
"""Image output tokens of every partial image of a stream (OpenAI's image generation guide, "Streaming")."""


def gemini_pixels(
    model: str, aspect: str | None, size: str | None, like: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Width and height of an answer, None for an aspect ratio or size that does not exist.

    An omitted aspect ratio follows ``like``, the first reference's pixels, or is 1:1. Every model takes
    every size.
    """
    table = _GEMINI_25 if model.startswith("gemini-2") else _GEMINI_3_1K
    scale = _SCALE.get((size or "1K").upper())
    if aspect is None:
        aspect = "1:1" if like is None else _nearest(table, like[0] / like[1])
    if scale is None or aspect not in table:
        return None
    width, height = table[aspect]
    return int(width * scale), int(height * scale)


def _nearest(table: dict[str, tuple[int, int]], ratio: float) -> str:
    def distance(name: str) -> float:
        width, height = table[name]
        return max(ratio * height / width, width / height / ratio)

    return min(table, key=distance)


def gemini_image_tokens(model: str, size: str | None) -> int:
    """Output tokens of one image."""
    size = (size or "1K").upper()
    if model.startswith("gemini-3-pro-image"):
        return 2000 if size == "4K" else 1120
    if model.startswith("gemini-3.1-flash-image"):
        return {"512": 747, "0.5K": 747, "2K": 1680, "4K": 2520}.get(size, 1120)
    return 1290


def gemini_reference_tokens(model: str) -> int:
    """Input tokens of one reference image."""
    return 560 if model.startswith("gemini-3") else 258


def openai_image_tokens(model: str, width: int, height: int, quality: str) -> int:
    """Output tokens of one image."""
    if model.startswith("gpt-image-2"):
        axis = _GPT_IMAGE_2_AXIS[quality]
        long, short = max(width, height), min(width, height)
        cross = (2 * axis * short + long) // (2 * long)
        return -(-axis * cross * (2_000_000 + width * height) // 4_000_000)
    square, portrait, landscape = _OPENAI_TOKENS[quality]
    known = {(1024, 1024): square, (1024, 1536): portrait, (1536, 1024): landscape}
    if (width, height) in known:
        return known[width, height]
    return max(1, round(square * width * height / 1024**2))  # sizes of resellers: by area


def openai_reference_tokens(model: str, pixels: tuple[int, int] | None) -> int:
    """Input tokens of one reference image; an image that cannot be measured counts as 1024x1024."""
    width, height = pixels or (1024, 1024)
    if model.startswith("gpt-image-2"):
        return min(1536, -(-width // 16) * -(-height // 16))
    shrink = min(1.0, 512 / min(width, height))
    tiles = -(-round(width * shrink) // 512) * -(-round(height * shrink) // 512)
    return 65 + 129 * tiles


def text_tokens(text: str) -> int:
    """About four bytes a token, at least one: no tokenizer is worth its weight here."""
    return max(1, -(-len(text.encode("utf-8", "replace")) // 4))


def measure(head: bytes) -> tuple[int, int] | None:
    """Width and height out of the first bytes of a PNG, JPEG or WebP; None when they do not say."""
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return _sane(*struct.unpack_from(">II", head, 16))
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return _measure_webp(head)
        if head.startswith(b"\xff\xd8"):
            return _measure_jpeg(head)
    except (struct.error, IndexError):
        pass
    return None


def _sane(width: int, height: int) -> tuple[int, int] | None:
    return (width, height) if 0 < width < 65_536 and 0 < height < 65_536 else None


def _measure_webp(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if kind == b"VP8X":
        return _sane(1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little"))
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return _sane(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return _sane(width & 0x3FFF, height & 0x3FFF)
    return None


def _measure_jpeg(head: bytes) -> tuple[int, int] | None:
    position = 2
    while head[position] == 0xFF:
        marker = head[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", head, position + 5)
            return _sane(width, height)
        position += 2 + int(struct.unpack_from(">H", head, position + 2)[0])
    return None
