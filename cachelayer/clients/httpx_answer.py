"""What a client of httpx or httpx2 gets back: its own responses and exceptions, made of the flow's replies.

Also what is passed through: handed on as it comes, marked, and recorded when it is over.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import cache
from types import ModuleType
from typing import Any

from cachelayer.core.model import Answer, Asked, Headers, Outcome
from cachelayer.core.policy import answer_headers
from cachelayer.core.trip import Crashed, Original, PassThrough, Replay, Reply, TimedOut
from cachelayer.runtime.engine import Engine
from cachelayer.runtime.sync import watch_pass

_WATCHED = 67_108_864
"""Bytes of a passed-through answer that are kept to price it; a longer answer stays unpriced."""
_OURS = "x-cachelayer"


def response_of(module: ModuleType, reply: Reply, request: Any) -> Any:
    """The client's own response, or its own exception."""
    match reply:
        case Replay(outcome, key, answer, age, saved, reason):
            added = answer_headers(outcome, key=key, age=age, saved=saved, reason=reason)
            length = ("content-length", str(len(answer.body)))
            headers = [*answer.headers, length, *added]
            return _response(module, answer.status, headers, answer.body, {"http_version": b"HTTP/1.1"})
        case Original(key, received, reason):
            added = answer_headers(Outcome.MISS, key=key, reason=reason)
            if isinstance(received.extensions, module.Response):
                return _marked(received.extensions, added)
            theirs = [pair for pair in received.headers if not pair[0].lower().startswith(_OURS)]
            headers = [*theirs, *added]
            return _response(module, received.answer.status, headers, received.raw, dict(received.extensions))
        case Crashed(error, shared):
            raise _own(module, error) if shared else error
        case TimedOut():
            raise module.ReadTimeout("The read operation timed out", request=request)
    raise TypeError(f"not a reply: {reply!r}")


def _response(module: ModuleType, status: int, headers: Iterable[tuple[str, str]], body: bytes, extensions: Any) -> Any:
    stream = _body_stream(module)(body)
    response = module.Response(status, headers=_raw(headers), stream=stream, extensions=extensions)
    stream.response = weakref.ref(response)
    return response


@cache
def _body_stream(module: ModuleType) -> Any:
    """The stream class of a body that is in memory already."""

    class BodyStream(module.ByteStream):  # type: ignore[name-defined, misc]
        """Lets go of its response when it is closed.

        httpx's client puts a stream of its own around this one that knows the response, which knows the stream: only
        the garbage collector would take such a pair, with an image in it, and each answer would be written into memory
        of its own, a page fault for every 4 KB (a 2 MB hit: 4 times as long). httpx2 ties no such knot.
        """

        response: Callable[[], Any]
        """A weak reference."""

        def close(self) -> None:
            response = self.response()
            is_tied = response is not None and getattr(response.stream, "_response", None) is response
            if is_tied:
                response.stream = self

        async def aclose(self) -> None:
            self.close()

    return BodyStream


def _own(module: ModuleType, error: BaseException) -> BaseException:
    """A copy of another caller's exception, as this caller's module would have raised it.

    A copy, because an exception raised in many threads at once gathers all their tracebacks; of this module, because
    the other caller may have used httpx where this one uses httpx2, and an SDK catches only its own.
    """
    try:
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2"):
            twin: BaseException = getattr(module, type(error).__name__)(str(error))
        else:
            twin = copy.copy(error)
    except Exception:  # an exception that cannot be copied is shared after all
        return error
    twin.__cause__ = error
    return twin


def passed(module: ModuleType, engine: Engine, through: PassThrough, response: Any) -> Any:
    """The provider's response, streaming untouched, with our headers; its outcome is recorded when it is over."""
    _marked(response, answer_headers(Outcome.BYPASS, reason=through.reason))
    if hasattr(response, "_content"):
        _book(engine, through, response.status_code, response)
    elif isinstance(through.asked, Asked):
        response.stream = _watched(module)(engine, through, response)
    else:
        _book(engine, through, response.status_code, None)
    return response


def _marked(response: Any, added: Headers) -> Any:
    """A response of the user's own transport with our headers, in place of any that the provider spelled alike."""
    for name in [name for name in response.headers if name.lower().startswith(_OURS)]:
        del response.headers[name]
    for name, value in added:
        response.headers[name] = value
    return response


def _book(engine: Engine, through: PassThrough, status: int, response: Any) -> None:
    """Have the outcome of a request that was passed through booked. response: None when unread."""
    answer = None if response is None else Answer(status, pairs(response.headers), response.content)
    watch_pass(engine, through, status, answer)


@cache
def _watched(module: ModuleType) -> Any:
    """The stream class that hands a passed-through answer on as it comes and prices it when it is over."""

    class WatchedStream(module.SyncByteStream, module.AsyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, engine: Engine, through: PassThrough, response: Any) -> None:
            self._engine, self._through, self._inner = engine, through, response.stream
            self._status, self._headers = response.status_code, list(response.headers.raw)
            # An answer that streams cannot be priced: nothing to keep.
            streams = isinstance(through.asked, Asked) and through.asked.stream
            self._seen: list[bytes] | None = None if streams else []
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
            _book(self._engine, self._through, self._status, response)

    return WatchedStream


def pairs(headers: Any) -> Headers:
    """The header fields of a request or response of either module, as they were spelled."""
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.raw)


def _raw(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    # As bytes: given text, both modules encode it as ASCII and raise on what a provider may send (RFC 9110, 5.5).
    return [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in headers]
