"""The smallest store: a dict. That it passes the conformance suite shows that the suite asks for nothing local."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from cachelayer.core.entry import Version, decode
from cachelayer.core.errors import StoreError
from cachelayer.stores.base import NONE, Evicted, Given, Head, Parcel, Sizes


@dataclass
class Shelf:
    """What several stores of one place share."""

    kept: dict[str, tuple[Parcel, Head]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class MemoryStore:
    def __init__(self, shelf: Shelf, clock: Callable[[], float] = time.time) -> None:
        self._shelf: Shelf | None = shelf
        self._clock = clock

    def _open(self) -> dict[str, tuple[Parcel, Head]]:
        if self._shelf is None:
            raise StoreError("the store is closed")
        return self._shelf.kept

    def fetch(self, key: str) -> Parcel | None:
        found = self._open().get(key)
        return None if found is None else found[0]

    def put(self, parcel: Parcel, *, expires: float | None = None, replace: Version | None = None) -> bool:
        kept, whole = self._open(), _in_memory(parcel)
        assert self._shelf is not None
        with self._shelf.lock:
            there = kept.get(parcel.key)
            if there is not None and there[0].version != replace:
                return False
            now = self._clock()
            kept[parcel.key] = whole, Head(parcel.key, now, now, expires, len(parcel.record))
            return True

    def delete(self, keys: Iterable[str]) -> int:
        return sum(self._open().pop(key, None) is not None for key in keys)

    def heads(self, prefix: str = "") -> Iterator[Head]:
        heads = [head for key, (_, head) in self._open().items() if key.startswith(prefix)]
        yield from sorted(heads, key=lambda head: (head.stored, head.key), reverse=True)

    def sizes(self) -> Sizes:
        blobs = {ref.digest: ref.size for parcel, _ in self._open().values() for ref in decode(parcel.record).blobs}
        records = sum(head.size for _, head in self._open().values())
        return Sizes(len(self._open()), len(blobs), records + sum(blobs.values()))

    def take_evicted(self) -> Evicted:
        return NONE

    def close(self) -> None:
        self._shelf = None


def _in_memory(parcel: Parcel) -> Parcel:
    blobs = {ref.digest: parcel.contents.blob(ref.digest) for ref in decode(parcel.record).blobs}
    whole = {digest: data for digest, data in blobs.items() if data is not None}
    if len(whole) != len(blobs):
        raise StoreError("a blob is missing")
    return parcel._replace(contents=Given(whole, parcel.contents.canonical()), version=parcel.record)
