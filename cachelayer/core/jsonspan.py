"""Strict JSON, with long strings set aside. What may live here: parsing of one document; no wire format.

A request of 100 MB is fourteen long strings and a few hundred bytes around them. A JSON parser copies such strings
several times; here they are found by searching for quotation marks (memchr speed), replaced by placeholders, and only
the skeleton is parsed. orjson and msgspec were rejected: they copy the strings too (PERF-FACTS) and let duplicate keys
pass.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from typing import Any, Final

from cachelayer.core.canon import finite
from cachelayer.core.model import Json

LEX_FROM: Final = 65_536
"""Bytes. Smaller documents go straight to the parser: it takes less than a millisecond for them."""
SHORTEST: Final = 4_096
"""Bytes between two quotation marks from which a string may be set aside."""
_MOST_DIGITS: Final = 4_300
"""Python's own limit (sys.int_info.default_max_str_digits): above it, reading an integer takes quadratic time."""

Take = Callable[[int, int], object | None]
"""Given where the inside of a string begins and ends, the object that stands for it, or None to leave it in place.

It must return None unless body[start:end] is plain printable ASCII without quotation mark and backslash, and either
holds none of ``,:[]{}`` and no space or does not begin like a JSON token ("data:..." does not): see ``parse``."""

Fraction = Callable[[str], object]

_NONCE: Final = secrets.token_hex(16)
"""Unguessable, so that no document can contain a placeholder of its own."""
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class Malformed(ValueError):
    """Not JSON as RFC 8259 has it, or ambiguous: duplicate keys, numbers beyond a double, lone surrogates."""


class _Odd(Exception):
    """A placeholder where no value can be: set nothing aside."""


def parse(
    body: bytes,
    take: Take | None = None,
    *,
    lex_from: int = LEX_FROM,
    shortest: int = SHORTEST,
    fraction: Fraction = finite,
    lenient: bool = False,
) -> Json:
    """The value of a JSON document in UTF-8; strings accepted by ``take`` are replaced by its objects, numbers with a
    fraction or exponent are read by ``fraction`` (which may raise ValueError).

    lenient: lone surrogates, NaN and Infinity are let through, and of a name that repeats the last one counts, as
    Python's own parser has it (and those of JavaScript, Go, Java). Raises Malformed. Integers are exact.
    Takes time linear in the size of the body.

    Why cutting is sound. A gap between two quotation marks, the first not behind a backslash, is either the inside of
    a string, or what stands between two strings. In valid JSON the latter holds a comma or colon and begins like a
    token, and ``take`` refuses such gaps. In invalid JSON, a cut there leaves a placeholder where no token may be: it
    stays invalid.
    """
    taken: dict[str, object] = {}
    skeleton = body
    if take is not None and len(body) >= lex_from:
        skeleton = _cut(body, take, shortest, taken)
    if not taken:
        return _strict(body, {}, fraction, lenient)
    try:
        return _strict(skeleton, taken, fraction, lenient)
    except _Odd:
        return _strict(body, {}, fraction, lenient)


def _cut(body: bytes, take: Take, shortest: int, taken: dict[str, object]) -> bytes:
    pieces: list[bytes | memoryview] = []
    view = memoryview(body)
    copied = 0
    quote = body.find(b'"')
    while quote != -1:
        # The last mark within reach, not the next: a dense document costs one step per `shortest` bytes, not per mark.
        near = body.rfind(b'"', quote + 1, quote + 1 + shortest)
        if near != -1:
            quote = near
            continue
        end = body.find(b'"', quote + 1 + shortest)
        if end == -1:
            break
        stands_for = None if quote and body[quote - 1] == 0x5C else take(quote + 1, end)
        if stands_for is not None:
            placeholder = f"{_NONCE}{len(taken)}"
            taken[placeholder] = stands_for
            pieces += (view[copied : quote + 1], placeholder.encode())
            copied = end
        quote = end
    pieces.append(view[copied:])
    return b"".join(pieces)


def _strict(document: bytes, taken: dict[str, object], fraction: Fraction, lenient: bool) -> Json:
    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(members)
        if len(result) != len(members) and not lenient:
            raise Malformed("duplicate key")
        if taken and not taken.keys().isdisjoint(result):
            raise _Odd
        return result

    try:
        value = json.loads(
            document.decode(),
            object_pairs_hook=pairs,
            parse_constant=fraction if lenient else _refuse,
            parse_int=_integer,
            parse_float=fraction,
        )
        if not lenient and _SURROGATE_ESCAPE.search(document):
            json.dumps(value, ensure_ascii=False).encode()
        return _fill(value, taken) if taken else value
    except Malformed:
        raise
    except RecursionError:
        raise Malformed("nested too deep") from None
    except ValueError as error:
        raise Malformed(str(error)) from None


def _fill(value: Json, taken: dict[str, object]) -> Json:
    if isinstance(value, str):
        return taken.get(value, value)
    if isinstance(value, list):
        return [_fill(item, taken) for item in value]
    if isinstance(value, dict):
        return {name: _fill(item, taken) for name, item in value.items()}
    return value


def _refuse(constant: str) -> Json:
    raise Malformed(f"{constant} is not JSON")


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise Malformed("integer too long")
    return int(text)
