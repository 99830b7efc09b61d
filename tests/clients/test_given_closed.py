"""Closing the given client, its twin, or their transport under a flight loses no image: the last flight closes."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import google.genai
import httpx
import httpx2
import openai
import pytest
from google.genai import types

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import PATH, body

MODULES = pytest.mark.parametrize("module", [httpx, httpx2])


def landed(cache: cachelayer.Cache, simulator: Simulator) -> None:
    """The provider answers now; whoever asks next gets a HIT, and there was one call."""
    simulator.release()
    assert cache.wait_idle(30) == 0
    answer = cache.wrap(httpx.Client()).post(simulator.url + PATH, json=body(), timeout=30)
    assert answer.headers["x-cachelayer"] == "HIT"
    assert simulator.calls == 1


@MODULES
@pytest.mark.parametrize("who", ["given", "with given", "twin", "transport", "with transport", "both"])
def test_blocking(who: str, module: Any, cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.hold()
    transport = module.HTTPTransport()
    given = module.Client(transport=transport)
    twin = cache.wrap(given)
    if who.startswith("with"):
        (given if who == "with given" else transport).__enter__()
    with pytest.raises(module.ReadTimeout):
        twin.post(simulator.url + PATH, json=body(), timeout=0.2)
    simulator.wait_for_calls(1)
    if who == "with given":
        given.__exit__(None, None, None)
    elif who == "with transport":
        type(transport).__exit__(transport, None, None, None)
    else:
        for one in {"given": [given], "twin": [twin], "transport": [transport], "both": [given, twin]}[who]:
            one.close()
    assert given.is_closed is (who in ("given", "with given", "both"))
    landed(cache, simulator)
    assert transport._pool.connections == []  # closed after all, by the flight
    assert not {"close", "__exit__"} & (vars(transport).keys() | vars(transport._pool).keys())


@MODULES
@pytest.mark.parametrize("who", ["given", "with given", "twin", "transport", "with transport"])
def test_asyncio(who: str, module: Any, cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.hold()
    transport = module.AsyncHTTPTransport()

    async def main() -> None:
        given = module.AsyncClient(transport=transport)
        twin = cache.wrap(given)
        if who.startswith("with"):
            await (given if who == "with given" else transport).__aenter__()
        with pytest.raises(module.ReadTimeout):
            await twin.post(simulator.url + PATH, json=body(), timeout=0.2)
        await asyncio.to_thread(simulator.wait_for_calls, 1)
        if who == "with given":
            await given.__aexit__(None, None, None)
        elif who == "with transport":
            await type(transport).__aexit__(transport, None, None, None)
        else:
            await {"given": given, "twin": twin, "transport": transport}[who].aclose()
        assert given.is_closed is (who in ("given", "with given"))
        simulator.release()

    asyncio.run(main())  # its end waits for the flight
    landed(cache, simulator)
    assert transport._pool.connections == []


@MODULES
def test_a_mounted_transport(module: Any, cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.hold()
    with module.Client(mounts={"http://": module.HTTPTransport()}) as given, pytest.raises(module.ReadTimeout):
        cache.wrap(given).post(simulator.url + PATH, json=body(), timeout=0.2)
    landed(cache, simulator)


def test_a_transport_of_the_users_own(cache: cachelayer.Cache, simulator: Simulator) -> None:
    class OwnTransport(httpx.BaseTransport):
        def __init__(self) -> None:
            self.inner, self.closed = httpx.HTTPTransport(), 0

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            assert not self.closed
            return self.inner.handle_request(request)

        def close(self) -> None:
            self.closed += 1
            self.inner.close()

    simulator.hold()
    transport = OwnTransport()
    with httpx.Client(transport=transport) as given, pytest.raises(httpx.ReadTimeout):
        cache.wrap(given).post(simulator.url + PATH, json=body(), timeout=0.2)
    assert transport.closed == 0
    landed(cache, simulator)
    assert transport.closed == 1


def test_two_twins_of_two_caches_share_one_transport(
    cache: cachelayer.Cache, simulator: Simulator, tmp_path: Any
) -> None:
    simulator.hold()
    given = httpx.Client()
    with cachelayer.Cache(path=tmp_path / "other") as other:
        for one in (cache, other):
            with pytest.raises(httpx.ReadTimeout):
                one.wrap(given).post(simulator.url + PATH, json=body(), timeout=0.2)
        simulator.wait_for_calls(2)
        other.wrap(given).close()
        given.close()
        simulator.release()
        assert cache.wait_idle(30) == other.wait_idle(30) == 0
        assert cache.stats().entries == other.stats().entries == 1
    assert simulator.calls == 2


def test_openai(cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.hold()
    given = openai.OpenAI(base_url=simulator.url + "/v1", api_key="k", timeout=0.3, max_retries=0)
    with given, pytest.raises(openai.APITimeoutError):
        cache.wrap(given).images.generate(**body())
    assert given.is_closed()
    landed(cache, simulator)


def test_async_openai(cache: cachelayer.Cache, simulator: Simulator) -> None:
    async def main() -> None:
        simulator.hold()
        async with openai.AsyncOpenAI(base_url=simulator.url + "/v1", api_key="k", timeout=0.3, max_retries=0) as given:
            with pytest.raises(openai.APITimeoutError):
                await cache.wrap(given).images.generate(**body())
        simulator.release()

    asyncio.run(main())
    landed(cache, simulator)


def _genai(simulator: Simulator) -> google.genai.Client:
    return google.genai.Client(api_key="k", http_options=types.HttpOptions(base_url=simulator.url, timeout=400))


ASK: dict[str, Any] = {
    "model": "gemini-3-pro-image",
    "contents": "a lighthouse at dusk",
    "config": types.GenerateContentConfig(response_modalities=["IMAGE"]),
}


def _genai_landed(cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.release()
    assert cache.wait_idle(30) == 0
    with cache.wrap(google.genai.Client(api_key="k", http_options=types.HttpOptions(base_url=simulator.url))) as client:
        assert client.models.generate_content(**ASK).candidates
    assert (cache.stats().hits, simulator.calls) == (1, 1)


def test_genai(cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.hold()
    with _genai(simulator) as given, pytest.raises(httpx2.ReadTimeout):
        cache.wrap(given).models.generate_content(**ASK)
    simulator.wait_for_calls(1)
    del given
    gc.collect()
    _genai_landed(cache, simulator)


def test_genai_aio(cache: cachelayer.Cache, simulator: Simulator) -> None:
    async def main() -> None:
        simulator.hold()
        given = _genai(simulator)
        with pytest.raises(httpx2.ReadTimeout):
            await cache.wrap(given).aio.models.generate_content(**ASK)
        await asyncio.to_thread(simulator.wait_for_calls, 1)
        await given.aio.aclose()
        simulator.release()

    asyncio.run(main())
    _genai_landed(cache, simulator)
