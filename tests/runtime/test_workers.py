"""What an event loop does not wait for: hits go on while the disk takes its time."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import httpx
import pytest

import cachelayer
from cachelayer.ledger import segments

URL = "http://provider.example/v1/images/generations"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
MISSES = 24


class SlowDisk:
    """Every sync waits until the disk is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = threading.Semaphore(0)
        """Released by each sync that begins to wait."""
        self._let_go = threading.Event()
        for module, name in ((os, "fsync"), (segments, "_sync")):
            monkeypatch.setattr(module, name, self._slowly(getattr(module, name)))

    def _slowly(self, sync: Any) -> Any:
        def slow(file: int) -> None:
            self.waiting.release()
            assert self._let_go.wait(60)
            sync(file)

        return slow

    def let_go(self) -> None:
        self._let_go.set()


def test_hits_do_not_queue_behind_writes(cache: cachelayer.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"created": 1, "data": [{"b64_json": PNG}]})

    async def run() -> None:
        async with cache.wrap(httpx.AsyncClient(transport=httpx.MockTransport(answer))) as client:

            async def ask(prompt: object) -> str:
                response = await client.post(URL, json={"model": "gpt-image-2", "prompt": f"{prompt}"})
                return str(response.headers["x-cachelayer"])

            assert [await ask("kept"), await ask("kept")] == ["MISS", "HIT"]
            disk = SlowDisk(monkeypatch)
            try:
                misses = [asyncio.ensure_future(ask(number)) for number in range(MISSES)]
                for _ in range(4):  # all who write are held up, and more is to be written
                    assert await asyncio.to_thread(disk.waiting.acquire, timeout=60)
                hits = asyncio.gather(*(ask("kept") for _ in range(20)))
                assert await asyncio.wait_for(hits, 60) == ["HIT"] * 20
            finally:
                disk.let_go()
            assert set(await asyncio.gather(*misses)) == {"MISS"}

    asyncio.run(run())
