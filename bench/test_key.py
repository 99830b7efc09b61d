"""The key of a request, against one SHA-256 pass over the raw images it carries (goal: not above 1.3x)."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import pybase64
import pytest
from blake3 import blake3

from cachelayer import Request, dialects
from cachelayer.core.model import Asked, KeyRules, Unkeyed
from cachelayer.runtime.memo import Memo

URL = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-image:generateContent"
HEADERS = {"content-type": "application/json"}
IMAGES = 14
IMAGE_SIZE = 5_357_142
"""Bytes; fourteen of them make a request of 100 MB."""


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return [random.Random(number).randbytes(IMAGE_SIZE) for number in range(IMAGES)]


@pytest.fixture(scope="module")
def request_body(images: list[bytes]) -> bytes:
    parts: list[dict[str, Any]] = [{"text": "Put all of these on one table, seen from above."}]
    parts += [{"inlineData": {"mimeType": "image/png", "data": pybase64.b64encode(i).decode()}} for i in images]
    return json.dumps({"contents": [{"role": "user", "parts": parts}]}).encode()


@pytest.mark.benchmark(group="key: 100 MB request, 14 inline images", min_rounds=7)
def test_floor_one_sha256_pass_over_the_raw_images(benchmark: Any, images: list[bytes]) -> None:
    def floor() -> None:
        digest = hashlib.sha256()
        for image in images:
            digest.update(image)

    benchmark(floor)


@pytest.mark.benchmark(group="key: 100 MB request, 14 inline images", min_rounds=7)
def test_cachelayer(benchmark: Any, request_body: bytes) -> None:
    request = Request("POST", URL, HEADERS, request_body)
    assert isinstance(benchmark(lambda: dialects.ask(request, KeyRules())), Asked)


@pytest.mark.benchmark(group="key: 100 MB request, 14 inline images", min_rounds=3)
def test_peer_json_sort_keys_sha256(benchmark: Any, request_body: bytes) -> None:
    benchmark(lambda: hashlib.sha256(json.dumps(json.loads(request_body), sort_keys=True).encode()).hexdigest())


SMALL = json.dumps(
    {"model": "gpt-image-2", "prompt": "a lighthouse at dusk, oil on canvas", "size": "1024x1024"}
).encode()


@pytest.mark.benchmark(group="key: small request")
def test_small_floor_one_blake3_pass_over_the_body(benchmark: Any) -> None:
    benchmark(lambda: blake3(SMALL).hexdigest())


@pytest.mark.benchmark(group="key: small request")
def test_small_cachelayer_seen_before(benchmark: Any) -> None:
    memo = Memo(KeyRules())

    def ask() -> Asked | Unkeyed:  # a request of its own each time, as clients make them
        return memo.ask(Request("POST", "https://api.openai.com/v1/images/generations", HEADERS, SMALL))

    assert isinstance(benchmark(ask), Asked)


@pytest.mark.benchmark(group="key: small request")
def test_small_cachelayer_never_seen(benchmark: Any) -> None:
    request = Request("POST", "https://api.openai.com/v1/images/generations", HEADERS, SMALL)
    assert isinstance(benchmark(lambda: dialects.ask(request, KeyRules())), Asked)


@pytest.mark.benchmark(group="key: small request")
def test_small_peer_json_sort_keys_sha256(benchmark: Any) -> None:
    benchmark(lambda: hashlib.sha256(json.dumps(json.loads(SMALL), sort_keys=True).encode()).hexdigest())
