"""Wrapped OpenAI clients: the same type, its own typed answers, every resource led through the cache."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest
from PIL import Image

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import body

pytestmark = [pytest.mark.usefixtures("collected"), pytest.mark.filterwarnings("ignore::ResourceWarning")]

OLD = openai.VERSION < "3"
http = httpx if OLD else httpx2
"""The module the SDK itself runs on."""


def make(kind: Any, simulator: Simulator, **settings: Any) -> Any:
    if issubclass(kind, (openai.AzureOpenAI, openai.AsyncAzureOpenAI)):
        settings = {"azure_endpoint": simulator.url, "api_version": "2025-04-01-preview"} | settings
    else:
        settings = {"base_url": simulator.url + "/v1"} | settings
    return kind(api_key="sk-test", **settings)


BLOCKING = [openai.OpenAI, openai.AzureOpenAI]
ASYNC = [openai.AsyncOpenAI, openai.AsyncAzureOpenAI]


def picture(color: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), color).save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize("kind", BLOCKING)
def test_generate_is_typed_equal_and_free_the_second_time(
    kind: Any, cache: cachelayer.Cache, simulator: Simulator
) -> None:
    client = cache.wrap(make(kind, simulator))
    assert type(client) is kind
    first, second = (client.images.generate(**body()) for _ in range(2))
    assert type(second) is type(first) is openai.types.ImagesResponse
    assert second.model_dump() == first.model_dump()
    assert second.to_dict() == first.to_dict()
    assert second._request_id == first._request_id
    assert second._request_id
    assert base64.b64decode((second.data or [])[0].b64_json or "").startswith(b"\x89PNG")
    assert simulator.calls == 1
    assert (cache.stats().hits, cache.stats().saved_usd) == (1, simulator.billed_usd)


@pytest.mark.parametrize("kind", ASYNC)
def test_async_generate(kind: Any, cache: cachelayer.Cache, simulator: Simulator) -> None:
    async def main() -> None:
        client = cache.wrap(make(kind, simulator))
        assert type(client) is kind
        first, second = [await client.images.generate(**body()) for _ in range(2)]
        assert type(second) is openai.types.ImagesResponse
        assert second.to_dict() == first.to_dict()
        assert second._request_id == first._request_id
        many = await asyncio.gather(*(client.images.generate(**body("shared")) for _ in range(20)))
        assert len({answer.data[0].b64_json for answer in many}) == 1
        await client.close()

    asyncio.run(main())
    assert simulator.calls == 2


@pytest.mark.parametrize("kind", BLOCKING)
def test_edits_with_references_and_mask(
    kind: Any, cache: cachelayer.Cache, simulator: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "red.png").write_bytes(picture("red"))
    client = cache.wrap(make(kind, simulator))

    def edit(*images: Any, mask: Any = None) -> Any:
        extra = {} if mask is None else {"mask": mask}
        return client.images.edit(model="gpt-image-2", prompt="p", image=list(images), size="64x64", **extra)

    with (tmp_path / "red.png").open("rb") as file:
        first = edit(file, picture("blue"))
    second = edit(tmp_path / "red.png", ("other-name", picture("blue"), "application/octet-stream"))
    assert second.to_dict() == first.to_dict()
    assert simulator.calls == 1
    for other in (
        [picture("blue"), picture("red")],
        [picture("red")],
        [picture("red"), picture("blue"), picture("green")],
    ):
        edit(*other)
    edit(picture("red"), picture("blue"), mask=picture("white"))
    assert simulator.calls == 5


@pytest.mark.parametrize("kind", [*BLOCKING, *ASYNC])
def test_settings_are_kept_and_the_given_client_is_unchanged(
    kind: Any, cache: cachelayer.Cache, simulator: Simulator
) -> None:
    class Own(kind):  # type: ignore[misc]
        def __init__(self, tenant: str, **settings: Any) -> None:
            self.tenant = tenant
            super().__init__(api_key="sk-test", **settings)

    where = (
        {"azure_endpoint": simulator.url, "api_version": "2025-04-01-preview"}
        if "Azure" in kind.__name__
        else {"base_url": simulator.url + "/v1"}
    )
    given = Own(
        "acme",
        organization="org-1",
        project="proj-1",
        max_retries=7,
        timeout=12.5,
        default_headers={"x-mine": "1"},
        default_query={"tenant": "acme"},
        **where,
    )
    before = dict(given.__dict__)
    http_before = dict(given._client.__dict__)
    wrapped = cache.wrap(given)
    assert type(wrapped) is Own
    assert isinstance(wrapped, kind)
    for name in ("tenant", "api_key", "organization", "project", "max_retries", "timeout", "base_url"):
        assert getattr(wrapped, name) == getattr(given, name), name
    assert wrapped.default_headers.items() >= {("x-mine", "1")}
    assert wrapped._custom_query == given._custom_query
    assert type(wrapped._client) is type(given._client)
    assert {name: value for name, value in given.__dict__.items() if before.get(name) is not value} == {}
    assert all(given._client.__dict__[name] is value for name, value in http_before.items())
    assert given._client.__dict__.keys() == http_before.keys()


@pytest.mark.parametrize("kind", BLOCKING)
def test_forwarded_is_what_the_plain_client_sends(kind: Any, cache: cachelayer.Cache, simulator: Simulator) -> None:
    settings = {"default_headers": {"x-mine": "1"}, "default_query": {"tenant": "acme"}}
    plain = make(kind, simulator, **settings)
    for client in (plain, cache.wrap(make(kind, simulator, **settings))):  # one jar would carry cookies over
        client.images.generate(**body(), extra_headers={"x-call": "2"}, timeout=33)
    sent = []
    for request in simulator.requests:
        names = [name.lower() for name, _ in request.headers]
        assert names.count("idempotency-key") <= 1
        headers = [pair for pair in request.headers if pair[0].lower() != "idempotency-key"]  # the SDK draws it anew
        sent.append((request.method, request.path, headers, names, request.body))
    assert sent[1] == sent[0]


def test_given_client_stays_uncached(cache: cachelayer.Cache, simulator: Simulator) -> None:
    given = make(openai.OpenAI, simulator)
    wrapped = cache.wrap(given)
    wrapped.images.generate(**body())
    given.images.generate(**body())
    given.images.generate(**body())
    assert simulator.calls == 3
    assert cache.stats().requests == 1


def test_resources_made_before_wrapping_do_not_escape(cache: cachelayer.Cache, simulator: Simulator) -> None:
    class Own(openai.OpenAI):
        from functools import cached_property as _cached

        @_cached
        def settings(self) -> dict[str, int]:
            return {"made": 1}

    given = make(Own, simulator)
    settings = given.settings
    touched = (given.images, given.with_raw_response, given.with_streaming_response, given.chat, given.images.generate)
    wrapped = cache.wrap(given)
    assert given.images is touched[0]
    assert wrapped.images is not given.images
    for _ in range(2):
        wrapped.images.generate(**body())
    wrapped.with_raw_response.images.generate(**body())
    with wrapped.with_streaming_response.images.generate(**body()) as streamed:
        streamed.read()
    assert simulator.calls == 1
    assert cache.stats().hits == 3
    assert wrapped.settings is settings  # a value of the user's own that knows no client stays


def test_with_options_and_copy_stay_cached(cache: cachelayer.Cache, simulator: Simulator) -> None:
    wrapped = cache.wrap(make(openai.OpenAI, simulator))
    wrapped.images.generate(**body())
    for client in (
        wrapped.with_options(timeout=5, max_retries=0),
        wrapped.copy(default_headers={"x-title": "t"}),
        wrapped.with_options(organization="org-2"),
    ):
        assert client.images.with_raw_response.generate(**body()).headers["x-cachelayer"] == "HIT"
    assert simulator.calls == 1
    again = cache.wrap(wrapped.with_options(timeout=5))
    again.images.generate(**body())
    assert cache.stats().requests == 5


def test_raw_and_streaming_responses(cache: cachelayer.Cache, simulator: Simulator) -> None:
    client = cache.wrap(make(openai.OpenAI, simulator))
    typed = client.images.generate(**body())
    raw = client.images.with_raw_response.generate(**body())
    assert raw.headers["x-cachelayer"] == "HIT"
    assert Decimal(raw.headers["x-cachelayer-saved-usd"]) == simulator.billed_usd
    assert raw.parse().to_dict() == typed.to_dict()
    with client.images.with_streaming_response.generate(**body()) as streamed:
        assert streamed.headers["x-cachelayer"] == "HIT"
        pieces = list(streamed.iter_bytes(1000))
    assert b"".join(pieces) == raw.http_response.content
    with client.images.with_streaming_response.generate(**body("new")) as streamed:
        assert streamed.headers["x-cachelayer"] == "MISS"
        assert streamed.json()["data"]
    assert simulator.calls == 2


def test_async_raw_and_streaming_responses(cache: cachelayer.Cache, simulator: Simulator) -> None:
    async def main() -> None:
        async with cache.wrap(make(openai.AsyncOpenAI, simulator)) as client:
            typed = await client.images.generate(**body())
            raw = await client.images.with_raw_response.generate(**body())
            assert raw.headers["x-cachelayer"] == "HIT"
            assert raw.parse().to_dict() == typed.to_dict()
            async with client.images.with_streaming_response.generate(**body()) as streamed:
                pieces = [piece async for piece in streamed.iter_bytes(1000)]
            assert b"".join(pieces) == raw.http_response.content

    asyncio.run(main())
    assert simulator.calls == 1


def test_streams_pass_through_as_typed_events(cache: cachelayer.Cache, simulator: Simulator) -> None:
    client = cache.wrap(make(openai.OpenAI, simulator))
    plain = make(openai.OpenAI, simulator)
    for _ in range(2):
        events = list(client.images.generate(**body(), stream=True, partial_images=1))
        expected = list(plain.images.generate(**body(), stream=True, partial_images=1))
        assert [event.type for event in events] == [event.type for event in expected]
        assert events[-1].b64_json == expected[-1].b64_json
    assert simulator.calls == 4
    client.images.generate(**body())
    stats = cache.stats()
    assert (stats.bypassed, stats.misses, stats.entries) == (2, 1, 1)


def test_async_stream(cache: cachelayer.Cache, simulator: Simulator) -> None:
    async def main() -> list[Any]:
        async with cache.wrap(make(openai.AsyncOpenAI, simulator)) as client:
            stream = await client.images.generate(**body(), stream=True, partial_images=1)
            return [event async for event in stream]

    events = asyncio.run(main())
    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert cache.stats().bypassed == 1


def test_errors_are_the_sdks_own_and_retried_by_it(cache: cachelayer.Cache, simulator: Simulator) -> None:
    client = cache.wrap(make(openai.OpenAI, simulator, max_retries=0))
    simulator.script("rate_limit", "block", "error", "disconnect")
    with pytest.raises(openai.RateLimitError) as limited:
        client.images.generate(**body())
    assert limited.value.response.headers["retry-after"]
    with pytest.raises(openai.BadRequestError, match="safety"):
        client.images.generate(**body())
    with pytest.raises(openai.InternalServerError):
        client.images.generate(**body())
    with pytest.raises((openai.APIConnectionError, http.RemoteProtocolError)):
        client.images.generate(**body())
    assert client.images.generate(**body()).data
    assert simulator.calls == 5
    simulator.script("rate_limit", "error", "ok")
    client.with_options(max_retries=2).images.generate(**body("patience"))
    assert simulator.calls == 8
    stats = cache.stats()
    assert (stats.misses, stats.errors, stats.entries) == (7, 1, 2)


@pytest.fixture
def connections(simulator: Simulator) -> Iterator[Any]:
    """How many pooled connections an SDK client has."""

    def count(client: Any) -> int:
        return len(client._client._transport._pool.connections)

    return count  # type: ignore[return-value]


def test_dropping_the_wrapped_client_leaves_the_givens_pool(
    cache: cachelayer.Cache, simulator: Simulator, connections: Any
) -> None:
    given = make(openai.OpenAI, simulator)
    wrapped = cache.wrap(given)
    wrapped.images.generate(**body())
    assert connections(given) == 1
    del wrapped
    gc.collect()
    assert connections(given) == 1
    assert not given.is_closed()
    given.images.generate(**body())


def test_dropping_the_given_client_leaves_the_wrapped_one(cache: cachelayer.Cache, simulator: Simulator) -> None:
    wrapped = cache.wrap(make(openai.OpenAI, simulator))
    gc.collect()
    for _ in range(2):
        wrapped.images.generate(**body())
    deep = wrapped.with_options(timeout=9).with_options(max_retries=1)
    del wrapped
    gc.collect()
    deep.images.generate(**body("deep"))
    assert simulator.calls == 2


def test_dropping_inside_a_running_loop(cache: cachelayer.Cache, simulator: Simulator, connections: Any) -> None:
    async def main() -> None:
        given = make(openai.AsyncOpenAI, simulator)
        wrapped = cache.wrap(given)
        await wrapped.images.generate(**body())
        del wrapped
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert connections(given) == 1
        wrapped = cache.wrap(given)
        http_client = given._client
        del given
        gc.collect()
        await asyncio.sleep(0)
        await wrapped.images.generate(**body("another"))
        assert not http_client.is_closed
        await wrapped.close()

    asyncio.run(main())
    assert simulator.calls == 2


def test_closing_the_wrapped_client(cache: cachelayer.Cache, simulator: Simulator, connections: Any) -> None:
    given = make(openai.OpenAI, simulator)
    with cache.wrap(given) as wrapped:
        wrapped.images.generate(**body())
    assert wrapped.is_closed()
    assert not given.is_closed()
    assert connections(given) == 0
    given.images.generate(**body())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_two_event_loops_in_a_row_as_the_plain_sdk(cache: cachelayer.Cache, simulator: Simulator) -> None:
    """A pool belongs to its loop; how the SDK itself fares in a second asyncio.run is the measure."""

    def twice(client: Any) -> list[str]:
        ends = []
        for number in range(2):
            try:
                asyncio.run(client.images.generate(**body(f"loop {number}")))
                ends.append("answered")
            except Exception as error:
                ends.append(type(error).__name__)
        return ends

    plain = make(openai.AsyncOpenAI, simulator, max_retries=0)
    given = make(openai.AsyncOpenAI, simulator, max_retries=0)
    assert twice(cache.wrap(given)) == twice(plain)
    gc.collect()


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_a_http_client_of_the_users_own(module: Any, cache: cachelayer.Cache, simulator: Simulator) -> None:
    """Wrapped in advance, or inside the SDK client; both modules are still accepted by openai."""
    if OLD and module is httpx2:
        pytest.skip("openai 2 takes httpx clients only")
    with module.Client(headers={"x-own": "1"}) as own:
        first = make(openai.OpenAI, simulator, http_client=cache.wrap(own))
        second = cache.wrap(make(openai.OpenAI, simulator, http_client=own))
        third = cache.wrap(first)
        for client in (first, second, third):
            client.images.generate(**body())
        assert third is first
        assert simulator.calls == 1
        assert cache.stats().requests == 3
        assert dict(simulator.requests[0].headers)["x-own"] == "1"
