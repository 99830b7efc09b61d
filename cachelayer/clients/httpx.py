"""Transports for httpx and httpx2: one implementation, made once per module.

Both modules have the same interface and refuse each other's classes, so `transports(module)` makes the pair of a
module. A transport answers what the cache can answer and forwards the rest through the transport it stands before: the
user's own pool, proxies and certificates. What comes back is made in httpx_answer.py, clients are wrapped in
httpx_client.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from cachelayer.clients.hold import Hold
from cachelayer.clients.httpx_answer import pairs, passed, response_of
from cachelayer.clients.httpx_timer import AsyncReadTimeout, SyncReadTimeout
from cachelayer.core.model import Answer, Request, Unkeyed
from cachelayer.core.reasons import Reason
from cachelayer.core.trip import Failed, PassThrough, Received
from cachelayer.runtime.aio import serve_async
from cachelayer.runtime.engine import Engine
from cachelayer.runtime.exchange import Progress
from cachelayer.runtime.log import logger
from cachelayer.runtime.sync import serve_sync, watch_pass

IsClosed = Callable[[], bool]


def _never() -> bool:
    return False


class Transports(NamedTuple):
    """The two transport classes of a module; each takes (engine, inner transport, its owner, whether the given client
    was closed).

    The owner is kept alive as long as the transport is used or a flight goes through it: SDKs close their pool when
    their client is dropped.
    """

    sync: Any
    asynchronous: Any


@cache
def transports(module: ModuleType) -> Transports:
    """The transports for httpx or httpx2."""

    class CacheTransport(module.BaseTransport):  # type: ignore[name-defined, misc]
        """A blocking transport before another one."""

        def __init__(self, engine: Engine, inner: Any, owner: Any = None, is_closed: IsClosed = _never) -> None:
            self._engine, self._inner = engine, inner
            self._hold = Hold(owner, is_closed, asynchronous=False)
            self.tells_when_it_waits = _tells_when_it_waits(module, inner)

        def handle_request(self, request: Any) -> Any:
            request = _for_the_provider(module, request)
            exchange = _SyncExchange(module, self._engine, request, self._inner, self._hold)
            reply = serve_sync(self._engine, exchange)
            if not isinstance(reply, PassThrough):
                return response_of(module, reply, request)
            try:
                response = self._inner.handle_request(request)
            except BaseException as error:  # a cancelled request counts too
                watch_pass(self._engine, reply, None, sent=_failed(error).sent)
                raise
            return passed(module, self._engine, reply, response)

        def close(self) -> None:
            if self._hold.may_close(self._inner):
                self._inner.close()

        def __enter__(self) -> Any:
            self._inner.__enter__()
            return self

        def __exit__(self, *exception: Any) -> None:
            self.close()

    class AsyncCacheTransport(module.AsyncBaseTransport):  # type: ignore[name-defined, misc]
        """An asyncio transport before another one. Under another event loop than asyncio's it only forwards."""

        def __init__(self, engine: Engine, inner: Any, owner: Any = None, is_closed: IsClosed = _never) -> None:
            self._engine, self._inner = engine, inner
            self._hold = Hold(owner, is_closed, asynchronous=True)
            self.tells_when_it_waits = _tells_when_it_waits(module, inner)

        async def handle_async_request(self, request: Any) -> Any:
            request = _for_the_provider(module, request)
            exchange = _AsyncExchange(module, self._engine, request, self._inner, self._hold)
            reply = await serve_async(self._engine, exchange)
            if not isinstance(reply, PassThrough):
                return response_of(module, reply, request)
            try:
                response = await self._inner.handle_async_request(request)
            except BaseException as error:  # a cancelled request counts too
                watch_pass(self._engine, reply, None, sent=_failed(error).sent)
                raise
            return passed(module, self._engine, reply, response)

        async def aclose(self) -> None:
            if self._hold.may_close(self._inner):
                await self._inner.aclose()

        async def __aenter__(self) -> Any:
            await self._inner.__aenter__()
            return self

        async def __aexit__(self, *exception: Any) -> None:
            await self.aclose()

    return Transports(CacheTransport, AsyncCacheTransport)


# --- before -----------------------------------------------------------------------------------------------------------


def _for_the_provider(module: ModuleType, request: Any) -> Any:
    """The request without what is said to cachelayer alone, whatever becomes of it.

    A copy where there is such a header: the client builds a redirect from the request that is the user's.
    """
    raw = request.headers.raw
    theirs = [pair for pair in raw if not pair[0].lower().startswith(_OURS)]
    if len(theirs) == len(raw):
        return request
    copy = module.Request(
        request.method, request.url, headers=theirs, stream=request.stream, extensions=request.extensions
    )
    if hasattr(request, "_content"):
        copy._content = request.content
    return copy


_OURS = b"x-cachelayer-"


_DIGITS = 18
"""Of a length; Python refuses to read numbers of more than 4,300."""


def _why_unread(module: ModuleType, request: Any, max_body: int) -> Reason | None:
    """Why a body cannot be brought into memory, and read again when it is sent.

    A redirected body is bytes already, and a multipart body can be rendered again from its parts. Any other stream (a
    generator, an open file) could be sent only once.
    """
    if hasattr(request, "_content") or isinstance(request.stream, module.ByteStream):
        return None
    length = request.headers.get("content-length", "")
    if type(request.stream).__name__ != "MultipartStream" or not (length.isascii() and length.isdigit()):
        return Reason.BODY_NOT_REPLAYABLE  # a part of unknown length is a pipe, which can be read only once
    return Reason.BODY_TOO_LARGE if len(length) > _DIGITS or int(length) > max_body else None


class _Exchange:
    """What both exchanges have: the request in our words, and how a copy of it is sent."""

    def __init__(self, module: ModuleType, engine: Engine, request: Any, inner: Any, hold: Hold) -> None:
        self._module, self._engine, self._original, self._inner, self._hold = module, engine, request, inner, hold
        self._read: Request | Unkeyed | None = None
        length = request.headers.get("content-length", "")[:_DIGITS]
        self.length = int(length) if length.isascii() and length.isdigit() else 0
        given = request.extensions.get("timeout", {}).get("read")
        # A number of its own kind where another cache of ours stands before this one (httpx_timer.py).
        self.read_timeout: float | None = None if given is None else float(given)
        self._tells = _tells_when_it_waits(module, inner)

    def read(self) -> Request | Unkeyed:
        if self._read is None:
            self._read = self._read_now()
        return self._read

    def _read_now(self) -> Request | Unkeyed:
        request = self._original
        reason = _why_unread(self._module, request, self._engine.rules.keys.max_body)
        if reason is not None:
            return Unkeyed(reason)
        try:
            request.read()
        except Exception as error:
            self._engine.fault("read a request body", error)
            return Unkeyed(Reason.BODY_NOT_REPLAYABLE)
        return Request(request.method, str(request.url), pairs(request.headers), request.content)

    def _copy(self, finish_timeout: float, trace: Callable[..., Any], read_timeout: _ReadTimeout, told: _Told) -> Any:
        extensions = dict(self._original.extensions)
        timeout = dict(extensions.get("timeout", {}))
        if self.read_timeout is not None:
            lifted = max(self.read_timeout, finish_timeout)
            timeout["read"] = read_timeout(lifted, told.read) if self._tells else lifted
        extensions["timeout"] = timeout
        if self._tells:
            extensions["trace"] = trace
        original = self._original
        copy = self._module.Request(
            original.method,
            original.url,
            headers=original.headers.raw,
            stream=_stream(self._module)(original.content),
            extensions=extensions,
        )
        copy._content = original.content  # a transport of the user's own may look at request.content
        return copy

    def _received(self, response: Any, raw: bytes) -> Received:
        headers = pairs(response.headers)
        if hasattr(response, "_content"):
            # Read already, by the user's own transport: its bytes as they came are gone. The starter gets this very
            # response.
            return Received(headers, raw, Answer(response.status_code, headers, response.content), response)
        try:
            body = self._module.Response(response.status_code, headers=response.headers.raw, content=raw).content
        except Exception:
            body = b""  # not what its headers say; the caller's own client will refuse it, so no dialect may like it
        kept = {name: response.extensions[name] for name in _EXTENSIONS if name in response.extensions}
        return Received(headers, raw, Answer(response.status_code, headers, body), kept)


_PIECE = 1_048_576
"""Bytes. httpcore copies what is left of a piece at every write to the socket: of 280 MB in one piece, 40 GB."""


@cache
def _stream(module: ModuleType) -> Any:
    """The stream class of a forwarded body."""

    class Pieces(module.ByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, content: bytes) -> None:
            super().__init__(content)
            self._content = content

        def __iter__(self) -> Iterator[bytes]:
            for start in range(0, len(self._content), _PIECE):
                yield self._content[start : start + _PIECE]

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self:
                yield piece

    return Pieces


def _tells_when_it_waits(module: ModuleType, transport: Any) -> bool:
    """Whether a transport says when it starts to wait for the answer.

    httpcore does, by trace events. Until then its own connect, write and pool timeouts are at work, and the caller's
    read timeout is not. With other transports the caller's timer runs from the start.
    """
    told = getattr(transport, "tells_when_it_waits", None)
    return isinstance(transport, (module.HTTPTransport, module.AsyncHTTPTransport)) if told is None else bool(told)


_EXTENSIONS = ("http_version", "reason_phrase")
_WAITING = (".receive_response_headers.started", ".receive_response_body.started")
_SENDING = (
    ".connect_tcp.started",
    ".connect_unix_socket.started",
    ".start_tls.started",
    ".setup_socks5_connection.started",
    ".send_request_headers.started",
)
"""A proxy answers before the provider does, and then the connection goes on being made."""
_CONNECTING = (
    "ConnectError",
    "ConnectTimeout",
    "PoolTimeout",
    "UnsupportedProtocol",
    "LocalProtocolError",
    "ProxyError",
)
"""Errors after which the provider cannot have seen the request."""


def _failed(error: BaseException) -> Failed:
    return Failed(error, type(error).__name__ not in _CONNECTING)


_ReadTimeout = Callable[[float, Callable[[], None]], Any]


class _Told:
    """What a transport tells of its way, passed on to those who wait."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._waits = False

    def event(self, name: str) -> None:
        """A trace event."""
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


class _SyncExchange(_Exchange):
    def send(self, progress: Progress, finish_timeout: float) -> Received | Failed:
        theirs, told = self._original.extensions.get("trace"), _Told(progress)

        def trace(name: str, info: Any) -> None:
            told.event(name)
            if theirs is not None:
                theirs(name, info)

        flight = object()
        self._hold.enter(self._inner, flight)
        try:
            progress(self._tells)
            response = self._inner.handle_request(self._copy(finish_timeout, trace, SyncReadTimeout, told))
            if hasattr(response, "_content"):
                return self._received(response, response.content)
            try:
                chunks = []
                for chunk in response.stream:
                    chunks.append(chunk)
                    progress(False)
            finally:
                response.close()
            return self._received(response, b"".join(chunks))
        except BaseException as error:  # of this thread alone: it goes to whoever waits
            return _failed(error)
        finally:
            for close in self._hold.leave(self._inner, flight):
                try:
                    close()
                except Exception as error:  # the answer is there; the transport's own trouble must not cost it
                    logger.debug("a transport could not be closed: %s", error)


def _real(transport: Any, request: Any) -> Any:
    """The transport that a request goes through; one that picks among several says which."""
    stands_for = getattr(transport, "stands_for", None)
    return transport if stands_for is None else stands_for(request)


class _AsyncExchange(_Exchange):
    async def send(self, progress: Progress, finish_timeout: float) -> Received | Failed:
        theirs, told = self._original.extensions.get("trace"), _Told(progress)

        async def trace(name: str, info: Any) -> None:
            told.event(name)
            if theirs is not None:
                await theirs(name, info)

        inner, flight = None, object()
        try:
            inner = _real(self._inner, self._original)
            self._hold.enter(inner, flight)
            progress(self._tells)
            response = await inner.handle_async_request(self._copy(finish_timeout, trace, AsyncReadTimeout, told))
            if hasattr(response, "_content"):
                return self._received(response, response.content)
            try:
                chunks = []
                async for chunk in response.stream:
                    chunks.append(chunk)
                    progress(False)
            finally:
                await response.aclose()
            return self._received(response, b"".join(chunks))
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            return _failed(error)
        finally:
            for close in self._hold.leave(inner, flight):
                try:
                    await close()
                except Exception as error:  # the answer is there; the transport's own trouble must not cost it
                    logger.debug("a transport could not be closed: %s", error)
