"""The command line, and real stores for it to look at: made through a wrapped client and the simulator."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.cli.command import Ended, Run, Stored
from tests.cli.prepared import Prepared


@pytest.fixture(scope="session")
def prepared() -> Iterator[Prepared]:
    with Prepared() as server:
        yield server


@pytest.fixture
def run(tmp_path: Path, prepared: Prepared) -> Run:
    """run(*arguments, stdin="", env={}, cwd=...) of the command line; it never sees the developer's terminal."""

    def run(*arguments: object, stdin: str = "", env: dict[str, str] | None = None, cwd: Path = tmp_path) -> Ended:
        return prepared.run([*map(str, arguments)], stdin, {**os.environ, **(env or {})}, cwd)

    return run


@pytest.fixture
def stored(tmp_path: Path, simulator: Simulator) -> Stored:
    path = tmp_path / "store"
    images: dict[str, bytes] = {}
    with cachelayer.Cache(path=path) as cache, cache.wrap(httpx.Client()) as client:
        openai = f"{simulator.url}/v1/images/generations"
        asked = {"model": "gpt-image-2", "prompt": "a lighthouse", "size": "512x512", "quality": "low"}
        first = client.post(openai, json=asked)
        assert client.post(openai, json=asked).headers["x-cachelayer"] == "HIT"
        lighthouse = first.headers["x-cachelayer-key"]
        images[lighthouse] = base64.b64decode(first.json()["data"][0]["b64_json"])
        second = client.post(
            f"{simulator.url}/v1beta/models/gemini-3-pro-image:generateContent",
            json={
                "contents": [{"parts": [{"text": "a harbour \x1b[31mat night"}]}],
                "generationConfig": {"responseModalities": ["IMAGE"]},
            },
        )
        harbour = second.headers["x-cachelayer-key"]
        parts = second.json()["candidates"][0]["content"]["parts"]
        images[harbour] = base64.b64decode(parts[0]["inlineData"]["data"])
        stats = cache.stats()
    return Stored(path, lighthouse, harbour, images, stats, simulator.url)
