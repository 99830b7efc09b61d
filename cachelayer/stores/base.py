"""What the runtime asks of a store. Only the protocol lives here.

Stores are synchronous; the async driver calls them from threads of its own. They are safe for threads, tasks and
processes at once. They hold bytes: what a record means, whether it is whole and fresh, is decided by core.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Evicted:
    """Entries that had not expired and were dropped for room."""

    entries: int = 0
    usd: Decimal = Decimal(0)
    """What they had cost, by their own frozen costs; those without a price count as 0."""

    def __add__(self, other: Evicted) -> Evicted:
        return Evicted(self.entries + other.entries, self.usd + other.usd)


NONE = Evicted()


class Store(Protocol):
    """A tier. Every method may raise StoreError (or OSError) when the tier cannot do it; the runtime then goes on
    without it. None of them raises for damaged content: damage is found by the reader's checksums."""

    def get(self, key: str) -> bytes | None:
        """The record under a key, None when there is none. Counts as a use of the entry (LRU).

        Never waits for a writer's whole write, never writes to the index on the caller's path.
        """
        ...

    def read_blob(self, digest: str, buffer: memoryview, start: int = 0) -> int | None:
        """Fill a buffer with the bytes kept under a digest, from ``start`` on; how many there were, fewer than the
        buffer takes only where the blob ends. None when the blob is not there. Not verified: the caller does that.

        Into the caller's buffer, because fresh memory for a large blob costs more than reading it; in pieces, so that
        none need be larger than the caller likes. Nothing is kept open between two calls.
        """
        ...

    def put(
        self,
        key: str,
        record: bytes,
        blobs: Mapping[str, bytes],
        *,
        canonical: bytes,
        expires: float | None,
    ) -> None:
        """Keep a record and the blobs it refers to (digest -> bytes), and its canonical request beside it.

        Guarantees: when it returns, a reader in any process finds record and blobs; when it raises or the process
        dies, a reader finds the old record, or none, or the new one whole. Replaces what was under the key.
        expires: unix seconds after which the entry may be dropped; None: only eviction drops it.
        Raises NoRoom when it does not fit even after evicting everything else.
        """
        ...

    def delete(self, key: str) -> bool:
        """Drop an entry; True when there was one. Its blobs go when no other entry needs them."""
        ...

    def scan(self) -> Iterator[tuple[str, bytes]]:
        """All (key, record), newest first. What is added or dropped meanwhile may or may not appear."""
        ...

    def canonical(self, key: str) -> bytes | None:
        """The canonical request kept beside an entry, None when there is none. Off the hit path."""
        ...

    def sizes(self) -> tuple[int, int, int]:
        """(entries, blobs, bytes that the tier takes now, as its size limit counts them)."""
        ...

    def take_evicted(self) -> Evicted:
        """What this process has dropped for room since it was last asked: by puts, also those that failed in the end,
        and because the size limit was lowered. Told once. Never raises."""
        ...

    def close(self) -> None:
        """Let go of files and connections. Idempotent; later calls raise StoreError."""
        ...
