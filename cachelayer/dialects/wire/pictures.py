"""Images in answers: base64 strings and data: URLs told from text by what their bytes are. What may live here: reading
them as tolerantly as clients do, and counting what was delivered; no wire format's field names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

import pybase64

from cachelayer.core.jsonspan import Take
from cachelayer.core.model import Json, Span
from cachelayer.dialects.wire import media
from cachelayer.dialects.wire.containers import Container, container_of

_UNNAMED: Final = "application/octet-stream"
_WHITE: Final = b" \t\r\n\v\f"
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True, slots=True)
class Piece:
    """A long string that was cut out of an answer: base64, or a data: URL of base64 behind its comma.

    is_canonical: its bytes encode back to exactly this string. Else it stays text in the entry.
    """

    start: int
    end: int
    mime: str | None
    """As a data: URL names it."""
    is_canonical: bool
    container: Container | None


def answer_taker(body: bytes, pieces: list[Piece]) -> Take:
    """Cuts them out of an answer and lists them in body order. Each is decoded once, and its container walked."""

    def take(start: int, end: int) -> Piece | None:
        mime, begin = media.prefix(body, start, end) or (None, start)
        data = media.decode(body, begin, end)
        if data is None:
            return None
        piece = Piece(begin, end, mime, _is_canonical(body, begin, end), container_of(data))
        pieces.append(piece)
        return piece

    return take


def _is_canonical(body: bytes, start: int, end: int) -> bool:
    # A string that decodes can only differ from its own re-encoding in the alphabet, the padding or the last group.
    if (end - start) % 4 or body.find(b"-", start, end) != -1 or body.find(b"_", start, end) != -1:
        return False
    last = body[end - 4 : end]
    return pybase64.b64encode(pybase64.b64decode(last, validate=True)) == last


def container_in(value: Json) -> tuple[bool, Container | None]:
    """(whether a value holds bytes at all, what image they are)."""
    if isinstance(value, Piece):
        return True, value.container
    data = bytes_in(value) if isinstance(value, str) else None
    return (False, None) if not data else (True, container_of(data))


def bytes_in(text: str) -> bytes | None:
    """The bytes of a base64 string or data: URL as clients read it: with white space and line breaks, in either
    alphabet, padded or not, the URL percent-encoded or not. None for anything else."""
    raw = text.encode("utf-8", "surrogatepass").strip(_WHITE)
    if raw[:5].lower() != b"data:":
        return _loosely(raw)
    head, comma, raw = raw.partition(b",")
    if not comma:
        return None
    raw = unquote_to_bytes(raw) if b"%" in raw else raw
    return _loosely(raw) if head.lower().rstrip(_WHITE).endswith(b"base64") else raw


def _loosely(raw: bytes) -> bytes | None:
    raw = raw.translate(_STANDARD, _WHITE).rstrip(b"=")
    try:
        return pybase64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except ValueError:
        return None


@dataclass(slots=True)
class Delivered:
    """What an answer delivers in the places where it puts images."""

    whole: int = 0
    not_whole: int = 0
    """Bytes that are no image, or none that is whole."""
    unreadable: int = 0
    """Nothing, or what is no base64."""
    links: int = 0
    types: dict[int, str] = field(default_factory=dict)
    """Where a whole image begins in the body -> its type, for those that were cut out of it."""
    values: list[Json] = field(default_factory=list)
    """What stands for each whole image in the document."""

    def add(self, value: Json) -> None:
        """One image."""
        has_bytes, container = container_in(value)
        if container is not None and container.is_whole:
            self.whole += 1
            self.values.append(value)
            if isinstance(value, Piece):
                self.types[value.start] = container.type
        elif has_bytes:
            self.not_whole += 1
        else:
            self.unreadable += 1

    def spans(self, pieces: Iterable[Piece], shift: int) -> tuple[Span, ...]:
        """The spans in body order. shift: bytes of the body before those that the pieces count from."""
        return tuple(
            Span(piece.start + shift, piece.end + shift, _type_of(piece), piece.start in self.types)
            for piece in pieces
            if piece.is_canonical
        )


def _type_of(piece: Piece) -> str:
    return piece.mime or _UNNAMED if piece.container is None else piece.container.type
