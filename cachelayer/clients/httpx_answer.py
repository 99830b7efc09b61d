"""What a client of httpx or httpx2 gets back: its own responses and exceptions, made of the flow's replies.

Also what is passed through: handed on as it comes, marked, and watched to its end.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from cachelayer.clients.httpx_streams import body_stream, watched_stream
from cachelayer.clients.surface import Passing, added_headers, one_more, served_by
from cachelayer.core.model import Answer, Headers
from cachelayer.core.trip import Crashed, Original, Replay, Reply, TimedOut


def response_of(module: ModuleType, reply: Reply, request: Any) -> Any:
    """The client's own response, or its own exception."""
    match reply:
        case Original() if isinstance(reply.received.extensions, module.Response):
            return _marked(reply.received.extensions, added_headers(reply))
        case Replay() | Original():
            served = served_by(reply)
            stream = body_stream(module)(served.body)
            extensions = {"http_version": b"HTTP/1.1"} if isinstance(reply, Replay) else dict(reply.received.extensions)
            response = module.Response(
                served.status, headers=_raw(served.headers), stream=stream, extensions=extensions
            )
            stream.response = weakref.ref(response)
            return response
        case Crashed(error, shared):
            raise one_more(error, lambda error: _again(module, error)) if shared else error
        case TimedOut():
            raise module.ReadTimeout("The read operation timed out", request=request)
    raise TypeError(f"not a reply: {reply!r}")


def _again(module: ModuleType, error: BaseException) -> BaseException:
    if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2"):
        return copy.copy(error)
    twin: BaseException = getattr(module, type(error).__name__)(str(error))
    return twin


def passed(module: ModuleType, passing: Passing, response: Any) -> Any:
    """The provider's response, streaming untouched, with our headers; it is booked when it is over."""
    _marked(response, passing.headers)
    status, headers = response.status_code, list(response.headers.raw)

    def read(body: bytes) -> Answer | None:
        try:
            whole = module.Response(status, headers=headers, content=body)
        except module.DecodingError:
            return None
        return Answer(status, pairs(whole.headers), whole.content)

    if hasattr(response, "_content"):
        passing.book(status, Answer(status, pairs(response.headers), response.content))
        return response
    watch = passing.arrived(status, read)
    if watch is not None:
        response.stream = watched_stream(module)(watch, response.stream)
    return response


def _marked(response: Any, added: Headers) -> Any:
    """A response of the user's own transport with our headers, in place of any that the provider spelled alike."""
    for name in [name for name in response.headers if name.lower().startswith("x-cachelayer")]:
        del response.headers[name]
    for name, value in added:
        response.headers[name] = value
    return response


def pairs(headers: Any) -> Headers:
    """The header fields of a request or response of either module, as they were spelled."""
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.raw)


def _raw(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    # As bytes: given text, both modules encode it as ASCII and raise on what a provider may send (RFC 9110, 5.5).
    return [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in headers]
