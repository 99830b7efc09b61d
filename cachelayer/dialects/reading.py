"""What all dialects share in reading an answer. What may live here: opening its body, its spans and images; no wire
format's field names.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from cachelayer.core.jsonspan import Malformed, parse
from cachelayer.core.model import Answer, Asked, Json, Reading, Usage
from cachelayer.core.reasons import Reason, status_reason
from cachelayer.dialects.wire import media
from cachelayer.dialects.wire.pictures import Delivered, Piece, answer_taker, bytes_in
from cachelayer.dialects.wire.usage import cost_of, name_of

WORTH_A_BLOB: Final = 1_024
"""Characters. Shorter strings stay text in the entry."""
_HUMP: Final = re.compile("[A-Z]")


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer's document says, in its format's words."""

    against: str | None
    """Why an answer of status 200 is not good, None when it is."""
    usage: Usage | None = None
    block: Json = None
    """The usage block as it stands there: what the answer cost may stand in it."""
    size: Json = None
    quality: Json = None
    model: Json = None
    """Size, quality and model as it names them."""


Understand = Callable[[Asked, dict[str, Json], Delivered], Said]
"""A format's part in reading: adds each image to what is delivered, and says the rest."""


def read(asked: Asked, answer: Answer, understand: Understand) -> Reading:
    """Judge an answer. Takes one parse; never raises."""
    opened = _open(answer.body)
    if opened is None:
        return Reading(status_reason(answer.status) if answer.status != 200 else Reason.INCOMPLETE)
    delivered = Delivered()
    said = understand(asked, opened.document, delivered)
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


def images(asked: Asked, answer: Answer, understand: Understand) -> list[bytes]:
    """The bytes of the whole images of an answer, in its order."""
    opened = _open(answer.body)
    if opened is None:
        return []
    delivered = Delivered()
    understand(asked, opened.document, delivered)
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
