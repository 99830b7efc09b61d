"""Transports for httpx and httpx2: one implementation, made once per module.

Both modules have the same interface and refuse each other's classes, so `transports(module)` makes the pair of a
module. A transport answers what the cache can answer and forwards the rest through the transport it stands before: the
user's own pool, proxies and certificates. What comes back is made in httpx_answer.py, clients are wrapped in
httpx_client.py.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from cachelayer.clients.httpx_answer import pairs, passed, record, response_of
from cachelayer.core.effects import Failed, Moment, Now, PassThrough, Received
from cachelayer.core.model import Answer, Request
from cachelayer.core.reasons import Reason
from cachelayer.runtime.aio import serve_async
from cachelayer.runtime.engine import Engine
from cachelayer.runtime.exchange import Progress
from cachelayer.runtime.sync import serve_sync


class Transports(NamedTuple):
    """The two transport classes of a module; each takes (engine, inner transport, its owner).

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

        def __init__(self, engine: Engine, inner: Any, owner: Any = None) -> None:
            self._engine, self._inner = engine, inner
            self._hold = _Hold(owner)
            self.tells_when_it_waits = _tells_when_it_waits(module, inner)

        def handle_request(self, request: Any) -> Any:
            through = _before_serving(module, self._engine, request)
            if through is None:
                try:
                    exchange = _SyncExchange(module, request, self._inner, self._hold)
                    reply = serve_sync(self._engine, exchange)
                except Exception as error:
                    self._engine.fault("serve", error)
                    through = PassThrough(Reason.INTERNAL_ERROR, None, _now(self._engine))
                else:
                    if not isinstance(reply, PassThrough):
                        return response_of(module, reply, request)
                    through = reply
            through = self._engine.begin_pass(through)
            try:
                response = self._inner.handle_request(request)
            except BaseException:  # a cancelled request counts too
                record(self._engine, through, None, None)
                raise
            return passed(module, self._engine, through, response)

        def close(self) -> None:
            if self._hold.may_close():
                self._inner.close()

        def __enter__(self) -> Any:
            self._inner.__enter__()
            return self

        def __exit__(self, *exception: Any) -> None:
            self.close()

    class AsyncCacheTransport(module.AsyncBaseTransport):  # type: ignore[name-defined, misc]
        """An asyncio transport before another one. Under another event loop than asyncio's it only forwards."""

        def __init__(self, engine: Engine, inner: Any, owner: Any = None) -> None:
            self._engine, self._inner = engine, inner
            self._hold = _Hold(owner)
            self.tells_when_it_waits = _tells_when_it_waits(module, inner)

        async def handle_async_request(self, request: Any) -> Any:
            through = await _before_serving_async(module, self._engine, request)
            if through is None:
                try:
                    exchange = _AsyncExchange(module, request, self._inner, self._hold)
                    reply = await serve_async(self._engine, exchange)
                except Exception as error:
                    self._engine.fault("serve", error)
                    through = PassThrough(Reason.INTERNAL_ERROR, None, _now(self._engine))
                else:
                    if not isinstance(reply, PassThrough):
                        return response_of(module, reply, request)
                    through = reply
            through = self._engine.begin_pass(through)
            try:
                response = await self._inner.handle_async_request(request)
            except BaseException:  # a cancelled request counts too
                record(self._engine, through, None, None)
                raise
            return passed(module, self._engine, through, response)

        async def aclose(self) -> None:
            if self._hold.may_close():
                await self._inner.aclose()

        async def __aenter__(self) -> Any:
            await self._inner.__aenter__()
            return self

        async def __aexit__(self, *exception: Any) -> None:
            await self.aclose()

    return Transports(CacheTransport, AsyncCacheTransport)


# --- before -----------------------------------------------------------------------------------------------------------


def _before_serving(
    module: ModuleType, engine: Engine, request: Any, *, needs_asyncio: bool = False
) -> PassThrough | None:
    """Why the flow is not even asked: None when it is. A body that is not in memory yet is read here if it may be."""
    reason: str | None = None
    if engine.disabled:
        reason = Reason.DISABLED
    elif needs_asyncio and not _in_asyncio():
        reason = Reason.NOT_ASYNCIO
    elif not hasattr(request, "_content"):
        reason = _read_body(module, engine, request)
    return None if reason is None else PassThrough(reason, None, _now(engine))


async def _before_serving_async(module: ModuleType, engine: Engine, request: Any) -> PassThrough | None:
    """The same for asyncio, where no large form is brought into memory while the loop waits."""
    small = hasattr(request, "_content") or len(request.headers.get("content-length", "")) < _LARGE
    if small or engine.disabled or engine.closed or not _in_asyncio():
        return _before_serving(module, engine, request, needs_asyncio=True)
    began = _now(engine)
    try:
        return await engine.workers.run(lambda: _before_serving(module, engine, request))
    except BaseException:  # he leaves before the flow is asked, and so the flow cannot record it
        engine.record_pass(PassThrough(Reason.CANCELLED, None, began), status=None, answer=None, sent=False)
        raise


_LARGE = 6
"""Digits of a length. Reading forms of 100 kB and more takes longer than handing them to a thread and back."""
_DIGITS = 18
"""Of a length; Python refuses to read numbers of more than 4,300."""


def _read_body(module: ModuleType, engine: Engine, request: Any) -> str | None:
    """Bring a body into memory that can be read without being used up; None, or why it is not.

    A redirected body is bytes already, and a multipart body can be rendered again from its parts. Any other stream (a
    generator, an open file) could be sent only once.
    """
    if not isinstance(request.stream, module.ByteStream):
        if type(request.stream).__name__ != "MultipartStream":
            return Reason.BODY_NOT_REPLAYABLE
        length = request.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):  # a part of unknown length: a pipe, which can be read only once
            return Reason.BODY_NOT_REPLAYABLE
        if len(length) > _DIGITS or int(length) > engine.rules.keys.max_body:
            return Reason.BODY_TOO_LARGE
    try:
        request.read()
    except Exception as error:
        engine.fault("read a request body", error)
        return Reason.BODY_NOT_REPLAYABLE
    return None


def _in_asyncio() -> bool:
    return asyncio._get_running_loop() is not None


def _now(engine: Engine) -> Moment:
    now: Moment = engine.perform(Now())
    return now


class _Exchange:
    """What both exchanges have: the request in our words, and how a copy of it is sent."""

    def __init__(self, module: ModuleType, request: Any, inner: Any, hold: _Hold) -> None:
        self._module, self._original, self._inner, self._hold = module, request, inner, hold
        self.request = Request(request.method, str(request.url), pairs(request.headers), request.content)
        self.read_timeout: float | None = request.extensions.get("timeout", {}).get("read")
        self._tells = _tells_when_it_waits(module, inner)

    def _copy(self, finish_timeout: float, trace: Callable[..., Any]) -> Any:
        extensions = dict(self._original.extensions)
        timeout = dict(extensions.get("timeout", {}))
        if timeout.get("read") is not None:
            timeout["read"] = max(timeout["read"], finish_timeout)
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


def _tell(progress: Progress, event: str) -> None:
    if event.endswith(_WAITING):
        progress(False)
    elif event.endswith(_SENDING):
        progress(True)


class _SyncExchange(_Exchange):
    def send(self, progress: Progress, finish_timeout: float) -> Received | Failed:
        theirs = self._original.extensions.get("trace")

        def trace(name: str, info: Any) -> None:
            _tell(progress, name)
            if theirs is not None:
                theirs(name, info)

        self._hold.enter()
        try:
            progress(self._tells)
            response = self._inner.handle_request(self._copy(finish_timeout, trace))
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
            if self._hold.leave():
                self._inner.close()


class _AsyncExchange(_Exchange):
    async def send(self, progress: Progress, finish_timeout: float) -> Received | Failed:
        theirs = self._original.extensions.get("trace")

        async def trace(name: str, info: Any) -> None:
            _tell(progress, name)
            if theirs is not None:
                await theirs(name, info)

        self._hold.enter()
        try:
            progress(self._tells)
            response = await self._inner.handle_async_request(self._copy(finish_timeout, trace))
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
            if self._hold.leave():
                await self._inner.aclose()


class _Hold:
    """Keeps the inner transport open until the last flight through it has ended: closing it would kill them."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._lock = threading.Lock()
        self._flights = 0
        self._closing = False

    def enter(self) -> None:
        with self._lock:
            self._flights += 1

    def leave(self) -> bool:
        """True: the transport was closed meanwhile, and the leaver has to close the inner one now."""
        with self._lock:
            self._flights -= 1
            return self._closing and self._flights == 0

    def may_close(self) -> bool:
        """True: no flight is under way, close the inner transport now. False: the last flight will."""
        with self._lock:
            self._closing = True
            return self._flights == 0
