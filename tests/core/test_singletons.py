"""NFC, except for characters whose canonical decomposition is one character: those are drawn differently, and count."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachelayer.core.model import Normalize
from cachelayer.core.prompt import WHITESPACE, normalize

EVERYTHING = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
SINGLETONS = [
    character
    for character in EVERYTHING
    if (becomes := unicodedata.decomposition(character)) and "<" not in becomes and " " not in becomes
]
MODES: list[Normalize] = ["prompt", "loose"]


def normal(text: str, mode: Normalize = "prompt") -> str:
    return normalize([text], mode)[0][0]


def test_there_are_as_many_as_the_design_says() -> None:
    assert len(SINGLETONS) == 1035


@pytest.mark.parametrize("mode", MODES)
def test_every_singleton_stays_and_counts(mode: Normalize) -> None:
    for character in SINGLETONS:
        usual = unicodedata.normalize("NFC", character)
        assert normal(f"a{character}b", mode).count(character) == (
            0 if mode == "loose" and character in WHITESPACE else 1
        )
        if not (mode == "loose" and character in WHITESPACE):
            assert normal(f"a{character}b", mode) != normal(f"a{usual}b", mode)


def test_every_other_character_is_put_in_nfc() -> None:
    kept = set(SINGLETONS) | set(WHITESPACE)
    each = [f"a{character}b" for character in EVERYTHING if character not in kept]
    for start in range(0, len(each), 1000):  # a thousand at a time: "b" and "a" compose with nothing between them
        text = "".join(each[start : start + 1000])
        assert normal(text).replace("\n", "") == unicodedata.normalize("NFC", text).replace("\n", "")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\ufa10", "\u585a"),
        ("\uf9d0", "\u985e"),
        ("\u212b", "\u00c5"),
        ("\u2126", "\u03a9"),
        ("\u212a", "K"),
        ("\u037e", ";"),
        ("\u1f71", "\u03ac"),
        ("a\u0340", "a\u0300"),
        ("\u212b\u0301", "\u01fa"),
        ("e\u0301\u212b", "\u00e9\u00c5"),
        ("\U0002f800", "\u4e3d"),
    ],
)
def test_never_the_same(one: str, other: str) -> None:
    assert normal(one) != normal(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cafe\u0301", "caf\u00e9"),
        ("\u1112\u1161\u11ab", "\ud55c"),
        ("\uac00\u11a8", "\uac01"),
        ("\u0958", "\u0915\u093c"),
        ("A\u030a\u0301", "\u01fa"),
        ("a\u0323\u0307", "a\u0307\u0323"),
        ("\u1e9b\u0323", "\u017f\u0323\u0307"),
        ("cafe\u0301 \ufa10 cafe\u0301", "caf\u00e9 \ufa10 caf\u00e9"),
        ("\u212b\u0307\u0323", "\u212b\u0323\u0307"),  # marks behind a singleton are put in order among themselves
        ("\ufa10\u0301\u0323e\u0301", "\ufa10\u0323\u0301\u00e9"),
    ],
)
def test_still_the_same(one: str, other: str) -> None:
    assert normal(one) == normal(other)


MARKS = ["\u0301", "\u0323", "\u0307", "\u093c", "\u3099", "\u0344", "\u1161", "\u11a8"]
LETTERS = ["a", "e", "A", "\u00e9", "\u01fa", "\u0915", "\u0958", "\u1112", "\uac00", "\u585a", "\u00c5", "\u03b1", " "]
texts = st.text(st.sampled_from([*MARKS, *LETTERS, *SINGLETONS[::40], "\u0340", "\u212b", "\ufa10"]), max_size=25)


@given(texts, st.sampled_from(MODES))
@settings(deadline=None)
def test_idempotent(text: str, mode: Normalize) -> None:
    assert normal(normal(text, mode), mode) == normal(text, mode)


@given(texts, texts)
@settings(deadline=None)
def test_texts_meet_only_where_singletons_and_what_lies_between_are_the_same(one: str, other: str) -> None:
    def told(text: str) -> tuple[list[str], list[str]]:
        singletons = [character for character in text if character in SINGLETONS]
        for character in singletons:
            text = text.replace(character, "\0")
        return singletons, [unicodedata.normalize("NFD", piece) for piece in text.strip(WHITESPACE).split("\0")]

    assert (normal(one) == normal(other)) == (told(one) == told(other))


@given(st.text(st.sampled_from([*MARKS, *LETTERS]), max_size=25), st.sampled_from(["NFC", "NFD"]))
@settings(deadline=None)
def test_equivalent_texts_without_singletons_meet(text: str, spelled: str) -> None:
    assert normal(unicodedata.normalize(spelled, text)) == normal(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("mark", ["\u0903", "\u20dd", "\u0301"], ids=["Mc", "Me", "Mn"])
def test_the_bound_on_marks_is_for_every_category_of_them(mark: str) -> None:
    assert normalize(["e\u0301" + mark * 29], "prompt")[1] == ("nfc",)
    assert normalize(["e\u0301" + mark * 30], "prompt")[1] == ()
