"""The entry's record and an answer's template: whole round trips, and no damage that goes unseen."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pybase64
import pytest
import xxhash
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from cachelayer.core.entry import INLINE_LIMIT, BlobRef, Broken, Entry, Text, decode, encode, join, read_body, split
from cachelayer.core.model import Answer, Cost, Reading, Span
from cachelayer.stores.base import Given


def ref(data: bytes, *, base64: bool = False, image: bool = False) -> BlobRef:
    return BlobRef(blake3(data).hexdigest(), len(data), xxhash.xxh3_64_intdigest(data), base64, "image/png", image)


ENTRY = Entry(
    key="ab" * 32,
    spec=1,
    namespace="default",
    created=1764000000.25,
    expires=None,
    status=200,
    headers=(("content-type", "application/json"), ("x-twice", "1"), ("x-twice", "2")),
    template=(Text(b'{"data":"'), ref(b"picture", base64=True, image=True), Text(b'"}'), ref(b"raw text")),
    cost=Cost(Decimal("0.137934"), "exact", "reported usage"),
    latency=12.5,
    operation="image",
    model="gemini-3-pro-image",
    host="generativelanguage.googleapis.com",
    images=1,
    scope="generativelanguage.googleapis.com/gw",
)

texts = st.text(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
blob_refs = st.builds(
    BlobRef,
    st.text("0123456789abcdef", min_size=64, max_size=64),
    st.integers(0, 2**40),
    st.integers(0, 2**64 - 1),
    st.booleans(),
    texts,
    st.booleans(),
)
costs = st.one_of(
    st.builds(
        Cost,
        st.decimals(0, 10**6, allow_nan=False, allow_infinity=False),
        st.sampled_from(["exact", "estimated"]),
        texts,
    ),
    st.builds(Cost, st.none(), st.just("unpriced"), texts),
)
entries = st.builds(
    Entry,
    key=texts,
    spec=st.integers(0, 99),
    namespace=texts,
    created=numbers,
    expires=st.none() | numbers,
    status=st.integers(100, 599),
    headers=st.lists(st.tuples(texts, texts), max_size=4).map(tuple),
    template=st.lists(st.one_of(st.binary(max_size=40).map(Text), blob_refs), max_size=5).map(tuple),
    cost=costs,
    latency=numbers,
    operation=texts,
    model=texts,
    host=texts,
    images=st.integers(0, 20),
    scope=texts,
    dialect=texts,
    count=st.integers(1, 20),
    size=st.none() | texts,
    tier=st.none() | texts,
    asked_tier=st.none() | texts,
    listed=st.none() | costs,
)


@given(entries)
def test_an_entry_comes_back_as_it_was(entry: Entry) -> None:
    again = decode(encode(entry))
    assert again == entry
    assert str(again.cost.usd) == str(entry.cost.usd)


def test_every_flipped_byte_of_a_record_is_found() -> None:
    record = encode(ENTRY)
    for position in range(len(record)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(record)
            damaged[position] ^= mask
            with pytest.raises(Broken):
                decode(bytes(damaged))


def test_every_truncation_of_a_record_is_found() -> None:
    record = encode(ENTRY)
    for length in range(len(record)):
        with pytest.raises(Broken):
            decode(record[:length])


@pytest.mark.parametrize("tail", [b"\0", b"}", encode(ENTRY)], ids=["zero", "brace", "itself"])
def test_a_record_with_more_behind_it_is_found(tail: bytes) -> None:
    with pytest.raises(Broken):
        decode(encode(ENTRY) + tail)


@given(st.binary(max_size=200))
def test_any_other_bytes_are_no_record(data: bytes) -> None:
    with pytest.raises(Broken):
        decode(data)
    with pytest.raises(Broken):
        decode(b"CLE1" + data)


@pytest.mark.parametrize(
    "head",
    [
        b"{}",
        b"[]",
        b"null",
        b"not json",
        b"\xff\xfe",
        b"",
        b'{"template": [["text", 5]]}',
        b'{"template": [["blob", 1]]}',
        b'{"template": [[]]}',
    ],
)
def test_a_record_with_a_right_checksum_and_a_wrong_head_is_broken(head: bytes) -> None:
    rest = len(head).to_bytes(4, "big") + head
    with pytest.raises(Broken):
        decode(b"CLE1" + xxhash.xxh3_64_digest(rest) + rest)


def test_a_record_that_does_not_say_its_scope_is_whole() -> None:
    record = encode(replace(ENTRY, scope=""))
    head = record[16:].replace(b',"scope":""', b"")
    rest = (int.from_bytes(record[12:16], "big") - len(b',"scope":""')).to_bytes(4, "big") + head
    assert decode(b"CLE1" + xxhash.xxh3_64_digest(rest) + rest) == replace(ENTRY, scope="")


@pytest.mark.parametrize(("size", "blobs"), [(16_383, 0), (16_384, 1), (16_385, 1)])
def test_an_answer_stays_inside_its_entry_only_below_16_kb(size: int, blobs: int) -> None:
    template, kept = split(Answer(200, (), b"x" * size), Reading(None))
    assert len(kept) == blobs
    assert join(template, kept) == b"x" * size


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, tuple[Span, ...]]:
    """A body around some base64 strings, as a dialect would report them."""
    body = b""
    spans: list[Span] = []
    for _ in range(draw(st.integers(0, 4))):
        body += draw(st.binary(max_size=30)) * draw(st.sampled_from([1, 1, 1, 700]))
        data = draw(st.binary(min_size=1, max_size=30)) * draw(st.sampled_from([1, 40, 1000]))
        encoded = pybase64.b64encode(data)
        spans.append(Span(len(body), len(body) + len(encoded), "image/png", draw(st.booleans())))
        body += encoded
    return body + draw(st.binary(max_size=30)), tuple(spans)


@settings(deadline=None)
@given(answers())
def test_split_and_join_are_one_identity(drawn: tuple[bytes, tuple[Span, ...]]) -> None:
    body, spans = drawn
    template, blobs = split(Answer(200, (), body), Reading(None, spans=spans))
    assert join(template, blobs) == body
    assert all(blake3(data).hexdigest() == digest for digest, data in blobs.items())
    entry = replace(ENTRY, template=template)
    assert entry.body_size == len(body)
    assert {blob.digest for blob in entry.blobs} == blobs.keys()
    assert read_body(decode(encode(entry)), Given(blobs).pour) == body
    if len(body) < INLINE_LIMIT:
        assert not blobs
    else:
        assert sum(blob.image for blob in entry.blobs) == sum(span.image for span in spans)
        assert all(len(piece.data) < INLINE_LIMIT for piece in template if isinstance(piece, Text))


@pytest.mark.parametrize(
    "encoded",
    [
        b"QUJD" * 5000 + b"QQ",  # no padding
        b"QUJD\n" + b"QUJD" * 5000,  # line breaks
        b"_-_-" + b"QUJD" * 5000,  # the other alphabet
        b"QUJD" * 5000 + b"QR==",  # bits beyond the last byte
    ],
    ids=["padding", "newline", "urlsafe", "trailing-bits"],
)
def test_what_would_not_come_back_byte_for_byte_is_not_stored(encoded: bytes) -> None:
    body = b'{"data": "' + encoded + b'"}'
    span = Span(10, 10 + len(encoded), "image/png", True)
    with pytest.raises((Broken, ValueError)):  # both are refusals to the runtime, which then does not store
        split(Answer(200, (), body), Reading(None, spans=(span,)))


def test_a_picture_that_stands_twice_is_kept_once() -> None:
    data = bytes(range(256)) * 100
    encoded = pybase64.b64encode(data)
    body = encoded + b"," + encoded
    spans = (
        Span(0, len(encoded), "image/png", True),
        Span(len(encoded) + 1, len(body), "image/png", True),
    )
    template, blobs = split(Answer(200, (), body), Reading(None, spans=spans))
    assert len(blobs) == 1
    assert read_body(replace(ENTRY, template=template), Given(blobs).pour) == body


@pytest.mark.parametrize(
    "found",
    [None, b"", b"pictur", b"pictura", b"picture "],
    ids=["missing", "empty", "short", "flipped", "long"],
)
def test_a_blob_that_is_not_what_it_was_breaks_the_entry(found: Any) -> None:
    there = {blake3(b"raw text").hexdigest(): b"raw text"}
    if found is not None:
        there[blake3(b"picture").hexdigest()] = found
    with pytest.raises(Broken):
        read_body(ENTRY, Given(there).pour)
