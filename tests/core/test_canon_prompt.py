"""Prompt normalisation: what each step joins, what it must keep apart, and that it is idempotent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachelayer.core.model import Normalize
from cachelayer.core.prompt import WHITESPACE, normalize


@pytest.mark.parametrize(
    ("parts", "normal", "steps"),
    [
        (["a cat"], ["a cat"], ()),
        (["cafe\u0301"], ["caf\u00e9"], ("nfc",)),
        (["a\r\nb"], ["a\nb"], ("crlf",)),
        (["a\r\r\nb"], ["a\nb"], ("crlf",)),
        (["a\rb"], ["a\rb"], ()),
        ([" \t a\u3000\n"], ["a"], ("strip",)),
        ([" a ", " b "], ["a ", " b"], ("strip",)),
        (["  "], [""], ("strip",)),
        (["", " b "], ["", " b"], ("strip",)),
        (["\x1ca"], ["\x1ca"], ()),
        (["a  b"], ["a  b"], ()),
        (["A\u030a\r\n"], ["\u00c5"], ("nfc", "crlf", "strip")),
        ([], [], ()),
    ],
)
def test_prompt(parts: list[str], normal: list[str], steps: tuple[str, ...]) -> None:
    assert normalize(parts, "prompt") == (normal, steps)
    assert normalize(parts, "exact") == (parts, ())


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("a  b\n\nc", "a b c"),
        ('a  "b  c"  d', 'a "b  c" d'),
        ("a  “b  c”  d", "a “b  c” d"),
        ("a  „b  c“  d", "a „b  c“ d"),
        ("a  «b  c»  d", "a «b  c» d"),
        ("a  »b  c«  d", "a »b  c« d"),
        ("a  ”b  c”  d", "a ”b  c” d"),
        ("a  「b  c」  d", "a 「b  c」 d"),
        ("a  ‘b  c’  d", "a ‘b  c’ d"),
        ("a  'b  c'  d", "a 'b  c' d"),
        ("a  'don't  b'  d", "a 'don't  b' d"),
        ("don't  stop", "don't stop"),
        ("the dogs'  bowl", "the dogs' bowl"),
        ('a  b "c  d', 'a  b "c  d'),
        ("a  b ’c  d", "a b ’c d"),
    ],
)
def test_loose(text: str, normal: str) -> None:
    assert normalize([text], "loose")[0] == [normal]


def test_a_mark_in_doubt_leaves_the_whole_message() -> None:
    for message in (['a  b "c  d', "e  f"], ["e  f", 'a  b "c  d']):
        assert normalize(message, "loose") == (message, ())


alphabet = st.sampled_from([*WHITESPACE, *"\"'‘’“”„«»‹›「」", "a", "é", "e", "\u0301", "\x1c", "\u200b", "K"])
messages = st.lists(st.one_of(st.text(alphabet, max_size=25), st.text(max_size=15)), max_size=4)


@given(messages, st.sampled_from(["prompt", "loose", "exact"]))
def test_idempotent(parts: list[str], mode: Normalize) -> None:
    once, steps = normalize(parts, mode)
    assert normalize(once, mode) == (once, ())
    assert bool(steps) == (once != parts)


@given(messages)
def test_loose_goes_beyond_prompt_only_in_whitespace(parts: list[str]) -> None:
    prompt, loose = normalize(parts, "prompt")[0], normalize(parts, "loose")[0]
    assert [part.split() for part in prompt] == [part.split() for part in loose]


@pytest.mark.parametrize(
    "text",
    ["x" + "\r" * 1_000_000 + "x", "a" + "\u0301\u0316" * 500_000, "a" + "\u0f73\u0316" * 500_000],
    ids=["CR", "marks", "marks that decompose"],
)
def test_runs_that_took_quadratic_time(text: str) -> None:
    """Hours, before: a test that hangs here has failed."""
    assert normalize([text], "prompt") == ([text], ())


def test_marks_beyond_the_bound_stay_as_they_are() -> None:
    usual, too_many = "e\u0301" + "\u0316" * 29, "e\u0301" + "\u0316" * 30
    assert normalize([usual], "prompt")[1] == ("nfc",)
    assert normalize([too_many], "prompt") == ([too_many], ())
    # Thirty in a row is the bound, however often; signs that are no marks have none.
    assert normalize([usual * 2], "prompt")[1] == ("nfc",)
    assert normalize(["\U0001f600" * 99 + "e\u0301"], "prompt")[1] == ("nfc",)
