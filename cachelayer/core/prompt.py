"""Prompt normalisation: spellings of a prompt that its author cannot tell apart. Only that lives here.

Each step is idempotent and so is their sequence. Only the parts of a prompt come here: never names, schemas,
arguments, or fields that no dialect knows.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from cachelayer.core.model import Normalize

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
_CLOSING: Final = {
    '"': '"',
    "'": "'",
    "\u2018": "\u2019",  # ‘ ’
    "\u201a": "\u2018\u2019",  # ‚ ‘ ’
    "\u201c": "\u201d",  # “ ”
    "\u201d": "\u201d",  # ” ”
    "\u201e": "\u201c\u201d",  # „ “ ”
    "\u00ab": "\u00bb",  # « »
    "\u00bb": "\u00ab\u00bb",  # » «
    "\u2039": "\u203a",  # ‹ ›
    "\u203a": "\u2039\u203a",  # › ‹
    "\u300c": "\u300d",  # 「 」
    "\u300e": "\u300f",  # 『 』
}
"""Opening quotation mark -> the marks that close it."""
_MAY_BE_APOSTROPHE: Final = "'\u2018\u2019"


def normalize(parts: list[str], mode: Normalize) -> tuple[list[str], tuple[str, ...]]:
    """The text parts of one message, in order, and the steps that changed any of them.

    ``prompt``: NFC (not of a part with more than 30 combining marks in a row), CRLF as LF, outer whitespace of the
    whole stripped (start of the first part, end of the last).
    ``loose``: also every run of whitespace outside quotation marks becomes one space; a mark that is never closed
    leaves the rest of the message as it is. ``exact``: nothing.
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
    return unicodedata.normalize("NFC", text)


def _collapse(parts: list[str]) -> list[str]:
    done: list[str] = []
    for index, part in enumerate(parts):
        text, balanced = _collapse_part(part)
        done.append(text)
        if not balanced:
            return done + parts[index + 1 :]
    return done


def _collapse_part(text: str) -> tuple[str, bool]:
    out: list[str] = []
    outside = 0
    position = 0
    while position < len(text):
        closing = _CLOSING.get(text[position])
        if closing is None or _is_apostrophe(text, position):
            position += 1
            continue
        out.append(_RUN.sub(" ", text[outside:position]))
        end = _close(text, position + 1, closing)
        if end == -1:
            return "".join(out) + text[position:], False
        out.append(text[position : end + 1])
        position = outside = end + 1
    out.append(_RUN.sub(" ", text[outside:]))
    return "".join(out), True


def _close(text: str, start: int, closing: str) -> int:
    for position in range(start, len(text)):
        if text[position] in closing:
            following = text[position + 1 : position + 2]
            # "don't" inside single quotation marks does not close them.
            if text[position] not in _MAY_BE_APOSTROPHE or not following.isalnum():
                return position
    return -1


def _is_apostrophe(text: str, position: int) -> bool:
    return text[position] in _MAY_BE_APOSTROPHE and position > 0 and text[position - 1].isalnum()
