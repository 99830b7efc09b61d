"""A provider that never ends its answer: when the last caller has left, finish_timeout is all that its call gets."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import cachelayer
from cachelayer.core.model import Outcome
from tests.asking import PATH, body

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n"


class Trickle:
    """Sends a byte of its answer every 50 ms until its peer is gone."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.gone, self._ends = threading.Event(), threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with self._socket.accept()[0] as peer:
            peer.recv(65536)
            try:
                peer.sendall(HEAD)
                while not self._ends.wait(0.05):
                    peer.sendall(b" ")
            except OSError:
                self.gone.set()

    def close(self) -> None:
        self._ends.set()
        self._socket.close()


@pytest.fixture
def trickle() -> Iterator[Trickle]:
    trickle = Trickle()
    yield trickle
    trickle.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_trickling_answer_ends_finish_timeout_after_its_last_caller(
    kind: str, trickle: Trickle, folder: Path
) -> None:
    with cachelayer.Cache(path=folder, finish_timeout=0.5) as cache:
        timeout = httpx.Timeout(60, read=0.02)
        if kind == "sync":
            with cache.wrap(httpx.Client(timeout=timeout)) as client, pytest.raises(httpx.ReadTimeout):
                client.post(trickle.url + PATH, json=body())
            assert trickle.gone.wait(60)
        else:

            async def main() -> None:
                async with cache.wrap(httpx.AsyncClient(timeout=timeout)) as client:
                    with pytest.raises(httpx.ReadTimeout):
                        await client.post(trickle.url + PATH, json=body())
                assert await asyncio.to_thread(trickle.gone.wait, 60)

            asyncio.run(main())
        while cache._engine.flights._calls:
            time.sleep(0.01)
        booked = [(event.outcome, event.reason, event.upstream) for event in cache._engine.ledger.events()]
        assert booked == [(Outcome.ERROR, "abandoned", 1)]


def test_it_goes_on_while_somebody_waits(trickle: Trickle, folder: Path) -> None:
    with (
        cachelayer.Cache(path=folder, finish_timeout=0.2, hedge_after=0.2) as cache,
        cache.wrap(httpx.Client(timeout=30)) as client,
    ):
        threads = [threading.Thread(target=_ask, args=(client, trickle)) for _ in range(2)]
        for thread in threads:
            thread.start()
        # Neither ended nor, since something comes all the time, asked again (nobody listens there any more).
        assert not trickle.gone.wait(1.5)
        assert len(cache._engine.flights._calls) == 1
        trickle.close()
        for thread in threads:
            thread.join()


def _ask(client: httpx.Client, trickle: Trickle) -> None:
    try:
        client.post(trickle.url + PATH, json=body())
    except httpx.HTTPError:
        return
