"""What a later version writes is no damage to this one: it is counted as far as it is known, and kept."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import xxhash

from cachelayer.core.model import Event
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.lines import Damaged, Evicted, Fault, Later, NotKept, decode, encode
from cachelayer.ledger.reports import totals

OWNER = "0123456789abcde"


def forge(payload: Any) -> bytes:
    data = json.dumps(payload).encode()
    return xxhash.xxh3_64_hexdigest(data).encode() + b" " + data + b"\n"


def fields(line: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line[17:])
    return found


def leave(folder: Path, *lines: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{OWNER}-000001.segment").write_bytes(b"".join(lines))


def kept(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db:
        return [value for (value,) in db.execute(query)]


@pytest.mark.parametrize("version", [1, 2])
def test_an_unknown_field_is_kept_beside_what_is_known(ledger: Ledger, folder: Path, hit: Event, version: int) -> None:
    assert hit.saved
    later = fields(encode(hit)) | {"v": version, "variant": 3, "why": ["a", "b"]}
    later["saved"]["currency"] = "EUR"
    leave(folder, forge(later), encode(hit))
    assert totals(ledger, store_sizes=(0, 0, 0)).saved_usd == 2 * Decimal("0.137934")
    assert ledger.events() == [hit, hit]
    assert ledger.damaged() == 0
    extra = kept(folder, "SELECT extra FROM events WHERE extra IS NOT NULL")
    assert [json.loads(text) for text in extra] == [{"variant": 3, "why": ["a", "b"], "saved": {"currency": "EUR"}}]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "lease"},
        {"v": 2, "kind": "lease", "outcome": None},
        {"v": 2, "outcome": "REFUNDED"},
        {"v": 2, "at": "2031-01-01"},
        {"v": 7, "saved": {"units": 3}},
    ],
    ids=str,
)
def test_a_line_that_only_a_later_version_can_read_is_kept_as_it_came(
    ledger: Ledger, folder: Path, hit: Event, change: dict[str, Any]
) -> None:
    line = forge(fields(encode(hit)) | change)
    assert decode(line) == (Later(line[17:-1].decode()), None)
    leave(folder, encode(hit), line, encode(hit))
    assert ledger.events() == [hit, hit]
    assert ledger.damaged() == 0
    assert kept(folder, "SELECT line FROM later") == [line[17:-1].decode()]
    assert list(folder.glob("*.segment")) == []


@pytest.mark.parametrize(
    "change", [{"v": 0}, {"v": "1"}, {"v": True}, {"v": None}, {"kind": 1}, {"kind": None}], ids=str
)
def test_what_is_a_line_of_no_version_is_damage(hit: Event, change: dict[str, Any]) -> None:
    with pytest.raises(Damaged):
        decode(forge(fields(encode(hit)) | change))
    for name in ("v", "kind"):
        with pytest.raises(Damaged):
            decode(forge({key: value for key, value in fields(encode(hit)).items() if key != name}))


@pytest.mark.parametrize(
    "note",
    [
        Evicted(1.5, 3, Decimal("0.402")),
        Fault(1.5, "read an entry", "OSError", 7),
        NotKept(1.5, "no-room", "default", "m", "h", None),
    ],
    ids=lambda note: type(note).__name__,
)
def test_other_kinds_come_back_as_they_were_and_may_grow_too(
    ledger: Ledger, folder: Path, note: Evicted | Fault | NotKept
) -> None:
    assert decode(encode(note)) == (note, None)
    leave(folder, encode(note), forge(fields(encode(note)) | {"tier": "shared"}))
    for _ in range(2):  # read from the segment, and from the table
        found = ledger.look(lambda view: [each for notes in view.notes(None) for each in notes])
        assert found == [note, note]
    assert kept(folder, "SELECT extra FROM notes WHERE extra IS NOT NULL") == ['{"tier":"shared"}']
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as db, db:
        db.execute("UPDATE notes SET count = -1, usd = 'x', at = 'now' WHERE rowid = 1")
    assert ledger.look(lambda view: [each for notes in view.notes(None) for each in notes]) == [note]
