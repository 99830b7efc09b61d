"""What a caller's own timer goes by: trace events, and a read timeout that tells when a read begins. Only that.

A flight reads with the caller's read timeout lifted, so the caller's timer must start anew just where the transport's
would have: at every read from the socket. httpcore tells by trace events when it begins to wait for the head and for
the body, and gives chunks of the body; of what else arrives (`102 Processing`, a head that comes in pieces, frames of
HTTP/2) it tells nothing. But it hands its read timeout to the socket, or to anyio, anew at every single read, and a
timeout may be any real number: so we hand it a number that notices.

Rejected: replacing the pool's network backend (the pool is the user's), and reading the connection's private fields.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import total_ordering
from types import ModuleType
from typing import Any

from cachelayer.runtime.exchange import Progress

OnRead = Callable[[], None]
"""Called as a read begins, from within the transport; does not raise."""


class AsyncReadTimeout(float):
    """Seconds. anyio adds a timeout to the clock's time when a read begins (``current_time() + delay``)."""

    __slots__ = ("_on_read",)
    _on_read: OnRead

    def __new__(cls, seconds: float, on_read: OnRead) -> AsyncReadTimeout:
        timeout = super().__new__(cls, seconds)
        timeout._on_read = on_read
        return timeout

    def __radd__(self, clock: float) -> float:
        self._on_read()
        return clock + float(self)


@total_ordering
class SyncReadTimeout:
    """Seconds. ``socket.settimeout`` is called when a read begins; a C function, which asks a float nothing. So this is
    no float: the socket asks its ``__index__`` (whole seconds, rounded up), a socket of gevent its ``__float__``."""

    __slots__ = ("_on_read", "_seconds")

    def __init__(self, seconds: float, on_read: OnRead) -> None:
        self._seconds, self._on_read = seconds, on_read

    def __index__(self) -> int:
        self._on_read()
        return int(-(-self._seconds // 1))

    def __float__(self) -> float:
        self._on_read()
        return float(self._seconds)

    def __eq__(self, other: object) -> bool:
        return self._seconds == other

    def __lt__(self, other: Any) -> bool:
        return bool(self._seconds < other)

    def __hash__(self) -> int:
        return hash(self._seconds)

    def __add__(self, other: float) -> float:
        return self._seconds + other

    __radd__ = __add__


# --- what a transport tells of its way --------------------------------------------------------------------------------

_WAITING = (".receive_response_headers.started", ".receive_response_body.started")
_SENDING = (
    ".connect_tcp.started",
    ".connect_unix_socket.started",
    ".start_tls.started",
    ".setup_socks5_connection.started",
    ".send_request_headers.started",
)
"""A proxy answers before the provider does, and then the connection goes on being made."""


class Told:
    """What a transport tells of its way, passed on to those who wait, and to the user's own trace callback."""

    def __init__(self, progress: Progress, theirs: Any) -> None:
        self._progress, self._theirs = progress, theirs
        self._waits = False

    def trace(self, name: str, info: Any) -> None:
        """The trace callback of a blocking transport."""
        self._hear(name)
        if self._theirs is not None:
            self._theirs(name, info)

    async def trace_async(self, name: str, info: Any) -> None:
        """And of an asynchronous one."""
        self._hear(name)
        if self._theirs is not None:
            await self._theirs(name, info)

    def _hear(self, name: str) -> None:
        if name.endswith(_WAITING):
            self._waits = True
            self._progress(False)
        elif name.endswith(_SENDING):
            self._waits = False
            self._progress(True)

    def read(self) -> None:
        """A read from the socket begins: whatever was waited for before has come."""
        if self._waits:
            self._progress(False)


def tells_when_it_waits(module: ModuleType, transport: Any) -> bool:
    """Whether a transport says when it starts to wait for the answer.

    httpcore does, by trace events. Until then its own connect, write and pool timeouts are at work, and the caller's
    read timeout is not. With other transports the caller's timer runs from the start.
    """
    told = getattr(transport, "tells_when_it_waits", None)
    return isinstance(transport, (module.HTTPTransport, module.AsyncHTTPTransport)) if told is None else bool(told)
