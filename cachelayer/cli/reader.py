"""A store read without touching it: nothing is made, upgraded, moved aside, evicted or counted as a use.

Opening a store to work with does all of that, rightly; a command that only looks must not.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from cachelayer.cli.failure import USAGE, Failure
from cachelayer.core.entry import Broken, Entry, decode, read_body
from cachelayer.stores.base import Head, Parcel, Sizes
from cachelayer.stores.local import open_to_look
from cachelayer.stores.local.verify import Problem


class Reader:
    """An existing store. Raises StoreError from every method when the index cannot be read."""

    def __init__(self, path: Path) -> None:
        self._store = open_to_look(path)

    def sizes(self) -> Sizes:
        """What it holds, in bytes on disk as size_limit counts them."""
        return self._store.sizes()

    def newest(self, limit: int) -> list[tuple[str, Entry | None]]:
        """(key, entry) of the newest entries; None where the record is damaged."""
        return [(head.key, self.entry(head.key)) for head in islice(self._store.heads(), limit)]

    def key_of(self, prefix: str) -> str:
        """The one key that begins with these digits. Raises Failure when there is none, or several."""
        digits = prefix.lower()
        if not digits or len(digits) > 64 or set(digits) - set("0123456789abcdef"):
            raise Failure(f"{prefix!r} is no key: a key is up to 64 hex digits, as `cachelayer ls` shows them", USAGE)
        heads = list(islice(self._store.heads(digits), 2))
        if not heads:
            raise Failure(f"no entry has the key {prefix}")
        if len(heads) > 1:
            raise Failure(f"several entries have a key that begins with {prefix}; give more digits")
        return heads[0].key

    def entry(self, key: str) -> Entry | None:
        """The entry under a key, None when it is not there or damaged."""
        parcel = self._parcel(key)
        try:
            return None if parcel is None else decode(parcel.record)
        except Broken:
            return None

    def head(self, key: str) -> Head | None:
        """When it was stored and last used."""
        return next(self._store.heads(key), None)

    def canonical(self, key: str) -> bytes | None:
        """The canonical request of an entry, None when it was not kept or is damaged."""
        parcel = self._parcel(key)
        return None if parcel is None else parcel.contents.canonical()

    def body(self, entry: Entry) -> bytes:
        """The answer that an entry rebuilds to, verified. Raises Broken."""
        parcel = self._parcel(entry.key)
        if parcel is None:
            raise Broken("it is gone")
        return read_body(entry, parcel.contents.pour)

    def problems(self) -> list[Problem]:
        """What is wrong with the content, every byte read."""
        return self._store.verify(deep=True)

    def close(self) -> None:
        """Let go of the index."""
        self._store.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _parcel(self, key: str) -> Parcel | None:
        found = self._store.fetch(key)
        return found if isinstance(found, Parcel) else None
