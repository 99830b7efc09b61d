"""The streams that httpx and httpx2 read and send bodies by, made once per module. Nothing else lives here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any

from cachelayer.clients.surface import Watch

_PIECE = 1_048_576
"""Bytes. httpcore copies what is left of a piece at every write to the socket: of 280 MB in one piece, 40 GB."""


@cache
def piece_stream(module: ModuleType) -> Any:
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


@cache
def body_stream(module: ModuleType) -> Any:
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


@cache
def watched_stream(module: ModuleType) -> Any:
    """The stream class that hands a passed-through answer on as it comes."""

    class WatchedStream(module.SyncByteStream, module.AsyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, watch: Watch, inner: Any) -> None:
            self._watch, self._inner = watch, inner

        def __iter__(self) -> Iterator[bytes]:
            for chunk in self._inner:
                self._watch.chunk(chunk)
                yield chunk
            self._watch.end()

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self._inner:
                self._watch.chunk(chunk)
                yield chunk
            self._watch.end()

        def close(self) -> None:
            try:
                self._inner.close()
            finally:
                self._watch.close()

        async def aclose(self) -> None:
            try:
                await self._inner.aclose()
            finally:
                self._watch.close()

    return WatchedStream
