"""A hit on an answer with a 2 MB image, against the floor of its parts and against the same call without a cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diskcache
import httpx
import httpx2
import pybase64
import pytest
from openai import OpenAI

import cachelayer
from bench.conftest import faults_each
from cachelayer.core.entry import decode
from cachelayer.runtime.body import body_of
from cachelayer.stores.base import Parcel

URL = "http://provider.example/v1/images/generations"
BODY: dict[str, Any] = {"model": "gpt-image-2", "prompt": "a lighthouse at dusk", "size": "1024x1024"}


def provider(module: Any, answer: bytes) -> Any:
    """A transport that stands for a provider, so that only the cache is timed."""
    return module.MockTransport(
        lambda request: module.Response(200, headers={"content-type": "application/json"}, content=answer)
    )


@pytest.fixture
def hit(cache: cachelayer.Cache, answer: bytes) -> Callable[[], httpx.Response]:
    client = cache.wrap(httpx.Client(transport=provider(httpx, answer)))
    assert client.post(URL, json=BODY).headers["x-cachelayer"] == "MISS"
    return lambda: client.post(URL, json=BODY)


@pytest.mark.benchmark(group="hit: 2 MB image, httpx")
def test_floor_read_the_file_and_encode_it(benchmark: Any, tmp_path: Path, image: bytes) -> None:
    file = tmp_path / "image"
    file.write_bytes(image)
    benchmark(lambda: pybase64.b64encode(file.read_bytes()))


@pytest.mark.benchmark(group="hit: 2 MB image, httpx")
def test_floor_httpx_alone_in_memory(benchmark: Any, answer: bytes) -> None:
    client = httpx.Client(transport=provider(httpx, answer))
    benchmark(lambda: client.post(URL, json=BODY))


@pytest.mark.benchmark(group="hit: 2 MB image, httpx")
def test_peer_diskcache_of_whole_bodies(benchmark: Any, tmp_path: Path, answer: bytes) -> None:
    with diskcache.Cache(str(tmp_path / "peer")) as peer:
        peer["key"] = answer
        benchmark(lambda: peer["key"])


@pytest.mark.benchmark(group="hit: 2 MB image, httpx")
def test_cachelayer(benchmark: Any, hit: Callable[[], httpx.Response], answer: bytes) -> None:
    response = benchmark(hit)
    benchmark.extra_info["faults"] = faults_each(hit)
    assert response.headers["x-cachelayer"] == "HIT"
    assert response.content == answer


@pytest.mark.benchmark(group="hit: 2 MB image, the body alone")
def test_body_floor_read_the_file_and_encode_it(benchmark: Any, tmp_path: Path, image: bytes) -> None:
    file = tmp_path / "image"
    file.write_bytes(image)
    benchmark(lambda: pybase64.b64encode(file.read_bytes()))
    benchmark.extra_info["faults"] = faults_each(lambda: pybase64.b64encode(file.read_bytes()))


@pytest.mark.benchmark(group="hit: 2 MB image, the body alone")
def test_body_cachelayer_checked_and_rebuilt(
    benchmark: Any, cache: cachelayer.Cache, hit: Callable[[], httpx.Response], answer: bytes
) -> None:
    tier = cache._engine.tier
    assert tier.store is not None
    (head,) = tier.store.heads()
    parcel = tier.fetch(head.key)
    assert isinstance(parcel, Parcel)
    entry = decode(parcel.record)
    assert benchmark(lambda: body_of(entry, parcel.contents.pour)) == answer
    benchmark.extra_info["faults"] = faults_each(lambda: body_of(entry, parcel.contents.pour))


@pytest.mark.benchmark(group="hit: 2 MB image, OpenAI SDK")
def test_sdk_floor_parse_an_answer_from_memory(benchmark: Any, answer: bytes) -> None:
    client = OpenAI(api_key="k", base_url="http://p/v1", http_client=httpx2.Client(transport=provider(httpx2, answer)))
    benchmark(lambda: client.images.generate(**BODY))


@pytest.mark.benchmark(group="hit: 2 MB image, OpenAI SDK")
def test_sdk_cachelayer(benchmark: Any, cache: cachelayer.Cache, answer: bytes) -> None:
    plain = OpenAI(api_key="k", base_url="http://p/v1", http_client=httpx2.Client(transport=provider(httpx2, answer)))
    client = cache.wrap(plain)
    client.images.generate(**BODY)
    benchmark(lambda: client.images.generate(**BODY))
    assert cache.stats().misses == 1


@pytest.mark.benchmark(group="hit: small answer, httpx")
def test_small_floor_httpx_alone_in_memory(benchmark: Any, small: bytes) -> None:
    client = httpx.Client(transport=provider(httpx, small))
    benchmark(lambda: client.post(URL, json=BODY))


@pytest.mark.benchmark(group="hit: small answer, httpx")
def test_small_cachelayer(benchmark: Any, cache: cachelayer.Cache, small: bytes) -> None:
    client = cache.wrap(httpx.Client(transport=provider(httpx, small)))
    client.post(URL, json=BODY)
    assert benchmark(lambda: client.post(URL, json=BODY)).headers["x-cachelayer"] == "HIT"
