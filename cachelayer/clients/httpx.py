"""Transports for httpx and httpx2: one implementation, made once per module.

Both modules have the same interface and refuse each other's classes, so `transports(module)` makes the pair of a
module. A transport answers what the cache can answer and forwards the rest through the transport it stands before: the
user's own pool, proxies and certificates. What comes back is made in httpx_answer.py, clients are wrapped in
httpx_client.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache, partial
from types import ModuleType
from typing import Any, NamedTuple

from cachelayer.clients.hold import Hold
from cachelayer.clients.httpx_answer import pairs, passed, response_of
from cachelayer.clients.httpx_streams import piece_stream
from cachelayer.clients.httpx_timer import AsyncReadTimeout, SyncReadTimeout, Told, tells_when_it_waits
from cachelayer.clients.surface import OURS, Passing, ask, ask_async
from cachelayer.core.model import Answer, Request
from cachelayer.core.reasons import Reason
from cachelayer.core.trip import Failed, PassThrough, Received
from cachelayer.runtime.engine import Engine
from cachelayer.runtime.exchange import Progress


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

        def __init__(self, engine: Engine, inner: Any, owner: Any, is_closed: Callable[[], bool]) -> None:
            self._engine, self._inner = engine, inner
            self._hold = Hold(owner, is_closed, asynchronous=False)
            self.tells_when_it_waits = tells_when_it_waits(module, inner)

        def handle_request(self, request: Any) -> Any:
            request = _for_the_provider(module, request)
            exchange = partial(_SyncExchange, module, request, self._inner, self._hold)
            reply = ask(self._engine, lambda: _unreadable(module, self._engine, request) or exchange())
            if not isinstance(reply, PassThrough):
                return response_of(module, reply, request)
            with Passing(self._engine, reply, _was_sent) as passing:
                response = self._inner.handle_request(request)
            return passed(module, passing, response)

        def close(self) -> None:
            if self._hold.may_close(self._inner):
                self._inner.close()

        def __enter__(self) -> Any:
            self._inner.__enter__()
            return self

    class AsyncCacheTransport(module.AsyncBaseTransport):  # type: ignore[name-defined, misc]
        """An asyncio transport before another one. Under another event loop than asyncio's it only forwards."""

        def __init__(self, engine: Engine, inner: Any, owner: Any, is_closed: Callable[[], bool]) -> None:
            self._engine, self._inner = engine, inner
            self._hold = Hold(owner, is_closed, asynchronous=True)
            self.tells_when_it_waits = tells_when_it_waits(module, inner)

        async def handle_async_request(self, request: Any) -> Any:
            request = _for_the_provider(module, request)
            exchange = partial(_AsyncExchange, module, request, self._inner, self._hold)
            reply = await ask_async(
                self._engine,
                lambda: _unreadable(module, self._engine, request) or exchange(),
                large=len(request.headers.get("content-length", "")) >= _LARGE,
            )
            if not isinstance(reply, PassThrough):
                return response_of(module, reply, request)
            with Passing(self._engine, reply, _was_sent) as passing:
                response = await self._inner.handle_async_request(request)
            return passed(module, passing, response)

        async def aclose(self) -> None:
            if self._hold.may_close(self._inner):
                await self._inner.aclose()

        async def __aenter__(self) -> Any:
            await self._inner.__aenter__()
            return self

    return Transports(CacheTransport, AsyncCacheTransport)


# --- before -----------------------------------------------------------------------------------------------------------


def _for_the_provider(module: ModuleType, request: Any) -> Any:
    """The request without what is said to cachelayer alone.

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


_OURS = OURS.encode()
_LARGE = 6
"""Digits of a length. To read a form of 100 kB, or to work out its key, takes longer than a thread and back."""
_DIGITS = 18
"""Of a length; Python refuses to read numbers of more than 4,300."""


def _unreadable(module: ModuleType, engine: Engine, request: Any) -> Reason | None:
    """Bring a body into memory that can be read without being used up; None, or why it is not.

    A redirected body is bytes already, and a multipart body can be rendered again from its parts. Any other stream (a
    generator, an open file) could be sent only once.
    """
    if hasattr(request, "_content"):
        return None
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


# --- the forward ------------------------------------------------------------------------------------------------------


class _Exchange:
    """What both exchanges have: the request in our words, and how a copy of it is sent."""

    def __init__(self, module: ModuleType, request: Any, inner: Any, hold: Hold) -> None:
        self._module, self._original, self._inner, self._hold = module, request, inner, hold
        self.request = Request(request.method, str(request.url), pairs(request.headers), request.content)
        given = request.extensions.get("timeout", {}).get("read")
        # A number of its own kind where another cache of ours stands before this one (httpx_timer.py).
        self.read_timeout: float | None = None if given is None else float(given)
        self._tells = tells_when_it_waits(module, inner)

    def _copy(self, trace: Callable[..., Any], read_timeout: Callable[[float], Any], finish_timeout: float) -> Any:
        original, extensions = self._original, dict(self._original.extensions)
        timeout = dict(extensions.get("timeout", {}))
        if self.read_timeout is not None:
            lifted = max(self.read_timeout, finish_timeout)
            timeout["read"] = read_timeout(lifted) if self._tells else lifted
        extensions["timeout"] = timeout
        if self._tells:
            extensions["trace"] = trace
        copy = self._module.Request(
            original.method,
            original.url,
            headers=original.headers.raw,
            stream=piece_stream(self._module)(original.content),
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


_EXTENSIONS = ("http_version", "reason_phrase")
_UNSENT = ("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError", "ProxyError")
"""Errors after which the provider cannot have seen the request."""


def _was_sent(error: BaseException) -> bool:
    return type(error).__name__ not in _UNSENT


class _SyncExchange(_Exchange):
    def send(self, progress: Progress, finish_timeout: float) -> Received | Failed:
        told = Told(progress, self._original.extensions.get("trace"))
        with self._hold.using(self._inner):
            try:
                progress(self._tells)
                read_timeout = partial(SyncReadTimeout, on_read=told.read)
                response = self._inner.handle_request(self._copy(told.trace, read_timeout, finish_timeout))
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
                return Failed(error, _was_sent(error))


class _AsyncExchange(_Exchange):
    async def send(self, progress: Progress, finish_timeout: float) -> Received | Failed:
        told = Told(progress, self._original.extensions.get("trace"))
        try:
            inner = _real(self._inner, self._original)
            async with self._hold.using(inner):
                progress(self._tells)
                read_timeout = partial(AsyncReadTimeout, on_read=told.read)
                response = await inner.handle_async_request(self._copy(told.trace_async, read_timeout, finish_timeout))
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
            return Failed(error, _was_sent(error))


def _real(transport: Any, request: Any) -> Any:
    """The transport that a request goes through; one that picks among several says which."""
    stands_for = getattr(transport, "stands_for", None)
    return transport if stands_for is None else stands_for(request)
