"""The outcome that the timings of the ledger write down."""

from __future__ import annotations

from decimal import Decimal

from cachelayer.core.model import Cost, Event, Outcome

HIT = Event(
    Outcome.HIT,
    1_795_000_000.25,
    "default",
    operation="image",
    model="gemini-3-pro-image",
    size="2K",
    host="generativelanguage.googleapis.com",
    key="ab" * 32,
    status=200,
    saved=Cost(Decimal("0.137934"), "exact", "reported usage"),
    images=1,
    wait=0.004,
    latency=21.5,
)
