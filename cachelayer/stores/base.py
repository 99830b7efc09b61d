"""What the runtime asks of a store. Only the protocols and what travels through them live here.

Stores are synchronous; the async driver calls them from threads of its own. They are safe for threads, tasks and
processes at once. They hold bytes: whether a record is whole, fresh and the asker's is decided by core.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, Protocol

from cachelayer.core.entry import Take, Version


class Contents(Protocol):
    """What belongs to an entry beside its record, read only when it is wanted. Raises StoreError (or OSError) when that
    cannot be had now; nothing is verified."""

    def pour(self, digest: str, buffer: memoryview, take: Take) -> bool:
        """Read a blob from its beginning through the caller's buffer; False when there is no such blob.

        Each piece is handed to ``take``, and fills the buffer unless it is the last; where ``take`` says False, the
        rest is left unread. Through a buffer, because fresh memory for a large blob costs more than reading it.
        Nothing is kept open afterwards.
        """
        ...

    def blob(self, digest: str) -> bytes | None:
        """All bytes of a blob, None when there is no such blob. Off the hit path."""
        ...

    def canonical(self) -> bytes | None:
        """The canonical request, None when it is not kept. Off the hit path."""
        ...


class Parcel(NamedTuple):
    """An entry as it travels into stores and out of them."""

    key: str
    record: bytes
    contents: Contents
    version: Version | None = None
    """Names exactly this entry where it was found, for a put that is to replace no other; None: it comes from none."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """Something lies under the key that is no entry of ours."""

    version: Version


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of an entry without reading it. Times are unix seconds."""

    key: str
    stored: float
    used: float
    """When it was last found or put, as far as that has been written down."""
    expires: float | None
    size: int
    """Bytes of its record."""


class Sizes(NamedTuple):
    """What a store holds."""

    entries: int = 0
    blobs: int = 0
    bytes: int = 0
    """What it takes now, as its size limit counts."""


@dataclass(frozen=True, slots=True)
class Evicted:
    """Entries that had not expired and were dropped for room."""

    entries: int = 0
    usd: Decimal = Decimal(0)
    """What they had cost, by their own frozen costs; those without a price count as 0."""

    def __add__(self, other: Evicted) -> Evicted:
        return Evicted(self.entries + other.entries, self.usd + other.usd)


NONE = Evicted()


@dataclass(frozen=True, slots=True)
class Given:
    """Contents that are in memory."""

    blobs: Mapping[str, bytes]
    request: bytes | None = None

    def pour(self, digest: str, buffer: memoryview, take: Take) -> bool:
        data = self.blobs.get(digest)
        for start in range(0, len(data or b""), len(buffer)):
            if not take(memoryview(data or b"")[start : start + len(buffer)]):
                break
        return data is not None

    def blob(self, digest: str) -> bytes | None:
        return self.blobs.get(digest)

    def canonical(self) -> bytes | None:
        return self.request


class Store(Protocol):
    """A tier. Every method may raise StoreError (or OSError) when the tier cannot do it; the runtime then goes on
    without it. None of them raises for damaged content: damage is found by the reader's checksums. A layer is a Store
    that wraps one."""

    def fetch(self, key: str) -> Parcel | Damaged | None:
        """What lies under a key, also when it has expired; None when nothing does. Never another key's.

        Counts as a use of the entry (LRU). Never waits for a writer's whole write, never writes to the index on the
        caller's path.
        """
        ...

    def put(self, parcel: Parcel, *, expires: float | None = None, replace: Version | None = None) -> bool:
        """Keep an entry, with all blobs that its record refers to and its canonical request; False when another one is
        there, which then stays.

        replace: what may be there and is replaced (damaged, expired): exactly this version, no other.
        Guarantees: when it returns True, a reader in any process finds the entry; when it returns False, raises or the
        process dies, a reader finds what was there, or none, or the new one whole.
        expires: unix seconds after which the entry may be dropped; None: only eviction drops it.
        Raises NoRoom when it does not fit even after evicting everything else.
        """
        ...

    def delete(self, keys: Iterable[str]) -> int:
        """Drop entries; how many there were. Their blobs go when no other entry needs them."""
        ...

    def heads(self, prefix: str = "") -> Iterator[Head]:
        """All entries whose key begins so, newest first. What is added or dropped meanwhile may or may not appear. Not
        a use."""
        ...

    def sizes(self) -> Sizes:
        """What the store holds now."""
        ...

    def take_evicted(self) -> Evicted:
        """What this process has dropped for room since it was last asked: by puts, also those that failed in the end,
        and because the size limit was lowered. Told once. Never raises."""
        ...

    def close(self) -> None:
        """Let go of files and connections. Idempotent; later calls raise StoreError."""
        ...
