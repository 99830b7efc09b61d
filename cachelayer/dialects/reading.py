"""What all dialects share in reading an answer. What may live here: opening its body, its spans and images; no wire
format's field names.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from cachelayer.core.jsonspan import Malformed, parse
from cachelayer.core.model import Answer, Asked, Json, Reading
from cachelayer.core.reasons import Reason, status_reason
from cachelayer.dialects.dialect import Dialect
from cachelayer.dialects.wire import media
from cachelayer.dialects.wire.pictures import Delivered, Piece, answer_taker, bytes_in
from cachelayer.dialects.wire.usage import cost_of, name_of

WORTH_A_BLOB: Final = 1_024
"""Characters. Shorter strings stay text in the entry."""


def read(asked: Asked, answer: Answer, dialect: Dialect) -> Reading:
    """Judge an answer. Takes one parse; never raises."""
    opened = _open(answer.body)
    if opened is None:
        return Reading(status_reason(answer.status) if answer.status != 200 else Reason.INCOMPLETE)
    delivered = Delivered()
    said = dialect.read(asked, opened.document, delivered)
    return Reading(
        refusal=said.against if answer.status == 200 else status_reason(answer.status),
        images=delivered.whole,
        usage=said.usage,
        spans=delivered.spans(opened.pieces, opened.shift),
        size=name_of(said.size),
        quality=name_of(said.quality),
        model=name_of(said.model),
        cost=cost_of(answer, said.block),
    )


def images(asked: Asked, answer: Answer, dialect: Dialect) -> list[bytes]:
    """The bytes of the whole images of an answer, in its order."""
    opened = _open(answer.body)
    if opened is None:
        return []
    delivered = Delivered()
    dialect.read(asked, opened.document, delivered)
    return [opened.bytes_of(value) for value in delivered.values]


@dataclass(frozen=True, slots=True)
class _Opened:
    """An answer's body, parsed, and the long strings in it."""

    document: dict[str, Json]
    pieces: tuple[Piece, ...]
    shift: int
    """Bytes before those that the pieces count from."""
    body: bytes

    def bytes_of(self, value: Json) -> bytes:
        """What an image's place in the document holds."""
        data = media.decode(self.body, value.start, value.end) if isinstance(value, Piece) else bytes_in(value)
        return data or b""


def _open(whole: bytes) -> _Opened | None:
    """None for what is no whole JSON object. A byte order mark before it is passed over, as clients do."""
    body = whole.removeprefix(codecs.BOM_UTF8)
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
    return _Opened(document, tuple(pieces), len(whole) - len(body), body) if isinstance(document, dict) else None


def _exact(text: str) -> Decimal:
    """A number with a fraction or exponent, never through a float: it may be money."""
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent that no Decimal holds
        return Decimal("NaN")
