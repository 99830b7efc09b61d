"""Prompt normalisation: spellings of a prompt that its author cannot tell apart. Only that lives here.

Each step is idempotent and so is their sequence. Only the parts of a prompt come here: never names, schemas,
arguments, or fields that no dialect knows.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from cachelayer.core.model import Normalize
from cachelayer.core.quotation import Doubt, quoted

WHITESPACE: Final = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode's White_Space property (PropList.txt), which is stable. str.strip() also takes U+001C..U+001F."""

# Tried from the first of a run only, and without going back: else a million carriage returns take a million times that.
_CRLF = re.compile("(?<!\r)\r++\n")
_MARKS: Final = 30
"""Combining marks in a row up to which a text is put in NFC; Unicode's own bound (UAX #15, Stream-Safe Text Format).
Sorting a longer run takes quadratic time in CPython: 100 KB of marks take longer than the image."""
_MAY_BE_MARKS = re.compile(rf"[^\w\s\x00-\x7f]{{{_MARKS + 1},}}")
_RUN = re.compile(f"[{WHITESPACE}]+")
_SINGLETON = re.compile(
    "([\u0340\u0341\u0343\u0374\u037e\u0387\u1f71\u1f73\u1f75\u1f77\u1f79\u1f7b\u1f7d\u1fbb\u1fbe\u1fc9\u1fcb\u1fd3\u1fdb"
    "\u1fe3\u1feb\u1fee\u1fef\u1ff9\u1ffb\u1ffd\u2000\u2001\u2126\u212a\u212b\u2329\u232a\uf900-\ufa0d\ufa10\ufa12"
    "\ufa15-\ufa1e\ufa20\ufa22\ufa25\ufa26\ufa2a-\ufa6d\ufa70-\ufad9\U0002f800-\U0002fa1d])"
)
"""Characters whose canonical decomposition is ONE other (1,035 of Unicode 15). NFC would put that in their place,
though it is drawn otherwise (CJK compatibility ideographs) or is another sign (ångström, Greek question mark).
Written out: to ask unicodedata for them takes 0.35 s."""


def normalize(parts: list[str], mode: Normalize) -> tuple[list[str], tuple[str, ...]]:
    """The text parts of one message, in order, and the steps that changed any of them.

    ``prompt``: NFC, singletons kept (not of a part with more than 30 combining marks in a row), CRLF as LF, outer
    whitespace of the whole stripped (start of the first part, end of the last).
    ``loose``: also every run of whitespace outside quotation marks becomes one space; a message whose marks are in
    doubt stays as it is. ``exact``: nothing.
    """
    if mode == "exact" or not parts:
        return parts, ()
    steps: list[str] = []

    def step(name: str, before: list[str], after: list[str]) -> list[str]:
        if before != after:
            steps.append(name)
        return after

    parts = step("nfc", parts, [_nfc(part) for part in parts])
    # All the carriage returns before a line feed: after "\r\r\n" -> "\r\n" a second pass would go on.
    parts = step("crlf", parts, [_CRLF.sub("\n", part) for part in parts])
    stripped = [parts[0].lstrip(WHITESPACE), *parts[1:]]
    stripped[-1] = stripped[-1].rstrip(WHITESPACE)
    parts = step("strip", parts, stripped)
    if mode == "loose":
        parts = step("collapse", parts, _collapse(parts))
    return parts, tuple(steps)


def _nfc(text: str) -> str:
    for run in _MAY_BE_MARKS.finditer(text):
        marks = 0
        for character in run[0]:
            marks = marks + 1 if unicodedata.category(character).startswith("M") else 0
            if marks > _MARKS:
                return text
    if unicodedata.is_normalized("NFC", text):
        return text
    # Piece by piece: what a singleton is put into differs from it on paper, and no mark moves across one.
    pieces = _SINGLETON.split(text)
    return "".join(piece if at % 2 else unicodedata.normalize("NFC", piece) for at, piece in enumerate(pieces))


def _collapse(parts: list[str]) -> list[str]:
    try:
        return [_collapse_part(part) for part in parts]
    except Doubt:
        return parts


def _collapse_part(text: str) -> str:
    out: list[str] = []
    outside = 0
    for start, end in quoted(text, WHITESPACE):
        out += (_RUN.sub(" ", text[outside:start]), text[start:end])
        outside = end
    return "".join([*out, _RUN.sub(" ", text[outside:])])
