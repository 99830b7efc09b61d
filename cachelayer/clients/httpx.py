"""Transports for httpx and httpx2: one implementation, made once per module.

Both modules have the same interface and refuse each other's classes, so `transports(module)` makes the pair of a
module. A transport answers what the cache can answer and forwards the rest through the transport it stands before: the
user's own pool, proxies and certificates.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from cachelayer.core.effects import (
    Crashed,
    Failed,
    Moment,
    Now,
    Original,
    PassThrough,
    Received,
    Replay,
    Reply,
    TimedOut,
)
from cachelayer.core.model import Answer, Asked, Headers, Outcome, Request
from cachelayer.core.policy import answer_headers
from cachelayer.runtime.aio import serve_async
from cachelayer.runtime.engine import Engine
from cachelayer.runtime.exchange import Progress
from cachelayer.runtime.sync import serve_sync

_WATCHED = 67_108_864
"""Bytes of a passed-through answer that are kept to price it; a longer answer stays unpriced."""


class Transports(NamedTuple):
    """The two transport classes of a module; each takes (engine, inner transport)."""

    sync: Any
    asynchronous: Any


@cache
def transports(module: ModuleType) -> Transports:
    """The transports for httpx or httpx2."""

    class CacheTransport(module.BaseTransport):  # type: ignore[name-defined, misc]
        """A blocking transport before another one."""

        def __init__(self, engine: Engine, inner: Any) -> None:
            self._engine, self._inner = engine, inner
            self._hold = _Hold()

        def handle_request(self, request: Any) -> Any:
            through = _before_serving(module, self._engine, request)
            if through is None:
                exchange = _SyncExchange(module, request, self._inner, self._hold)
                try:
                    reply = serve_sync(self._engine, exchange)
                except Exception as error:
                    self._engine.fault("serve", error)
                    through = PassThrough("internal-error", None, _now(self._engine))
                else:
                    if not isinstance(reply, PassThrough):
                        return _response(module, reply, request)
                    through = reply
            try:
                response = self._inner.handle_request(request)
            except Exception:
                _record(self._engine, through, None, None)
                raise
            return _pass(module, self._engine, through, response)

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

        def __init__(self, engine: Engine, inner: Any) -> None:
            self._engine, self._inner = engine, inner
            self._hold = _Hold()

        async def handle_async_request(self, request: Any) -> Any:
            through = _before_serving(module, self._engine, request, needs_asyncio=True)
            if through is None:
                exchange = _AsyncExchange(module, request, self._inner, self._hold)
                try:
                    reply = await serve_async(self._engine, exchange)
                except Exception as error:
                    self._engine.fault("serve", error)
                    through = PassThrough("internal-error", None, _now(self._engine))
                else:
                    if not isinstance(reply, PassThrough):
                        return _response(module, reply, request)
                    through = reply
            try:
                response = await self._inner.handle_async_request(request)
            except Exception:
                _record(self._engine, through, None, None)
                raise
            return _pass(module, self._engine, through, response)

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
    reason = None
    if engine.disabled:
        reason = "disabled"
    elif needs_asyncio and not _in_asyncio():
        reason = "not-asyncio"
    elif not hasattr(request, "_content"):
        # A multipart body can be rendered again from its parts; any other stream (a generator, an open file) would be
        # used up by reading it.
        if type(request.stream).__name__ != "MultipartStream":
            reason = "body-not-replayable"
        elif int(request.headers.get("content-length") or engine.rules.keys.max_body + 1) > engine.rules.keys.max_body:
            reason = "body-too-large"
        else:
            try:
                request.read()
            except Exception as error:
                engine.fault("read a request body", error)
                reason = "body-not-replayable"
    return None if reason is None else PassThrough(reason, None, _now(engine))


def _in_asyncio() -> bool:
    import asyncio

    return asyncio._get_running_loop() is not None


def _now(engine: Engine) -> Moment:
    now: Moment = engine.perform(Now())
    return now


class _Exchange:
    """What both exchanges have: the request in our words, and how a copy of it is sent."""

    def __init__(self, module: ModuleType, request: Any, inner: Any, hold: _Hold) -> None:
        self._module, self._original, self._inner, self._hold = module, request, inner, hold
        self.request = Request(request.method, str(request.url), _pairs(request.headers), request.content)
        self.read_timeout: float | None = request.extensions.get("timeout", {}).get("read")
        # httpcore tells by trace events when it starts to wait for the answer. Until then its own connect, write and
        # pool timeouts are at work, and the caller's read timeout is not. Other transports do not tell: there the
        # timer runs from the start.
        self._tells = isinstance(inner, (module.HTTPTransport, module.AsyncHTTPTransport))

    def _copy(self, finish_timeout: float, trace: Callable[..., Any]) -> Any:
        extensions = dict(self._original.extensions)
        timeout = dict(extensions.get("timeout", {}))
        if timeout.get("read") is not None:
            timeout["read"] = max(timeout["read"], finish_timeout)
        extensions["timeout"] = timeout
        if self._tells:
            extensions["trace"] = trace
        original = self._original
        return self._module.Request(
            original.method,
            original.url,
            headers=original.headers.raw,
            stream=self._module.ByteStream(original.content),
            extensions=extensions,
        )

    def _received(self, response: Any, chunks: list[bytes]) -> Received:
        raw, headers = b"".join(chunks), _pairs(response.headers)
        try:
            body = self._module.Response(response.status_code, headers=response.headers.raw, content=raw).content
        except self._module.DecodingError:
            body = raw  # no dialect will find it good
        kept = {name: response.extensions[name] for name in _EXTENSIONS if name in response.extensions}
        return Received(headers, raw, Answer(response.status_code, headers, body), kept)


_EXTENSIONS = ("http_version", "reason_phrase")
_WAITING = ".receive_response_headers.started"
_CONNECTING = (
    "ConnectError",
    "ConnectTimeout",
    "PoolTimeout",
    "UnsupportedProtocol",
    "LocalProtocolError",
    "ProxyError",
)
"""Errors after which the provider cannot have seen the request."""


def _failed(error: Exception) -> Failed:
    return Failed(error, type(error).__name__ not in _CONNECTING)


class _SyncExchange(_Exchange):
    def send(self, progress: Progress, finish_timeout: float) -> Received | Failed:
        theirs = self._original.extensions.get("trace")

        def trace(name: str, info: Any) -> None:
            if name.endswith(_WAITING):
                progress(False)
            if theirs is not None:
                theirs(name, info)

        self._hold.enter()
        try:
            progress(self._tells)
            response = self._inner.handle_request(self._copy(finish_timeout, trace))
            try:
                chunks = []
                for chunk in response.stream:
                    chunks.append(chunk)
                    progress(False)
            finally:
                response.close()
            return self._received(response, chunks)
        except Exception as error:
            return _failed(error)
        finally:
            if self._hold.leave():
                self._inner.close()


class _AsyncExchange(_Exchange):
    async def send(self, progress: Progress, finish_timeout: float) -> Received | Failed:
        theirs = self._original.extensions.get("trace")

        async def trace(name: str, info: Any) -> None:
            if name.endswith(_WAITING):
                progress(False)
            if theirs is not None:
                await theirs(name, info)

        self._hold.enter()
        try:
            progress(self._tells)
            response = await self._inner.handle_async_request(self._copy(finish_timeout, trace))
            try:
                chunks = []
                async for chunk in response.stream:
                    chunks.append(chunk)
                    progress(False)
            finally:
                await response.aclose()
            return self._received(response, chunks)
        except Exception as error:
            return _failed(error)
        finally:
            if self._hold.leave():
                await self._inner.aclose()


class _Hold:
    """Keeps the inner transport open until the last flight through it has ended: closing it would kill them."""

    def __init__(self) -> None:
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


# --- after ------------------------------------------------------------------------------------------------------------


def _response(module: ModuleType, reply: Reply, request: Any) -> Any:
    """The client's own response, or its own exception."""
    match reply:
        case Replay(outcome, key, answer, created, now, saved, reason):
            age = None if created is None or outcome is not Outcome.HIT else now - created
            added = answer_headers(outcome, key=key, age=age, saved=saved, reason=reason)
            length = ("content-length", str(len(answer.body)))
            return module.Response(
                answer.status,
                headers=[*answer.headers, length, *added],
                stream=module.ByteStream(answer.body),
                extensions={"http_version": b"HTTP/1.1"},
            )
        case Original(key, received, reason):
            added = answer_headers(Outcome.MISS, key=key, reason=reason)
            return module.Response(
                received.answer.status,
                headers=[*received.headers, *added],
                stream=module.ByteStream(received.raw),
                extensions=dict(received.extensions),
            )
        case Crashed(error, shared):
            raise _own(module, error) if shared else error
        case TimedOut():
            raise module.ReadTimeout("The read operation timed out", request=request)
    raise TypeError(f"not a reply: {reply!r}")


def _own(module: ModuleType, error: BaseException) -> BaseException:
    """A copy of another caller's exception, as this caller's module would have raised it.

    A copy, because an exception raised in many threads at once gathers all their tracebacks; of this module, because
    the other caller may have used httpx where this one uses httpx2, and an SDK catches only its own.
    """
    mine = getattr(module, type(error).__name__, None)
    if isinstance(mine, type) and issubclass(mine, BaseException) and not isinstance(error, mine):
        twin: BaseException = mine(str(error))
    else:
        try:
            twin = copy.copy(error)
        except Exception:  # an exception that cannot be copied is shared after all
            return error
    twin.__cause__ = error
    return twin


def _pass(module: ModuleType, engine: Engine, through: PassThrough, response: Any) -> Any:
    """The provider's response, streaming untouched, with our headers; its outcome is recorded when it is over."""
    for name, value in answer_headers(Outcome.BYPASS, reason=through.reason):
        response.headers[name] = value
    if hasattr(response, "_content"):
        _record(engine, through, response.status_code, response)
    elif isinstance(through.asked, Asked):
        response.stream = _watched(module)(engine, through, response)
    else:
        _record(engine, through, response.status_code, None)
    return response


def _record(engine: Engine, through: PassThrough, status: int | None, response: Any) -> None:
    if engine.disabled:
        return
    answer = None if response is None else Answer(status or 0, _pairs(response.headers), response.content)
    engine.record_pass(through, status=status, answer=answer)


@cache
def _watched(module: ModuleType) -> Any:
    """The stream class that hands a passed-through answer on as it comes and prices it when it is over."""

    class WatchedStream(module.SyncByteStream, module.AsyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, engine: Engine, through: PassThrough, response: Any) -> None:
            self._engine, self._through, self._inner = engine, through, response.stream
            self._status, self._headers = response.status_code, list(response.headers.raw)
            self._seen: list[bytes] | None = []
            self._size = 0
            self._whole = self._recorded = False

        def __iter__(self) -> Iterator[bytes]:
            for chunk in self._inner:
                self._look_at(chunk)
                yield chunk
            self._whole = True

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self._inner:
                self._look_at(chunk)
                yield chunk
            self._whole = True

        def close(self) -> None:
            try:
                self._inner.close()
            finally:
                self._record()

        async def aclose(self) -> None:
            try:
                await self._inner.aclose()
            finally:
                self._record()

        def _look_at(self, chunk: bytes) -> None:
            self._size += len(chunk)
            if self._size > _WATCHED:
                self._seen = None
            if self._seen is not None:
                self._seen.append(chunk)

        def _record(self) -> None:
            if self._recorded:
                return
            self._recorded = True
            response = None
            if self._whole and self._seen is not None:
                try:
                    response = module.Response(self._status, headers=self._headers, content=b"".join(self._seen))
                except module.DecodingError:
                    response = None
            _record(self._engine, self._through, self._status, response)

    return WatchedStream


def _pairs(headers: Any) -> Headers:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.raw)


# --- wrapping ---------------------------------------------------------------------------------------------------------


def wrap_client(engine: Engine, client: Any, *, asynchronous: bool) -> Any:
    """A copy of a client whose transports stand behind ours. Settings, hooks, cookies, auth and pool are shared.

    A fresh client around the given one was rejected: it loses default headers, params, cookies and subclasses' own
    attributes. A shallow copy keeps them all.
    """
    module = module_of(client)
    kind = transports(module).asynchronous if asynchronous else transports(module).sync
    if isinstance(client._transport, kind) and client._transport._engine is engine:
        return client  # wrapped by this cache before: a second layer would count every request twice
    wrapped = copy.copy(client)
    wrapped._transport = kind(engine, client._transport)
    wrapped._mounts = {
        pattern: None if inner is None else kind(engine, inner) for pattern, inner in client._mounts.items()
    }
    wrapped._cachelayer_given = client
    _spare_pool_from_finalizer(wrapped, "aclose" if asynchronous else "close")
    return wrapped


def _spare_pool_from_finalizer(wrapped: Any, name: str) -> None:
    """SDKs close their http client in its __del__. Of a copy that would close the pool it shares with the given client,
    which may still be in use; the given client's own __del__ does it when its time comes."""
    if not hasattr(type(wrapped), "__del__"):
        return
    kind = type(wrapped)

    class Closing:
        def __init__(self, owner: Any) -> None:
            import weakref

            self._owner = weakref.ref(owner)

        def __call__(self) -> Awaitable[None] | None:
            owner = self._owner()
            if owner is None or sys._getframe(1).f_code.co_name == "__del__":
                return None
            result: Awaitable[None] | None = getattr(kind, name)(owner)
            return result

    setattr(wrapped, name, Closing(wrapped))


def module_of(client: Any) -> ModuleType:
    """httpx or httpx2: the module whose client this is."""
    for base in type(client).__mro__:
        root = base.__module__.partition(".")[0]
        if root in ("httpx", "httpx2"):
            return sys.modules[root]
    raise TypeError(f"{type(client).__name__} is no client of httpx or httpx2")
