"""Strict parsing, and that setting strings aside never changes what a document means."""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cachelayer.core.jsonspan import Malformed, parse
from cachelayer.dialects.wire.media import Long, request_taker

BASE64 = b"QUJDREVGR0hJSktM"  # 16 characters

MALFORMED = {
    "empty": b"",
    "cut off": b'{"a": [1, 2',
    "two documents": b"{} {}",
    "duplicate keys": b'{"a":1,"a":1}',
    "duplicate keys, nested": b'[{"x":{"a":1,"b":2,"a":3}}]',
    "duplicate keys, one escaped": b'{"a":1,"\\u0061":1}',
    "NaN": b'{"a":NaN}',
    "Infinity": b"[Infinity]",
    "-Infinity": b"[-Infinity]",
    "float overflow": b"[1e400]",
    "huge integer": b"[" + b"9" * 5000 + b"]",
    "huger integer": b"9" * 1_000_000,
    "lone surrogate": b'["\\ud800"]',
    "lone surrogate as a key": b'{"\\uDFFF":1}',
    "surrogates in the wrong order": b'["\\udc00\\ud800"]',
    "encoded surrogate": b'["\xed\xa0\x80"]',
    "invalid UTF-8": b'["\xff"]',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "control character": b'["a\nb"]',
    "nested 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "objects nested 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "comment": b"[1] // no",
    "single quotes": b"{'a':1}",
    "trailing comma": b"[1,]",
    "leading zero": b"[01]",
}


def both(body: bytes, shortest: int = 8) -> tuple[Any, Any]:
    """The value by the plain way and by the lexing way, strings put back in place."""
    return outcome(lambda: parse(body)), outcome(
        lambda: restored(parse(body, request_taker(body), lex_from=0, shortest=shortest))
    )


def outcome(read: Any) -> Any:
    try:
        return read()
    except Malformed:
        return Malformed


def restored(value: Any) -> Any:
    if isinstance(value, Long):
        return value.text()
    if isinstance(value, list):
        return [restored(item) for item in value]
    if isinstance(value, dict):
        return {name: restored(item) for name, item in value.items()}
    return value


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name: str) -> None:
    with pytest.raises(Malformed):
        parse(MALFORMED[name])


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_beside_a_long_string(name: str) -> None:
    body = b'["' + BASE64 * 10 + b'",' + MALFORMED[name] + b"]"
    with pytest.raises(Malformed):
        parse(body, request_taker(body), lex_from=0, shortest=100)


@pytest.mark.parametrize("name", [name for name in MALFORMED if name.startswith("duplicate")])
def test_leniently_the_last_of_a_name_counts(name: str) -> None:
    assert parse(MALFORMED[name], lenient=True) == json.loads(MALFORMED[name])


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert parse(b'["\\ud83d\\ude00"]') == ["\U0001f600"]


def test_long_strings_are_cut() -> None:
    body = b'{"a":"' + BASE64 + b'","b":["x","data:image/png;base64,' + BASE64 + b'"],"c":"' + BASE64[:-1] + b'!"}'
    value = parse(body, request_taker(body), lex_from=0, shortest=16)
    assert isinstance(value["a"], Long)
    assert value["a"].mime is None
    assert isinstance(value["b"][1], Long)
    assert value["b"][1].mime == "image/png"
    assert value["c"] == BASE64[:-1].decode() + "!"
    assert value["a"].size == 12


@pytest.mark.parametrize(
    "body",
    [
        b'{"' + BASE64 + b'":1}',
        b'{"' + BASE64 + b'":1,"' + BASE64 + b'":2}',
        b'["\\"' + BASE64 + b'"]',
        b'["\\\\"' + BASE64 + b'"]',
        b'["' + BASE64 + b'\\"]',
        b'["a"' + BASE64 + b'"b"]',
        b'["a" "' + BASE64 + b'"]',
        b'"' + BASE64 + b'"',
        b'"' + BASE64,
        BASE64 + b'"',
        b'["a"data:;base64,' + BASE64 + b'"b"]',
        b'["data:\\";base64,' + BASE64 + b'"]',
        b'["data:image\\/png;base64,' + BASE64 + b'"]',
        b'["data:\x01;base64,' + BASE64 + b'"]',
        b'["data:\xc3\xa9;base64,' + BASE64 + b'"]',
        b'["data:\xff;base64,' + BASE64 + b'"]',
    ],
)
def test_look_alikes(body: bytes) -> None:
    plain, lexed = both(body)
    assert repr(plain) == repr(lexed)


tokens = st.sampled_from(
    [b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b" ", b"1", b"a", BASE64, b"data:image/png;base64,", b"\n", b"=="]
)


@given(st.lists(tokens, max_size=30).map(b"".join))
@example(b'["' + BASE64 + b'","' + BASE64 + b'"]')
def test_lexing_never_changes_the_meaning_of_any_bytes(body: bytes) -> None:
    plain, lexed = both(body)
    assert repr(plain) == repr(lexed)


strings = st.one_of(
    st.text(max_size=30),
    st.binary(min_size=6, max_size=40).map(lambda data: base64.b64encode(data).decode()),
    st.binary(min_size=6, max_size=40).map(
        lambda data: "data:image/webp;base64," + base64.urlsafe_b64encode(data).decode()
    ),
)
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), strings),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(strings, inner, max_size=4)),
    max_leaves=12,
)


@given(documents, st.booleans(), st.sampled_from([None, 1]))
def test_lexing_never_changes_the_meaning_of_json(document: Any, ascii_only: bool, indent: int | None) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode("utf-8")
    plain, lexed = both(body)
    assert repr(plain) == repr(lexed) == repr(document)


def test_a_dense_document_is_lexed_in_large_steps() -> None:
    """Counts the steps, not the time: one per `shortest` bytes, however many quotation marks there are."""
    body = b"[" + b'"a",' * 50_000 + b'"a"]'
    steps = 0

    def trace(frame: Any, event: str, _argument: object) -> Any:
        nonlocal steps
        if frame.f_code.co_name != "_cut":
            return None
        steps += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        parse(body, request_taker(body), lex_from=0, shortest=4096)
    finally:
        sys.settrace(before)
    assert 0 < steps < 20 * (len(body) / 4096 + 2)
