"""An answer of the simulator before it is sent: what the two formats hand to the server."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from cachelayer.simulator.render import Picture


@dataclass(frozen=True, slots=True)
class Reply:
    """status, headers and body of an answer, and how it is booked once it has been sent."""

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: tuple[bytes, ...]
    """The whole body when it is not streamed, else one chunk an event."""
    streamed: bool = False
    good: bool = False
    """The answer that was asked for, with every image inline."""
    billed: Decimal = Decimal(0)
    """List price of its usage block, USD."""
    cut: bool = False
    """Close the connection in the middle of the body."""
    files: tuple[tuple[str, Picture], ...] = field(default=())
    """Pictures to be served under /files/NAME from now on."""


class BadRequest(Exception):
    """The provider would refuse this request; the message says why."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param
