"""Binary parts inside text: base64 strings and data: URLs. What may live here: telling them from text, strictly, as
keys need it; no wire format's field names. Images of answers: ``pictures``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pybase64

from cachelayer.core.canon import digest_of, reference
from cachelayer.core.jsonspan import Take
from cachelayer.core.model import Json
from cachelayer.dialects.wire.signature import HEAD, is_image

_LONGEST_PREFIX: Final = 256
"""Bytes of "data:<mime>;base64," that are looked at."""
_MARK: Final = ";base64"


@dataclass(frozen=True, slots=True)
class Long:
    """A long string that was cut out of a request: base64, or a data: URL of base64. Its bytes are hashed already."""

    body: bytes
    start: int
    end: int
    digest: str
    size: int
    mime: str | None
    """None: plain base64. Else a data: URL of that type."""
    is_image: bool
    """Whether the bytes are an image of a known kind."""

    def text(self) -> str:
        """The string itself, for places where it is no image."""
        return self.body[self.start : self.end].decode("ascii")


@dataclass(frozen=True, slots=True)
class Formed:
    """A part of a request that is in its canonical form already (a file of a form, say)."""

    form: Json


def decode(text: bytes, start: int = 0, end: int | None = None) -> bytes | None:
    """The bytes of a base64 string, None when it is none.

    Either alphabet (standard or URL-safe, not both in one string), padded or not padded at all. Whitespace, padding
    that is too short or too long, and any other character make it text. Unused trailing bits are ignored, as every
    decoder in use does that does not refuse them: the same bytes are the same image.
    """
    end = len(text) if end is None else end
    size = end - start
    if size <= 0 or size % 4 == 1:
        return None
    data: bytes | memoryview = memoryview(text)[start:end]
    if size % 4:
        if text.find(b"=", max(start, end - 2), end) != -1:
            return None
        data = bytes(data) + b"=" * (-size % 4)
    try:
        # validate=True is also what makes it fast (PERF-FACTS); without, strange characters would be skipped.
        return pybase64.b64decode(data, validate=True)
    except ValueError:
        pass
    if text.find(b"+", start, end) != -1 or text.find(b"/", start, end) != -1:
        return None
    try:
        return pybase64.b64decode(data, altchars=b"-_", validate=True)
    except ValueError:
        return None


def prefix(text: bytes, start: int, end: int) -> tuple[str, int] | None:
    """The type a data: URL of base64 names, and where its base64 begins; None when it is none."""
    if not text.startswith(b"data:", start, end):
        return None
    comma = text.find(b",", start, min(end, start + _LONGEST_PREFIX))
    if comma == -1:
        return None
    head = text[start + 5 : comma]
    if not head.isascii() or b'"' in head or b"\\" in head:
        return None
    mime = head.decode("ascii")
    if not mime.endswith(_MARK) or not mime.isprintable():
        return None
    return mime.removesuffix(_MARK), comma + 1


def request_taker(body: bytes) -> Take:
    """Cuts base64 strings and data: URLs out of a request, hashing their bytes at once so that none is kept."""

    def take(start: int, end: int) -> Long | None:
        mime, begin = prefix(body, start, end) or (None, start)
        data = decode(body, begin, end)
        if data is None:
            return None
        return Long(body, start, end, digest_of(data), len(data), mime, is_image(data[:HEAD], len(data)))

    return take


def inline(value: Json) -> Json | None:
    """The typed reference to the bytes of a base64 string; None when the value is none."""
    if isinstance(value, Long):
        return reference(value.digest, value.size) if value.mime is None else None
    data = decode(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else None
    return None if data is None else reference(digest_of(data), len(data))


def image(value: Json) -> Json | None:
    """The typed reference to the bytes of a base64 string that are an image of a known kind; None for all else."""
    if isinstance(value, Long):
        return reference(value.digest, value.size) if value.mime is None and value.is_image else None
    data = decode(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else None
    if data is None or not is_image(data[:HEAD], len(data)):
        return None
    return reference(digest_of(data), len(data))


def data_url(value: Json) -> tuple[str, Json] | None:
    """Type and typed reference of a data: URL of base64; None when the value is none."""
    if isinstance(value, Long):
        return None if value.mime is None else (value.mime, reference(value.digest, value.size))
    if not isinstance(value, str):
        return None
    text = value.encode("utf-8", "surrogatepass")
    found = prefix(text, 0, len(text))
    data = decode(text, found[1]) if found else None
    return None if found is None or data is None else (found[0], reference(digest_of(data), len(data)))
