"""The images inside a stored answer, and what kind of file each is: its first bytes say so, answers may mislabel it."""

from __future__ import annotations

import pybase64

from cachelayer import dialects
from cachelayer.core.entry import Entry
from cachelayer.core.model import Answer, Asked
from cachelayer.dialects import gemini, openai_images


def images_of(entry: Entry, body: bytes) -> list[bytes]:
    """The images that were paid for, in the order of the answer.

    Read out of the body and not from the blobs, because a short answer lies inside its entry as a whole.
    """
    known = (gemini.NAME, openai_images.NAME)
    for name in (entry.dialect,) if entry.dialect in known else known:
        reading = dialects.read(_asked(entry, name), Answer(entry.status, entry.headers, body))
        images = [pybase64.b64decode(body[span.start : span.end]) for span in reading.spans if span.image]
        if images:
            return images
    return []


def _asked(entry: Entry, dialect: str) -> Asked:
    # Only what reading an answer goes by.
    return Asked(
        key=entry.key,
        canonical=b"",
        dialect=dialect,
        operation="image",
        model=entry.model,
        scope=entry.scope,
        host=entry.host,
        namespace=entry.namespace,
        count=entry.count,
        stream=False,
        refusal=None,
    )


def extension(data: bytes) -> str:
    """png, jpg, webp, gif, avif, heic, bmp, tiff or svg by content; bin for anything else."""
    for beginning, name in (
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff", "jpg"),
        (b"GIF87a", "gif"),
        (b"GIF89a", "gif"),
        (b"BM", "bmp"),
        (b"II*\x00", "tiff"),
        (b"MM\x00*", "tiff"),
        (b"<svg", "svg"),
    ):
        if data.startswith(beginning):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":  # ISO media files name their brands
        brands = data[8:64]
        if b"avif" in brands or b"avis" in brands:
            return "avif"
        if b"heic" in brands or b"heix" in brands or b"mif1" in brands:
            return "heic"
    return "bin"
