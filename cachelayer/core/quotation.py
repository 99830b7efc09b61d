"""Which parts of a text stand inside quotation marks. Only that lives here; what is done outside them is prompt.py's.

What is quoted is drawn letter by letter, so a wrong guess is a wrong picture, and no guess only a needless miss:
wherever a mark can be read in two ways the whole text is in doubt. Every decision goes by the kinds of the characters
beside a mark, never by how much whitespace there is, so that collapsing whitespace changes none of them.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

_CERTAIN: Final = {
    "\u300c": "\u300d",  # 「 」
    "\u300e": "\u300f",  # 『 』
    "\ufe41": "\ufe42",  # ﹁ ﹂
    "\ufe43": "\ufe44",  # ﹃ ﹄
    "\uff62": "\uff63",  # ｢ ｣
    "\u301d": "\u301e\u301f",  # 〝 〞 〟
    "\u300a": "\u300b",  # 《 》
    "\u3008": "\u3009",  # 〈 〉
    "\u2329": "\u232a",  # 〈 〉
    "\u3010": "\u3011",  # 【 】
    "\u3016": "\u3017",  # 〖 〗
    "\uff02": "\uff02",  # ＂ ＂
    "\uff40": "\uff40",  # ｀ ｀
    "\u275b": "\u275c",  # ❛ ❜
    "\u275d": "\u275e",  # ❝ ❞
}
"""Marks that are nothing else, whatever stands beside them: opening mark -> the marks that close it."""
_OPENING: Final = {
    '"': '"',
    "'": "'",
    "\uff07": "\uff07",  # ＇ ＇
    "\u00b4": "\u00b4",  # ´ ´
    "\u2018": "\u2019",  # ‘ ’
    "\u2019": "\u2019",  # ’ ’
    "\u201a": "\u2018\u2019",  # ‚ ‘ ’
    "\u201b": "\u2019",  # ‛ ’
    "\u201c": "\u201d",  # “ ”
    "\u201d": "\u201d",  # ” ”
    "\u201e": "\u201c\u201d",  # „ “ ”
    "\u201f": "\u201d",  # ‟ ”
    "\u00ab": "\u00bb",  # « »
    "\u00bb": "\u00ab\u00bb",  # » «
    "\u2039": "\u203a",  # ‹ ›
    "\u203a": "\u2039\u203a",  # › ‹
    "\u2032": "\u2032",  # ′ ′
    "\u2033": "\u2033",  # ″ ″
    "\u2e42": "\u201c\u201d",  # ⹂
}
"""Marks that may also be an apostrophe, an inch, a foot, or close what another opened."""
_APOSTROPHE: Final = "\u2019"
_AFTER_A_WORD: Final = "\"'\uff07\u00b4\u2018\u2019\u201c\u201d\u2032\u2033"
"""Of those, the ones that stand for inches, feet, an apostrophe."""
_APOSTROPHES: Final = "'\uff07\u2018\u2019\u00b4\u2032"
_ALWAYS_OPENING: Final = "\u201c\u2018\u201e\u201a\u00ab\u2039"
"""Of those, the ones that open in the middle of a script without spaces too."""
_INSIDE_A_WORD: Final = "\u05f3\u05f4"  # ׳ ״
"""Geresh and gershayim: they make an abbreviation of a Hebrew word, and some quote with them."""
_MARKS = re.compile(
    "["
    + re.escape("".join([*_CERTAIN, *_CERTAIN.values(), *_OPENING, *_OPENING.values(), "\u1fef\u1ffd", _INSIDE_A_WORD]))
    + "]|`+|~{3,}"
)

_Kind = Literal["space", "word", "dense", "sign"]
"""Of a character beside a mark: whitespace or an end; a letter or digit of a script with spaces between words; a letter
of any other, or a mark on one; anything else."""


class Doubt(Exception):
    """The text can be read in two ways."""


def quoted(text: str, whitespace: str) -> list[tuple[int, int]]:
    """Where quotations begin and end, their marks included, in order and apart from each other.

    Raises Doubt where that cannot be told: a mark that is never closed, closes nothing, stands free, or is one of
    several that could close.
    """
    return _Reader(text, whitespace).read()


class _Reader:
    def __init__(self, text: str, whitespace: str) -> None:
        self._text, self._whitespace = text, whitespace
        self._found: list[tuple[int, int]] = []
        self._used: set[str] = set()
        """Marks seen to open, to close or inside a quotation: a later one may be the true end of that."""
        self._unsure: set[str] = set()
        """Of those, the ones that stood inside, or closed after a digit: 12" may have been inches."""

    def read(self) -> list[tuple[int, int]]:
        position = 0
        while (mark := _MARKS.search(self._text, position)) is not None:
            position = mark.end()
            closing = self._closing_of(mark[0], mark.start())
            if closing is not None:
                position = self._close(mark, closing)
                self._remember(mark.start(), position)
        return self._found

    def _remember(self, start: int, end: int) -> None:
        self._found.append((start, end))
        self._used.update(_MARKS.findall(self._text, start, end))
        self._unsure.update(_MARKS.findall(self._text, start + 1, end - 1))
        if self._is_digit(end - 2):
            self._unsure.add(self._text[end - 1])

    def _closing_of(self, mark: str, at: int) -> str | None:
        """What closes the quotation that a mark outside of any opens; None for one that is no quotation mark here."""
        if mark in _CERTAIN:
            return _CERTAIN[mark]
        if mark[0] in "`~":
            return mark
        before, after = self._kind(at - 1), self._kind(at + 1)
        if mark in _INSIDE_A_WORD and {before, after} <= {"word", "dense"}:
            return None
        if mark in _ALWAYS_OPENING and before == "dense" and after != "space":
            return _OPENING[mark]
        if mark in _APOSTROPHES and before == after == "word":
            return None
        if mark == _APOSTROPHE and mark not in self._used and self._text.find(mark, at + 1) == -1:
            return None  # ’til: nothing could close it
        # After a letter or digit nothing opens; but it may close what seemed closed before.
        sure = mark not in self._used or (self._is_digit(at - 1) and mark not in self._unsure)
        if sure and mark in _AFTER_A_WORD and before == "word" and after in ("space", "sign"):
            return None  # 6'2", 12", the dogs'
        if before in ("space", "sign") and after != "space" and mark in _OPENING:
            return _OPENING[mark]
        raise Doubt

    def _close(self, opened: re.Match[str], closing: str) -> int:
        """Where the quotation ends, its closing mark included."""
        opening, position = opened[0], opened.end()
        while (mark := _MARKS.search(self._text, position)) is not None:
            position = mark.end()
            if opening in _CERTAIN or opening[0] in "`~":
                if mark[0] in closing if opening in _CERTAIN else mark[0] == closing:
                    return position
                if mark[0] == opening:
                    raise Doubt
            elif mark[0] in closing:
                if self._closes(mark[0], mark.start(), opening):
                    return position
            elif mark[0] == opening:
                raise Doubt
        raise Doubt

    def _closes(self, mark: str, at: int, opening: str) -> bool:
        """Whether a mark that could close does; False for an apostrophe inside the quotation."""
        before, after = self._kind(at - 1), self._kind(at + 1)
        if mark in _APOSTROPHES and before == after == "word":
            return False
        # “ ” are told apart by their shape; of " " only what stands beside them says which is which.
        if before == "space" or after == "word" or (after == "dense" and mark in (opening, *_APOSTROPHES)):
            raise Doubt
        return True

    def _is_digit(self, at: int) -> bool:
        return at >= 0 and unicodedata.category(self._text[at])[0] == "N"

    def _kind(self, at: int) -> _Kind:
        if not 0 <= at < len(self._text) or self._text[at] in self._whitespace:
            return "space"
        category = unicodedata.category(self._text[at])
        if category in ("Lu", "Ll", "Lt") or category[0] == "N":
            return "word"
        return "dense" if category[0] in "LM" else "sign"
