"""The real console script, and real stores for it to look at: made through a wrapped client and the simulator."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import httpx
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.cli.command import SCRIPT, Ended, Run, Stored


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """run(*arguments, stdin="", env={}, cwd=...) of the console script; it never sees the developer's terminal."""

    def run(*arguments: object, stdin: str = "", env: dict[str, str] | None = None, cwd: Path = tmp_path) -> Ended:
        ended = subprocess.run(
            [SCRIPT, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=cwd,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **(env or {})},
            timeout=100,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

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
