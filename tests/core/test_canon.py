"""The byte form, the key and what is read back from them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from cachelayer.core.canon import (
    ABSENT,
    KEY_VERSION,
    differences,
    escape,
    fields,
    finite,
    is_reference,
    key_of,
    number,
    reference,
    serialize,
)

counts = st.integers(min_value=0, max_value=2**64 - 1)


def test_the_framing_is_as_documented() -> None:
    framed = (1).to_bytes(8, "big") + (5).to_bytes(8, "big") + b'{"a"}' + (3).to_bytes(8, "big")
    assert KEY_VERSION == 1
    assert key_of(b'{"a"}', 3) == blake3(framed).hexdigest()


@given(st.binary(), counts, st.binary(), counts)
def test_the_framing_is_injective(a: bytes, n: int, b: bytes, m: int) -> None:
    # The framed bytes themselves, not only their hash: two pairs share them only if they are one pair.
    assert (key_of(a, n) == key_of(b, m)) == ((a, n) == (b, m))


@given(st.binary(max_size=40), st.integers(0, 40), counts, counts)
def test_no_byte_moves_between_form_and_count(data: bytes, cut: int, n: int, m: int) -> None:
    shorter = data[: min(cut, len(data))]
    if shorter != data:
        assert key_of(data, n) != key_of(shorter, m)


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        (1.0, b"1"),
        (-0.0, b"0"),
        (1e2, b"100"),
        (0.5, b"0.5"),
        (0.1, b"0.1"),
        (float(2**53 - 1), b"9007199254740991"),
        (float(2**53), b"9007199254740992.0"),
        (2**53, b"9007199254740992"),
        (10**400, b"1" + b"0" * 400),
        (True, b"true"),
    ],
)
def test_numbers_have_one_spelling(value: Any, canonical: bytes) -> None:
    assert serialize(value if isinstance(value, bool) else number(value)) == canonical


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_number_reads_back_as_itself(value: float) -> None:
    again = json.loads(serialize(number(value)))
    assert again == value
    assert serialize(number(again)) == serialize(number(value))


def test_a_number_beyond_a_double_is_refused() -> None:
    with pytest.raises(ValueError, match="out of range"):
        finite("1e400")


def test_the_form_is_sorted_compact_utf8() -> None:
    assert serialize({"b": 1, "a": ["é", None], "\U0001f600": {}, "\uffee": 2}) == (
        '{"a":["é",null],"b":1,"\uffee":2,"\U0001f600":{}}'.encode()
    )


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, float("nan"), float("inf")])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        serialize(value)


@given(st.text(), st.text())
def test_escaping_is_injective_and_never_spells_a_reference(a: str, b: str) -> None:
    assert (escape(a) == escape(b)) == (a == b)
    assert not is_reference({escape(a): ["0" * 64, 1]})


def test_fields_are_readable() -> None:
    form = {"body": {"$$blob": "a user's own key", "image": reference("ab" * 32, 7), "x": [1]}, "scope": "h"}
    assert fields(serialize(form)) == {
        "body": {"$blob": "a user's own key", "image": f"blake3:{'ab' * 32} (7 bytes)", "x": [1]},
        "scope": "h",
    }


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"{", b"\xff"])
def test_fields_of_something_else(data: bytes) -> None:
    with pytest.raises(ValueError):
        fields(data)


def test_differences_name_the_field() -> None:
    a = serialize({"body": {"parts": [{"text": "a"}, {"text": "b"}], "seed": 1, "same": {}}, "scope": "h"})
    b = serialize({"body": {"parts": [{"text": "a"}, {"text": "c"}], "seed": True, "same": {}, "new": None}})
    assert differences(a, b) == [
        ("body.new", ABSENT, None),
        ("body.parts.1.text", "b", "c"),
        ("body.seed", 1, True),
        ("scope", "h", ABSENT),
    ]
    assert differences(a, a) == []


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({"x": [1]}, {"x": {"0": 1}}, [("x", [1], {"0": 1})]),
        ({"x.y": 1}, {"x": {"y": 1}}, [("x.y", 1, ABSENT), ("x.y", ABSENT, 1)]),
        ({"x": ABSENT}, {}, [("x", ABSENT, ABSENT)]),
        ({"x": []}, {"x": {}}, [("x", [], {})]),
        ({"x": [1, [2]]}, {"x": [1]}, [("x.1.0", 2, ABSENT)]),
        ({"x": reference("ab", 1)}, {"x": {"y": 1}}, [("x", "blake3:ab (1 bytes)", {"y": 1})]),
        ({"x": reference("ab", 1)}, {"x": "blake3:ab (1 bytes)"}, [("x", *["blake3:ab (1 bytes)"] * 2)]),
        ({"x": {"$$a": 1}}, {}, [("x.$a", 1, ABSENT)]),
    ],
)
def test_differences_of_what_reads_alike(a: Any, b: Any, expected: Any) -> None:
    assert sorted(differences(serialize(a), serialize(b)), key=repr) == sorted(expected, key=repr)


json_trees = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from(["", "a", ABSENT])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["", "0", "1", "a", "a.0", "."]), inner, max_size=3),
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["a", "0", "a.0"]), json_trees), st.dictionaries(st.just("a"), json_trees))
def test_two_forms_that_differ_have_a_difference(a: Any, b: Any) -> None:
    first, second = serialize(a), serialize(b)
    assert bool(differences(first, second)) == (first != second)
    assert differences(first, first) == []
