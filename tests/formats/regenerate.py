"""Writes tests/formats/next: a folder of today's format, as the tests of tomorrow's versions will find it.

    python -m tests.formats.regenerate

While nothing is released, a change of format is followed by this command and by the new number in test_formats.py.
With each release ``next`` gets the release's name, and is never written again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import xxhash
from blake3 import blake3

from cachelayer.core.entry import BlobRef, Entry, Text, encode
from cachelayer.core.model import Asked, Cost, Event, Outcome
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.lines import Evicted, Fault, NotKept, encode_begun, sealed
from cachelayer.ledger.lines import encode as line
from cachelayer.stores.base import Given, Parcel
from cachelayer.stores.local import open_local

NEXT = Path(__file__).with_name("next")

LATER = sealed(b'{"v":9,"kind":"budget","usd":"5"}')
"""A line that no version has written yet."""

IMAGE = bytes(range(256)) * 128
"""A blob that two entries share."""


def entries() -> dict[str, tuple[Entry, dict[str, bytes]]]:
    """What is in the store, by a name: the entry, and its blobs by digest."""
    digest = blake3(IMAGE).hexdigest()
    image = BlobRef(digest, len(IMAGE), xxhash.xxh3_64_intdigest(IMAGE), True, "image/png", True)
    made = {}
    for name, template in {
        "small": (Text(b'{"data":[]}'),),
        "image": (Text(b'{"data":[{"b64_json":"'), image, Text(b'"}]}')),
        "same image": (Text(b'{"data":[{"b64_json":"'), image, Text(b'"}],"usage":null}')),
    }.items():
        entry = Entry(
            key=blake3(name.encode()).hexdigest(),
            spec=1,
            namespace="default",
            created=1_790_000_000.0,
            expires=None if name == "small" else 4_000_000_000.0,
            status=200,
            headers=(("content-type", "application/json"),),
            template=template,
            cost=Cost(Decimal("0.04"), "exact", "list price"),
            latency=12.5,
            operation="image",
            model="gpt-image-2",
            host="api.openai.com",
            images=len(template) // 2,
            scope="api.openai.com/v1",
            dialect="openai-images",
            size="1024x1024",
            listed=Cost(Decimal("0.05"), "exact", "list price"),
        )
        made[name] = entry, ({digest: IMAGE} if len(template) > 1 else {})
    return made


def write_store(folder: Path) -> None:
    """The store's half."""
    store = open_local(folder, size_limit=10_000_000, clock=lambda: 1_790_000_000.0)
    for name, (entry, blobs) in entries().items():
        canonical = b'{"prompt":"%s"}' % name.encode()
        parcel = Parcel(entry.key, encode(entry), Given(blobs, canonical))
        assert store.put(parcel, expires=entry.expires)
    store.close()


OWNER = "0123456789abcde"
"""Who wrote the ledger. He is dead."""


def outcomes() -> list[Event]:
    """What is in the ledger, oldest first; the last call was lost."""
    cost, lost = Cost(Decimal("0.04"), "exact", "list price"), "killed before its usage was known"
    at, model, host = 1_790_000_000.0, "gpt-image-2", "api.openai.com"
    image = Event(Outcome.MISS, at, "default", "image", model, "1024x1024", host, "ab" * 32)
    paid = replace(image, status=200, images=1, latency=12.5)
    return [
        replace(paid, upstream=1, spent=cost, wait=12.5, normalized=("nfc",), tags=("blog",), call=f"{OWNER}-0"),
        replace(paid, outcome=Outcome.HIT, at=at + 1, saved=cost, wait=0.01, broken=1),
        replace(image, outcome=Outcome.BYPASS, at=at + 2, namespace="other", reason="operation-off", upstream=1,
                spent=Cost(None, "unpriced", "no usage")),
        replace(image, outcome=Outcome.ERROR, at=at + 3, reason="lost", upstream=1,
                spent=Cost(None, "unpriced", lost)),
    ]  # fmt: skip


def write_ledger(folder: Path) -> None:
    """The ledger's half: a part is folded, the rest left in a segment by a process that was killed."""
    miss, hit, bypass, lost = outcomes()
    notes: list[NotKept | Evicted | Fault] = [
        NotKept(1_790_000_004.0, "no-room", "default", "gpt-image-2", "api.openai.com", None),
        Evicted(1_790_000_005.0, 3, Decimal("0.12")),
        Fault(1_790_000_006.0, "read an entry", "OSError", 7),
    ]
    asked = Asked(str(lost.key), b"{}", "openai-images", "image", lost.model, "", lost.host, "default", 1, False, None)
    begun = [encode_begun(f"{OWNER}-{number}", replace(asked, size=lost.size), lost.at) for number in range(2)]
    ledger = folder / "ledger"
    ledger.mkdir(mode=0o700)
    segment = ledger / f"{OWNER}-000001.segment"
    segment.write_bytes(b"".join([begun[0], line(miss), line(hit), *map(line, notes), LATER]))
    Ledger(ledger).fold()
    (ledger / f"{OWNER}-000002.segment").write_bytes(b"".join([line(bypass), begun[1], *map(line, notes), LATER]))
    (ledger / "segments.lock").unlink()


HALVES: tuple[Callable[[Path], None], ...] = (write_store, write_ledger)
"""What writes the folder, each its own room's part."""


def main() -> None:
    shutil.rmtree(NEXT, ignore_errors=True)
    for write in HALVES:
        write(NEXT)
    for empty in ("incoming", "trash"):  # no version control keeps empty folders, and every store makes them
        (NEXT / empty).rmdir()
    (NEXT / "writers.lock").unlink()


if __name__ == "__main__":
    main()
