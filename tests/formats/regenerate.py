"""Writes tests/formats/next: a folder of today's format, as the tests of tomorrow's versions will find it.

    python -m tests.formats.regenerate

While nothing is released, a change of format is followed by this command and by the new number in test_formats.py.
With each release ``next`` gets the release's name, and is never written again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import xxhash
from blake3 import blake3

from cachelayer.core.entry import BlobRef, Entry, Text, encode
from cachelayer.core.model import Cost
from cachelayer.stores.base import Given, Parcel
from cachelayer.stores.local import open_local

NEXT = Path(__file__).with_name("next")

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


HALVES: tuple[Callable[[Path], None], ...] = (write_store,)
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
