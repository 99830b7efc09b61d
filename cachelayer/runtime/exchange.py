"""One request as a client library is about to send it: what the drivers need of a client. Only the protocols.

A client room implements them; nothing here knows which client it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cachelayer.core.model import Request
from cachelayer.core.trip import Failed, Received

Progress = Callable[[bool], None]
"""Called as the forward goes on; True while readers' timers stand still (connecting, sending), False once they run."""


class Exchange(Protocol):
    """What both kinds have in common."""

    request: Request
    read_timeout: float | None
    """The caller's own read timeout in seconds, None when he waits for ever."""


class SyncExchange(Exchange, Protocol):
    """A request of a blocking client."""

    def send(self, progress: Progress, finish_timeout: float) -> Received | Failed:
        """Forward a copy through the user's own transport, its read timeout lifted to finish_timeout seconds or the
        user's own if longer, and read the answer whole. What the transport raises comes back as Failed."""
        ...


class AsyncExchange(Exchange, Protocol):
    """A request of an asynchronous client."""

    async def send(self, progress: Progress, finish_timeout: float) -> Received | Failed:
        """Like SyncExchange.send."""
        ...
