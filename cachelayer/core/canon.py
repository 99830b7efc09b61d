"""Canonical bytes and the key. What may live here: the one byte form of a request, its key, and reading it back.

Pure, and ignorant of wire formats: dialects build a form (a tree of JSON values and typed references), this file
gives it its bytes and its key. docs/key-spec.md is the specification; tests/vectors pins it. Whatever changes one
canonical byte needs a new KEY_VERSION.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from typing import Final

from blake3 import blake3

from cachelayer.core.model import Asked, Json

KEY_VERSION: Final = 1
"""The key-spec version, part of every key: keys of two versions never meet."""

ABSENT: Final = None
"""What ``differences`` shows for a field that one side does not have; an explicit null shows the same."""

_BLOB: Final = "$blob"
_NOTHING: Final = object()
_FRAME = struct.Struct(">QQ")
_COUNT = struct.Struct(">Q")
_EXACT_INTEGERS: Final = 2**53
"""Below this every integer is a double of its own, so that 1.0 can stand for 1 without ever meeting another number."""


def digest_of(data: bytes | memoryview) -> str:
    """BLAKE3-256 of some bytes, 64 hex digits."""
    return blake3(data).hexdigest()


def key_of(canonical: bytes, count: int) -> str:
    """The key: BLAKE3-256 over (version, length of the form, the form, count), 64 hex digits.

    Version, length and count are 8 bytes each, big-endian: with the length in front of the form, no two different
    triples have the same bytes. count: 0 <= count < 2**64.
    """
    hasher = blake3(_FRAME.pack(KEY_VERSION, len(canonical)))
    hasher.update(canonical)
    hasher.update(_COUNT.pack(count))
    return hasher.hexdigest()


def reference(digest: str, size: int) -> Json:
    """The typed reference to some bytes. No text of a request can spell it: ``literal`` escapes keys in "$"."""
    return {_BLOB: [digest, size]}


def is_reference(value: Json) -> bool:
    """Whether a part of a form is a typed reference."""
    return isinstance(value, dict) and len(value) == 1 and _BLOB in value


def escape(name: str) -> str:
    """A user's object key inside a form: one that begins with "$" gets one more."""
    return "$" + name if name.startswith("$") else name


def number(value: int | float) -> int | float:
    """The one spelling of a number: an integral double below 2**53 is that integer (1.0 = 1, -0.0 = 0)."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_INTEGERS:
        return int(value)
    return value


def serialize(form: Json) -> bytes:
    """The byte form: JSON, keys sorted by code point, no whitespace, UTF-8, numbers in shortest round-trip form.

    Raises ValueError for what JSON in UTF-8 cannot say (lone surrogates, infinities), RecursionError for depth.
    """
    return json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def fields(asked: Asked | bytes) -> dict[str, Json]:
    """The canonical request as a readable document: scope, operation, model, body, ..., and the count if known.

    Typed references read ``blake3:<digest> (<size> bytes)``. Raises ValueError for bytes that are no canonical request.
    """
    readable: dict[str, Json] = _readable(_document(asked))
    return readable


def differences(a: Asked | bytes, b: Asked | bytes) -> list[tuple[str, Json, Json]]:
    """What tells two requests apart: (field path, value in a, value in b), sorted by path; empty when nothing does.

    Paths are dotted, list positions are numbers: ``body.contents.0.parts.1.text``. A side without it shows ABSENT.
    """
    return sorted(_compared("", _document(a), _document(b)), key=lambda difference: difference[0])


def _document(asked: Asked | bytes) -> dict[str, Json]:
    document = json.loads(asked if isinstance(asked, bytes) else asked.canonical)
    if not isinstance(document, dict):
        raise ValueError("not a canonical request")
    return document if isinstance(asked, bytes) else {**document, "count": asked.count}


def _readable(value: Json) -> Json:
    if isinstance(value, list):
        return [_readable(item) for item in value]
    if isinstance(value, dict):
        if is_reference(value):
            digest, size = value[_BLOB]
            return f"blake3:{digest} ({size} bytes)"
        return {_unescaped(name): _readable(item) for name, item in value.items()}
    return value


def _compared(path: str, a: Json, b: Json) -> Iterator[tuple[str, Json, Json]]:
    # Side by side, not as two lists of leaves: a name may have a dot in it, and a list is no object of numbers.
    left, right = _children(a), _children(b)
    alike = type(a) is type(b) and is_reference(a) == is_reference(b)
    if (left or right) and (alike or a is _NOTHING or b is _NOTHING):
        for name in left | right:
            shown = _unescaped(str(name))
            below = f"{path}.{shown}" if path else shown
            yield from _compared(below, left.get(name, _NOTHING), right.get(name, _NOTHING))
    # repr, because 1 == True and 1 == 1.0 in Python, and a request that says true is not one that says 1.
    elif repr(a) != repr(b):
        yield path, ABSENT if a is _NOTHING else _readable(a), ABSENT if b is _NOTHING else _readable(b)


def _children(value: Json) -> dict[str | int, Json]:
    if isinstance(value, list):
        return dict(enumerate(value))
    return value if isinstance(value, dict) and not is_reference(value) else {}


def _unescaped(name: str) -> str:
    return name[1:] if name.startswith("$$") else name


def finite(text: str) -> float:
    """A JSON number with a fraction or exponent. Raises ValueError when it overflows a double."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("number out of range")
    return value
