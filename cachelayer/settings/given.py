"""The settings as they are given, and what each means. The one place where that is written: the tables in README.md and
docs/settings.md are made from this file and the defaults (`python -m tests.setting_texts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, TypedDict


class Given(TypedDict, total=False):
    """The keyword arguments of Cache; each may be left out, and None is as good as left out.

    Durations are seconds, or "30s", "10m", "1h", "30d"; sizes are bytes, or "50MB" (10^6) and "50MiB" (2^20).
    """

    size_limit: int | str | None
    """What the folder takes on disk besides the ledger, kept by least recent use (docs/storage.md)."""
    ttl: float | str | None
    """How long an entry is served; without it, until it is evicted."""
    namespace: str | None
    """A wall: entries of one namespace are invisible to another."""
    operations: Iterable[str] | None
    """What is cached, of `image`, `text` and `embedding`."""
    normalize: str | None
    """How prompts are folded before they are hashed: `"prompt"`, `"exact"` or `"loose"` (docs/key-spec.md)."""
    prices: Mapping[str, str | int | Decimal | Mapping[str, Any]] | None
    """Your own prices per image in USD, by host: `{"api.reseller.example": "0.05"}` (docs/savings.md)."""
    pools: Iterable[Iterable[str]] | None
    """Groups of hosts whose stored answers may serve each other's requests, the official one and a reseller, say; a
    first member `name:NAME` names the group (docs/key-spec.md)."""
    ignore: Iterable[str] | None
    """What does not count in a request: `"header:x-job-id"`, `"query:NAME"`, `"body:trace.id"`."""
    max_body: int | str | None
    """A larger request is forwarded without being read."""
    finish_timeout: float | str | None
    """How long a call goes on after its last caller has left."""
    hedge_after: float | str | None
    """A provider that was silent for so long is asked again by one of those who wait, once at a time."""
    drain_timeout: float | str | None
    """How long close() and the end of the program wait for paid answers."""
    drain_on_sigterm: bool | None
    """Whether SIGTERM waits for paid answers too, unless the program has a handler of its own (docs/deploy.md)."""
    disabled: bool | None
    """Everything passes through, and nothing is opened: `CACHELAYER_DISABLED=1`."""
