"""SVG: well-formed XML whose root is `svg`, up to its end tag. No entity is expanded, nothing is fetched."""

from __future__ import annotations

import re
from typing import Final
from xml.parsers import expat

from cachelayer.dialects.wire.containers.steps import MOST_STEPS

_NAMES: Final = ("svg", "http://www.w3.org/2000/svg svg")
_BEGINS: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*<[?!a-zA-Z]|\xff\xfe<\0|\xfe\xff\0<")
"""Some markup: a byte order mark, white space and a tag, declaration or instruction."""


class _Stop(Exception):
    """Out of a handler: the answer is known."""


class _Walk:
    """What the parser has met."""

    def __init__(self, *, only_root: bool) -> None:
        self._only_root = only_root
        self.is_svg = self.is_closed = False
        self._depth = self._elements = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth == 1:
            self.is_svg = name in _NAMES
        if not self.is_svg or self._only_root or self._elements > MOST_STEPS:
            raise _Stop

    def end(self, name: str) -> None:
        self._depth -= 1
        if not self._depth:
            self.is_closed = True
            raise _Stop  # what lies behind the end is not looked at

    def declare(self, *declared: object) -> None:
        raise _Stop


def known_type(data: bytes) -> str | None:
    """By its root element: an HTML page begins like an SVG."""
    return "image/svg+xml" if _BEGINS.match(data) and _walked(data, only_root=True).is_svg else None


def is_whole(data: bytes) -> bool:
    return _walked(data).is_closed


def _walked(data: bytes, *, only_root: bool = False) -> _Walk:
    walk = _Walk(only_root=only_root)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = walk.start
    parser.EndElementHandler = walk.end
    # Declarations alone are refused: without one there is nothing to expand (default attributes would be added to each
    # element), and an external one is never fetched.
    parser.EntityDeclHandler = parser.AttlistDeclHandler = walk.declare
    try:
        parser.Parse(data, True)
    except (_Stop, expat.ExpatError, ValueError, LookupError):  # the latter: an encoding that does not exist
        pass
    return walk
