"""A provider on a real socket that swallows requests: they arrive, and nothing comes back before it is told to."""

from __future__ import annotations

import base64
import json
import struct
import threading
import time
import zlib
from collections.abc import Callable
from typing import Self

from tests.clients.canned import Arrived, Canned, Said

JSON = (("content-type", "application/json"),)


def png(shade: int) -> bytes:
    """A whole picture of one pixel."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes([0, shade])))
        + chunk(b"IEND", b"")
    )


def image(shade: int) -> Said:
    """A good answer; each shade another picture."""
    usage = {
        "input_tokens": 10,
        "output_tokens": 100,
        "total_tokens": 110,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 0},
    }
    data = [{"b64_json": base64.b64encode(png(shade)).decode()}]
    return Said(200, JSON, json.dumps({"created": 1, "data": data, "usage": usage}).encode())


def shade_of(body: bytes) -> int:
    """Which call brought an answer: its number, from 1."""
    picture = base64.b64decode(json.loads(body)["data"][0]["b64_json"])
    start = picture.index(b"IDAT") + 4
    return zlib.decompress(picture[start : start + struct.unpack(">I", picture[start - 8 : start - 4])[0]])[1]


class Silent:
    """The calls named in `swallow` (from 1) get no answer before `speak`; all others `says(number)` at once."""

    def __init__(self, *swallow: int) -> None:
        self.says: Callable[[int], Said] = image
        self._swallow, self._speaks = set(swallow), threading.Event()
        self._canned, self._lock, self._calls = Canned(), threading.Lock(), 0
        self._canned.answer = self._answer

    @property
    def url(self) -> str:
        return self._canned.url

    @property
    def calls(self) -> int:
        return self._calls

    def speak(self) -> None:
        """Answer what was swallowed."""
        self._speaks.set()

    def wait_for_calls(self, number: int, timeout: float = 60.0) -> None:
        until = time.monotonic() + timeout
        while self._calls < number:
            assert time.monotonic() < until, f"{self._calls} calls came, not {number}"
            time.sleep(0.01)

    def _answer(self, _: Arrived) -> Said:
        with self._lock:
            self._calls += 1
            number = self._calls
        if number in self._swallow:
            self._speaks.wait(120)
        return self.says(number)

    def __enter__(self) -> Self:
        self._canned.__enter__()
        assert self._canned._server is not None
        self._canned._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who asked may have left
        return self

    def __exit__(self, *_: object) -> None:
        self._speaks.set()
        self._canned.__exit__()
