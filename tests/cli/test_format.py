"""Figures for people."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachelayer.cli import format


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        ("0", "$0.00"),
        ("0.137934", "$0.1379"),
        ("0.0011", "$0.0011"),
        ("0.00004", "under $0.0001"),
        ("0.99996", "$1.0000"),
        ("12.345", "$12.34"),
        ("1234567.5", "$1,234,567.50"),
    ],
)
def test_dollars(usd: str, text: str) -> None:
    assert format.dollars(Decimal(usd)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.35, "350 ms"),
        (0.9996, "1.0 s"),
        (12.34, "12.3 s"),
        (59.96, "1 min 00 s"),
        (243.0, "4 min 03 s"),
        (3720.0, "1 h 02 min"),
        (3599.7, "1 h 00 min"),
        (273_600.0, "3 d 4 h"),
        (-2.0, "-2.0 s"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert format.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (5 * 10**15, "5,000.0 TB")]
)
def test_size(count: int, text: str) -> None:
    assert format.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (7200, "2 h"), (1e9, "11,574 d")]
)
def test_age(seconds: float, text: str) -> None:
    assert format.age(seconds) == text


@given(st.recursive(st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner)))
def test_json_for_a_terminal_means_the_same_and_steers_nothing(value: object) -> None:
    text = format.json_text(value)
    assert json.loads(text) == value
    assert all(letter == "\n" or format.visible(letter) == letter for letter in text)


@given(st.text())
def test_visible_text_is_one_line_without_controls(text: str) -> None:
    shown = format.visible(text)
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in shown)
    assert len(shown.splitlines()) <= 1
