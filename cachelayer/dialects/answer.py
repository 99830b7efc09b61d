"""What all dialects share in judging an answer. What may live here: opening its body, its spans; no wire format's field
names.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from cachelayer.core.jsonspan import Malformed, parse
from cachelayer.core.model import Answer, Json, Span
from cachelayer.dialects.pictures import Delivered, Piece, answer_taker

WORTH_A_BLOB: Final = 1_024
"""Characters. Shorter strings stay text in the entry."""
_HUMP: Final = re.compile("[A-Z]")


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer's body, parsed, and the long strings in it."""

    document: dict[str, Json]
    pieces: tuple[Piece, ...]
    _shift: int

    def spans(self, delivered: Delivered) -> tuple[Span, ...]:
        """The spans in body order; those of whole images that were delivered are marked."""
        return delivered.spans(self.pieces, self._shift)


def open_body(answer: Answer) -> Opened | None:
    """None for what is no whole JSON object. A byte order mark before it is passed over, as clients do."""
    body = answer.body.removeprefix(codecs.BOM_UTF8)
    pieces: list[Piece] = []
    try:
        document = parse(
            body,
            answer_taker(body, pieces),
            lex_from=WORTH_A_BLOB,
            shortest=WORTH_A_BLOB,
            fraction=_exact,
            lenient=True,
        )
    except (Malformed, MemoryError):
        return None
    return Opened(document, tuple(pieces), len(answer.body) - len(body)) if isinstance(document, dict) else None


def _exact(text: str) -> Decimal:
    """A number with a fraction or exponent, never through a float: it may be money."""
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent that no Decimal holds
        return Decimal("NaN")


def either(fields: dict[str, Json], camel: str) -> Json:
    """A field of a protocol-buffer message in JSON, in its own spelling or snake_case, whichever says something: null,
    absent and empty are one."""
    value = fields.get(camel)
    if value is not None and value not in ("", [], {}):
        return value
    other = fields.get(_HUMP.sub(_snake, camel))
    return value if other is None else other


def _snake(hump: re.Match[str]) -> str:
    return f"_{hump[0].lower()}"


def mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def listing(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
