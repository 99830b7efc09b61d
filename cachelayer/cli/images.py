"""The images inside a stored answer, and what kind of file each is: its first bytes say so, answers may mislabel it."""

from __future__ import annotations

from cachelayer import dialects
from cachelayer.core.entry import Entry
from cachelayer.core.model import Answer, Asked
from cachelayer.dialects.wire.containers import known_type


def images_of(entry: Entry, body: bytes) -> list[bytes]:
    """The images that were paid for, in the order of the answer.

    Read out of the body, as the dialect finds them there, and not from the blobs: a short answer lies inside its entry
    as a whole, and so does an image whose base64 would not encode back to the same text.
    """
    known = dialects.names()
    for name in (entry.dialect,) if entry.dialect in known else known:
        images = dialects.images(_asked(entry, name), Answer(entry.status, entry.headers, body))
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
        never_cached=None,
    )


def extension(data: bytes) -> str:
    """png, jpg, webp, gif, avif, heic, heif, bmp, tiff or svg by content; bin for anything else."""
    return _EXTENSIONS.get(known_type(data) or "", "bin")


_EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/avif": "avif",
    "image/heic": "heic",
    "image/heic-sequence": "heic",
    "image/heif": "heif",
    "image/heif-sequence": "heif",
    "image/bmp": "bmp",
    "image/tiff": "tiff",
    "image/svg+xml": "svg",
}
