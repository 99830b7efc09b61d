"""A line carries its event unchanged, carries nothing else, and no damage passes for an event."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from cachelayer.core.errors import LedgerError
from cachelayer.core.model import Cost, Event, Outcome
from cachelayer.ledger.lines import LINE_LIMIT, TEXT_LIMIT, Damaged, decode, encode

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=TEXT_LIMIT)
counts = st.integers(0, 2**31 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
money = st.decimals(0, 10**12, places=15)
costs = st.one_of(
    st.none(),
    st.builds(Cost, money, st.sampled_from(["exact", "estimated"]), texts),
    st.builds(Cost, st.none(), st.just("unpriced"), texts),
)
events = st.builds(
    Event,
    outcome=st.sampled_from(Outcome),
    at=numbers,
    namespace=texts,
    operation=texts,
    model=texts,
    size=st.none() | texts,
    host=texts,
    key=st.none() | texts,
    reason=st.none() | texts,
    status=st.none() | counts,
    upstream=counts,
    spent=costs,
    saved=costs,
    images=counts,
    wait=numbers,
    latency=st.none() | numbers,
    broken=counts,
    normalized=st.lists(texts, max_size=4).map(tuple),
    tags=st.lists(texts, max_size=32).map(tuple),
    call=st.none() | st.from_regex(r"\A[0-9a-f]{15}-[0-9]{1,18}\Z"),
)


def forge(payload: object) -> bytes:
    """A line with a right checksum around anything."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return xxhash.xxh3_64_hexdigest(data).encode() + b" " + data + b"\n"


@given(events)
def test_an_event_comes_back_as_it_was_in_one_line(event: Event) -> None:
    line = encode(event)
    assert decode(line) == (event, None)
    assert line.count(b"\n") == 1
    assert len(line) < LINE_LIMIT


@given(events, st.data())
def test_no_changed_byte_passes_for_an_event(event: Event, data: st.DataObject) -> None:
    line = bytearray(encode(event))
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Damaged):
        decode(bytes(line))


@given(events, st.data())
def test_no_part_of_a_line_passes_for_an_event(event: Event, data: st.DataObject) -> None:
    line = encode(event)
    with pytest.raises(Damaged):
        decode(line[: data.draw(st.integers(0, len(line) - 1))])


def outcome(line: bytes) -> Event:
    found, _ = decode(line)
    assert isinstance(found, Event)
    return found


def test_the_schema_is_closed_and_has_no_room_for_a_prompt(hit: Event) -> None:
    """The canary: what an Event has no field for cannot be written, and what it has fields for is short."""
    payload = json.loads(encode(hit)[17:])
    assert list(payload) == ["v", "kind", *(field.name for field in dataclasses.fields(Event))]
    assert list(payload["saved"]) == ["usd", "pricing", "reason"]
    prompt = "a prompt that somebody would rather not find on a disk " * 20
    line = encode(
        replace(
            hit,
            namespace=prompt,
            operation=prompt,
            model=prompt,
            host=prompt,
            key=prompt,
            reason=prompt,
            saved=Cost(Decimal(1), "exact", prompt),
            normalized=(prompt,) * 100,
            tags=(prompt,) * 100,
        )
    )
    assert prompt.encode() not in line
    assert all(len(text) <= TEXT_LIMIT for text in outcome(line).tags)
    assert len(line) < LINE_LIMIT


def test_the_longest_event_fits_into_a_line(hit: Event) -> None:
    worst = "\x01" * TEXT_LIMIT  # six bytes each in JSON
    names: dict[str, Any] = dict.fromkeys(("namespace", "operation", "model", "host", "key", "reason"), worst)
    cost = Cost(Decimal(1), "exact", worst)
    event = replace(hit, **names, spent=cost, saved=cost, normalized=("nfc",) * 4, tags=(worst,) * 32)
    assert decode(encode(event)) == (event, None)
    assert len(encode(event)) < LINE_LIMIT


def test_lone_surrogates_do_not_lose_the_outcome(hit: Event) -> None:
    assert outcome(encode(replace(hit, model="x\ud800y"))).model == "x?y"


@pytest.mark.parametrize(
    "wrong",
    [
        {"at": float("nan")},
        {"wait": float("inf")},
        {"latency": float("nan")},
        {"upstream": -1},
        {"images": 2**31},
        {"broken": True},
        {"saved": Cost(Decimal("-1"), "exact", "")},
        {"saved": Cost(Decimal("NaN"), "exact", "")},
        {"saved": Cost(Decimal("1E+50"), "exact", "")},
        {"spent": Cost(None, "exact", "")},
        {"spent": Cost(Decimal(0), "unpriced", "")},
    ],
)
def test_what_no_report_could_add_up_is_refused(hit: Event, wrong: dict[str, Any]) -> None:
    with pytest.raises(LedgerError):
        encode(replace(hit, **wrong))


def test_money_is_written_in_plain_digits(hit: Event) -> None:
    line = encode(replace(hit, saved=Cost(Decimal("1E-9"), "exact", "")))
    assert b'"usd":"0.000000001"' in line
    assert outcome(line).saved == Cost(Decimal("1E-9"), "exact", "")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("outcome", "WIN"),
        ("at", "yesterday"),
        ("at", None),
        ("namespace", 1),
        ("namespace", "x" * (TEXT_LIMIT + 1)),
        ("model", "\ud800"),
        ("upstream", 2**31),
        ("upstream", 1.5),
        ("images", True),
        ("spent", {"usd": 0.5, "pricing": "exact", "reason": ""}),
        ("spent", {"usd": "1e5", "pricing": "exact", "reason": ""}),
        ("spent", {"usd": "1", "pricing": "free", "reason": ""}),
        ("spent", ["usd"]),
        ("tags", "blog"),
        ("tags", [["blog"]]),
        ("tags", ["x"] * 33),
    ],
)
def test_a_forged_line_is_damage_and_not_a_crash(hit: Event, field: str, value: object) -> None:
    payload = json.loads(encode(hit)[17:])
    assert decode(forge(payload)) == (hit, None)
    with pytest.raises(Damaged):
        decode(forge(payload | {field: value}))


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 20_000, b'{"at":1e999}'])
def test_a_forged_line_of_another_shape_is_damage(payload: bytes) -> None:
    with pytest.raises(Damaged):
        decode(forge(payload))
