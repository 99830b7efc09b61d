"""What all dialects share in judging an answer. What may live here: opening its body, its spans; no wire format's field
names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from cachelayer.core.jsonspan import Malformed, parse
from cachelayer.core.model import Answer, Json, Span
from cachelayer.dialects import media

WORTH_A_BLOB: Final = 1_024
"""Characters. Shorter strings stay text in the entry."""
_UNNAMED: Final = "application/octet-stream"
_HUMP: Final = re.compile("[A-Z]")


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer's body, parsed, and the long strings in it."""

    document: Json
    pieces: tuple[media.Piece, ...]

    def spans(self, images: dict[int, str]) -> tuple[Span, ...]:
        """The spans in body order. images: where an image that was paid for begins -> its type."""
        return tuple(
            piece.span(images.get(piece.start, piece.mime or _UNNAMED), image=piece.start in images)
            for piece in self.pieces
            if piece.canonical
        )


def open_body(answer: Answer) -> Opened | None:
    """None for what is no whole JSON object."""
    pieces: list[media.Piece] = []
    try:
        document = parse(
            answer.body,
            media.answer_taker(answer.body, pieces),
            lex_from=WORTH_A_BLOB,
            shortest=WORTH_A_BLOB,
            fraction=_exact,
        )
    except (Malformed, MemoryError):
        return None
    return Opened(document, tuple(pieces)) if isinstance(document, dict) else None


def _exact(text: str) -> Decimal:
    """A number with a fraction or exponent, never through a float: it may be money."""
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent that no Decimal holds
        return Decimal("NaN")


def either(fields: dict[str, Json], camel: str) -> Json:
    """A field of a protocol-buffer message in JSON, in its own spelling or snake_case; null and absent are one."""
    value = fields.get(camel)
    return fields.get(_HUMP.sub(_snake, camel)) if value is None else value


def _snake(hump: re.Match[str]) -> str:
    return f"_{hump[0].lower()}"


def is_image_data(value: Json) -> bool:
    """Whether a value is base64 of at least one byte."""
    if isinstance(value, media.Piece):
        return value.mime is None
    return isinstance(value, str) and media.decode(value.encode("utf-8", "surrogatepass")) is not None


def mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def listing(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
