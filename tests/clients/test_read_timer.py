"""As without the cache: a caller's read timeout starts anew whenever anything comes from the provider."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import PATH, body

READ_TIMEOUT = 1.0
GAP = 0.3
PIECES = 5
"""Together longer than the read timeout, none of them alone."""


class Slow:
    """A provider that is never silent for READ_TIMEOUT, and takes longer than that until its head is there.

    silent: it then says nothing more, as a provider that hangs.
    """

    def __init__(self, pieces: list[bytes], rest: bytes, *, silent: bool = False) -> None:
        self._pieces, self._rest, self._silent = pieces, rest, silent
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            received = b""
            while b"lighthouse" not in received:
                received += connection.recv(65_536)
            for piece in self._pieces:
                connection.sendall(piece)
                if self._over.wait(GAP):
                    return
            if self._silent:
                self._over.wait()
                return
            try:
                connection.sendall(self._rest)
            except OSError:
                return  # the caller has left, as he may

    def close(self) -> None:
        self._over.set()
        self._listening.close()


def rest() -> bytes:
    with Simulator() as simulator:
        answer = httpx.post(simulator.url + PATH, json=body()).content
    head = f"content-type: application/json\r\ncontent-length: {len(answer)}\r\nconnection: close\r\n\r\n"
    return head.encode() + answer


EARLY = {
    "102 Processing": [b"HTTP/1.1 102 Processing\r\n\r\n"] * PIECES + [b"HTTP/1.1 200 OK\r\n"],
    "103 Early Hints": [b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"] * PIECES + [b"HTTP/1.1 200 OK\r\n"],
    "a head in pieces": [b"HTTP/1.1 ", b"200 ", b"OK\r\n", b"x-slow", b": 1\r\n"],
}


@pytest.fixture
def closing() -> Iterator[list[Slow]]:
    servers: list[Slow] = []
    yield servers
    for server in servers:
        server.close()


def ask(module: Any, client: Any, server: Slow) -> Any:
    if isinstance(client, module.AsyncClient):

        async def once() -> Any:
            async with client:
                try:
                    return await client.post(server.url + PATH, json=body(), timeout=READ_TIMEOUT)
                except module.ReadTimeout:
                    server.close()  # the end of asyncio.run waits for the flight
                    raise

        return asyncio.run(once())
    with client:
        return client.post(server.url + PATH, json=body(), timeout=READ_TIMEOUT)


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
@pytest.mark.parametrize("module", [httpx, httpx2])
@pytest.mark.parametrize("early", EARLY)
def test_what_comes_before_the_head_starts_the_timer_anew(
    early: str, module: Any, kind: str, cache: cachelayer.Cache, closing: list[Slow]
) -> None:
    server = Slow(EARLY[early], rest())
    closing.append(server)
    answer = ask(module, cache.wrap(getattr(module, kind)()), server)
    assert answer.headers["x-cachelayer"] == "MISS"
    assert answer.json()["data"]


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
@pytest.mark.parametrize("module", [httpx, httpx2])
def test_a_silence_after_it_is_still_a_read_timeout(
    module: Any, kind: str, cache: cachelayer.Cache, closing: list[Slow]
) -> None:
    wraps: list[Callable[[Any], Any]] = [lambda client: client, cache.wrap]
    for wrap in wraps:
        server = Slow(EARLY["102 Processing"][:2], b"", silent=True)
        closing.append(server)
        with pytest.raises(module.ReadTimeout):
            ask(module, wrap(getattr(module, kind)()), server)
        server.close()
