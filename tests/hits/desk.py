"""Who asks through the cache and past it, and the requests that he asks."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import httpx

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import GEMINI_PATH, PATH, body, gemini_body

EDITS = "/v1/images/edits"
JSON = {"content-type": "application/json"}


def png(shade: int) -> bytes:
    """A whole picture of 16 x 16 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)
    rows = (b"\0" + bytes([shade]) * 16) * 16
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


RED, GREEN, BLUE = (png(shade) for shade in (10, 20, 30))


def pictures(answer: httpx.Response) -> list[str]:
    document = answer.json()
    if "data" in document:
        return [item["b64_json"] for item in document["data"]]
    parts = [part for candidate in document["candidates"] for part in candidate["content"]["parts"]]
    return [part["inlineData"]["data"] for part in parts if "inlineData" in part]


class Desk:
    """Asks through the cache, and past it for the truth."""

    def __init__(self, cache: cachelayer.Cache, simulator: Simulator, truth: Simulator) -> None:
        self.simulator, self.truth = simulator, truth
        self.client = cache.wrap(httpx.Client(timeout=60))
        self.plain = httpx.Client(timeout=60)

    def ask(self, path: str, simulator: Simulator | None = None, **request: Any) -> tuple[str, bytes]:
        """(outcome, body); fails when a miss brings other pictures than the provider's, or a hit makes a call."""
        simulator = simulator or self.simulator
        calls = simulator.calls
        answer = self.client.post(simulator.url + path, **request)
        assert answer.status_code == 200, answer.text
        outcome = answer.headers["x-cachelayer"]
        if outcome == "HIT":
            assert simulator.calls == calls
        else:
            assert pictures(answer) == self.drawn(path, **request)
            assert simulator.calls == calls + 1
        return outcome, answer.content

    def drawn(self, path: str, **request: Any) -> list[str]:
        return pictures(self.plain.post(self.truth.url + path, **request))

    def apart(self, *requests: tuple[str, dict[str, Any]]) -> None:
        """All of these are different questions: each is a miss once and then a hit with its own answer."""
        bodies = []
        for path, request in requests:
            outcome, first = self.ask(path, **request)
            assert outcome == "MISS", request
            bodies.append(first)
        assert len(set(bodies)) == len(bodies)
        for (path, request), first in zip(requests, bodies, strict=True):
            assert self.ask(path, **request) == ("HIT", first)

    def together(self, *requests: tuple[str, dict[str, Any]]) -> None:
        """All of these are one question: a miss, then hits with its answer."""
        (path, request), *others = requests
        outcome, first = self.ask(path, **request)
        assert outcome == "MISS"
        for path, other in [*others, requests[0]]:
            assert self.ask(path, **other) == ("HIT", first), other

    def close(self) -> None:
        self.client.close()
        self.plain.close()


def images(**fields: Any) -> tuple[str, dict[str, Any]]:
    headers, params = fields.pop("headers", None), fields.pop("params", None)
    return PATH, {"json": body(**fields), "headers": headers, "params": params}


def gemini(*, model: str = "gemini-3-pro-image", **config: Any) -> tuple[str, dict[str, Any]]:
    return f"/v1beta/models/{model}:generateContent", {"json": gemini_body(**config)}


def referring(*pieces: bytes, text: str = "like these", first: bool = True) -> tuple[str, dict[str, Any]]:
    inline = [{"inlineData": {"mimeType": "image/png", "data": base64.b64encode(data).decode()}} for data in pieces]
    parts = [*inline, {"text": text}] if first else [{"text": text}, *inline]
    config = {"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": "512", "aspectRatio": "1:8"}}
    return GEMINI_PATH, {"json": {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}}


def editing(*pieces: bytes, mask: bytes | None = None, **fields: str) -> tuple[str, dict[str, Any]]:
    files = [("image[]", (f"{number}.png", data, "image/png")) for number, data in enumerate(pieces)]
    if mask is not None:
        files.append(("mask", ("mask.png", mask, "image/png")))
    return EDITS, {
        "data": {"model": "gpt-image-2", "prompt": "like these", "size": "64x64", **fields},
        "files": files,
    }
