"""Wrapped genai.Client, sync and .aio. aiohttp is installed here: .aio must not slip past through it."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import aiohttp
import google.auth.credentials
import httpx
import httpx2
import pytest
from google import genai
from google.genai import errors, types
from google.genai.version import __version__ as version

import cachelayer
from cachelayer.simulator import Simulator

MODEL = "gemini-3-pro-image"
OLD = int(version.partition(".")[0]) < 2
http = httpx if OLD else httpx2
CONFIG = types.GenerateContentConfig(
    response_modalities=["IMAGE"], image_config=types.ImageConfig(aspect_ratio="1:1", image_size="1K")
)

pytestmark = [
    pytest.mark.usefixtures("collected"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # The plain SDK's own, where it uses aiohttp.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]


class FakeCredentials(google.auth.credentials.Credentials):
    """Credentials of a Vertex project that need no network."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token = "ya29.test"

    def refresh(self, request: Any) -> None:
        self.token = "ya29.test"

    @property
    def expired(self) -> bool:
        return False


def developer(simulator: Simulator, **options: Any) -> genai.Client:
    return genai.Client(api_key="g-test", http_options=types.HttpOptions(base_url=simulator.url, **options))


def vertex_key(simulator: Simulator, **options: Any) -> genai.Client:
    return genai.Client(
        vertexai=True, api_key="g-test", http_options=types.HttpOptions(base_url=simulator.url, **options)
    )


def vertex_project(simulator: Simulator, **options: Any) -> genai.Client:
    return genai.Client(
        vertexai=True,
        project="proj",
        location="europe-west4",
        credentials=FakeCredentials(),
        http_options=types.HttpOptions(base_url=simulator.url, **options),
    )


KINDS = [developer, vertex_key, vertex_project]


def ask(client: Any, prompt: str = "a lighthouse", **arguments: Any) -> Any:
    return client.models.generate_content(model=MODEL, contents=prompt, config=CONFIG, **arguments)


def outcome(answer: types.GenerateContentResponse) -> str:
    assert answer.sdk_http_response is not None
    assert answer.sdk_http_response.headers is not None
    return answer.sdk_http_response.headers["x-cachelayer"]


def pool_of(client: genai.Client) -> Any:
    """The asynchronous client of httpx that google-genai keeps inside."""
    return client.aio._api_client._async_httpx_client


def images(answer: Any) -> list[bytes]:
    return [part.inline_data.data for part in answer.parts if part.inline_data is not None]


@pytest.mark.parametrize("make", KINDS)
def test_generate_is_typed_equal_and_free_the_second_time(
    make: Any, cache: cachelayer.Cache, simulator: Simulator
) -> None:
    given = make(simulator)
    client = cache.wrap(given)
    assert type(client) is genai.Client
    assert client.vertexai is given.vertexai
    first, second = ask(client), ask(client)
    assert type(second) is types.GenerateContentResponse
    without_http = {"sdk_http_response"}
    assert second.model_dump(exclude=without_http) == first.model_dump(exclude=without_http)
    assert images(second) == images(first) != []
    assert outcome(second) == "HIT"
    assert outcome(first) == "MISS"
    assert simulator.calls == 1
    assert cache.stats().saved_usd == simulator.billed_usd
    ask(given)
    assert simulator.calls == 2


@pytest.mark.parametrize("make", KINDS)
def test_aio_does_not_slip_past_through_aiohttp(make: Any, cache: cachelayer.Cache, simulator: Simulator) -> None:
    assert aiohttp.__version__

    async def main() -> None:
        given = make(simulator)
        client = cache.wrap(given)
        assert type(client.aio) is type(given.aio)
        first, second = [await ask(client.aio) for _ in range(2)]
        assert type(second) is types.GenerateContentResponse
        assert images(second) == images(first) != []
        assert simulator.calls == 1
        assert "aiohttp" not in str(dict(simulator.requests[0].headers).get("User-Agent", ""))
        many = await asyncio.gather(*(ask(client.aio, "shared") for _ in range(20)))
        assert len({images(answer)[0] for answer in many}) == 1
        assert simulator.calls == 2
        await ask(given.aio)
        assert simulator.calls == 3
        await client.aio.aclose()
        await given.aio.aclose()

    asyncio.run(main())
    assert (cache.stats().misses, cache.stats().requests) == (2, 22)


def test_sync_and_aio_share_entries(cache: cachelayer.Cache, simulator: Simulator) -> None:
    client = cache.wrap(developer(simulator))
    first = ask(client)
    assert images(asyncio.run(ask(client.aio))) == images(first)
    assert simulator.calls == 1


@pytest.mark.parametrize("make", KINDS)
def test_forwarded_is_what_the_plain_client_sends(make: Any, cache: cachelayer.Cache, simulator: Simulator) -> None:
    given = make(simulator, headers={"x-mine": "1"}, timeout=33_000)
    for client in (given, cache.wrap(given)):
        ask(client)
    first, second = simulator.requests
    assert second == first
    sent = {name.lower(): value for name, value in second.headers}
    assert sent["x-server-timeout"] == "33"
    assert sent["x-mine"] == "1"


@pytest.mark.parametrize("make", KINDS)
def test_aio_forwards_what_plain_httpx_would(make: Any, cache: cachelayer.Cache, simulator: Simulator) -> None:
    """aiohttp spells transport headers its own way; everything else is the same as through the plain client."""

    async def main() -> None:
        given = make(simulator, timeout=33_000)
        for client in (given, cache.wrap(given)):
            await ask(client.aio)
        await given.aio.aclose()

    asyncio.run(main())
    plain, through = simulator.requests
    transport = {"host", "accept", "accept-encoding", "connection", "user-agent", "content-length", "content-type"}

    def said(request: Any) -> dict[str, str]:
        return {name.lower(): value for name, value in request.headers if name.lower() not in transport}

    assert (through.method, through.path, through.body) == (plain.method, plain.path, plain.body)
    assert said(through) == said(plain)


def test_the_given_client_is_unchanged(cache: cachelayer.Cache, simulator: Simulator) -> None:
    given = developer(simulator)
    objects = [
        given,
        given.aio,
        given._api_client,
        given._api_client._httpx_client,
        given._api_client._async_httpx_client,
        given.models,
        given.aio.models,
    ]
    before = [dict(vars(item)) for item in objects]
    wrapped = cache.wrap(given)
    ask(wrapped)
    for item, was in zip(objects, before, strict=True):
        assert vars(item).keys() == was.keys()
        assert all(vars(item)[name] is value for name, value in was.items())
    assert cache.wrap(wrapped) is wrapped


def test_subclasses_and_their_attributes(cache: cachelayer.Cache, simulator: Simulator) -> None:
    class Own(genai.Client):
        def __init__(self, tenant: str) -> None:
            super().__init__(api_key="g-test", http_options=types.HttpOptions(base_url=simulator.url))
            self.tenant = tenant

    wrapped = cache.wrap(Own("acme"))
    assert type(wrapped) is Own
    assert wrapped.tenant == "acme"
    ask(wrapped)
    ask(wrapped)
    assert simulator.calls == 1


def test_every_resource_uses_the_wrapped_api_client(cache: cachelayer.Cache, simulator: Simulator) -> None:
    given = developer(simulator)
    wrapped = cache.wrap(given)
    for plain, copied in ((given, wrapped), (given.aio, wrapped.aio)):
        for name, member in vars(plain).items():
            if hasattr(member, "_api_client"):
                assert getattr(copied, name)._api_client is wrapped._api_client, name


@pytest.mark.skipif(OLD, reason="google-genai 1.x has no generated resources to touch without a warning")
def test_resources_made_before_wrapping_do_not_escape(cache: cachelayer.Cache, simulator: Simulator) -> None:
    given = developer(simulator)
    touched = given.interactions, given.aio.interactions
    wrapped = cache.wrap(given)
    assert wrapped.interactions is not touched[0]
    assert wrapped.interactions.sdk_configuration.client is wrapped._api_client._httpx_client
    assert wrapped.aio.interactions is not touched[1]
    assert given.interactions is touched[0]


def test_chats(cache: cachelayer.Cache, simulator: Simulator) -> None:
    """The history, images included, is part of what is asked."""
    client = cache.wrap(developer(simulator))
    answers = []
    for _ in range(2):
        chat = client.chats.create(model=MODEL, config=CONFIG)
        answers.append([images(chat.send_message("a boat")), images(chat.send_message("make it red"))])
    assert answers[0] == answers[1]
    assert simulator.calls == 2
    assert cache.stats().hits == 2

    async def main() -> list[list[bytes]]:
        chat = client.aio.chats.create(model=MODEL, config=CONFIG)
        return [images(await chat.send_message("a boat")), images(await chat.send_message("make it red"))]

    assert asyncio.run(main()) == answers[0]
    assert simulator.calls == 2


def test_streams_pass_through(cache: cachelayer.Cache, simulator: Simulator) -> None:
    given = developer(simulator)
    client = cache.wrap(given)

    def stream(client: Any) -> list[bytes]:
        chunks = list(client.models.generate_content_stream(model=MODEL, contents="p", config=CONFIG))
        return [data for chunk in chunks if chunk.candidates for data in images(chunk)]

    assert stream(client) == stream(given) == stream(client) != []

    async def main() -> list[bytes]:
        found = []
        async for chunk in await client.aio.models.generate_content_stream(model=MODEL, contents="p", config=CONFIG):
            found += images(chunk) if chunk.candidates else []
        return found

    assert asyncio.run(main()) == stream(given)
    assert simulator.calls == 5
    stats = cache.stats()
    assert (stats.bypassed, stats.entries) == (3, 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_two_event_loops_in_a_row_as_the_plain_sdk(cache: cachelayer.Cache, simulator: Simulator) -> None:
    given = developer(simulator)
    wrapped = cache.wrap(given)
    for number in range(3):
        assert images(asyncio.run(ask(given.aio, f"loop {number}")))
        assert images(asyncio.run(ask(wrapped.aio, f"loop {number}")))
        assert images(asyncio.run(ask(wrapped.aio, f"loop {number}")))
    assert simulator.calls == 6
    gc.collect()


def test_loops_at_once_in_two_threads(cache: cachelayer.Cache, simulator: Simulator) -> None:
    wrapped = cache.wrap(developer(simulator))
    found: dict[int, list[bytes]] = {}

    def run(number: int) -> None:
        async def main() -> None:
            answers = await asyncio.gather(*(ask(wrapped.aio, f"{number % 2} {i}") for i in range(4)))
            found[number] = [images(answer)[0] for answer in answers]
            await pool_of(wrapped)._transport._inner.aclose()

        asyncio.run(main())

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[2]
    assert found[1] == found[3]
    assert simulator.calls == 8


def test_errors_are_the_sdks_own(cache: cachelayer.Cache, simulator: Simulator) -> None:
    client = cache.wrap(developer(simulator))
    simulator.script("rate_limit", "error", "block", "text_only", "truncate")
    with pytest.raises(errors.ClientError) as limited:
        ask(client)
    assert limited.value.code == 429
    with pytest.raises(errors.ServerError):
        ask(client)
    assert ask(client).candidates is None
    assert ask(client).text
    assert ask(client).candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert images(ask(client))
    assert simulator.calls == 6
    assert cache.stats().entries == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_hooks_auth_and_arguments_of_the_http_clients_are_kept(
    asynchronous: bool, cache: cachelayer.Cache, simulator: Simulator
) -> None:
    """Hooks run once a call, on hits too; on .aio the plain SDK runs them only where aiohttp is absent."""
    seen: list[str] = []

    async def saw(response: Any) -> None:
        seen.append(response.headers["x-cachelayer"])

    def saw_blocking(response: Any) -> None:
        seen.append(response.headers["x-cachelayer"])

    given = developer(
        simulator,
        client_args={"event_hooks": {"response": [saw_blocking]}, "cookies": {"a": "b"}},
        async_client_args={"event_hooks": {"response": [saw]}, "cookies": {"a": "b"}},
    )
    client = cache.wrap(given)

    async def main() -> None:
        for _ in range(2):
            await ask(client.aio)
        await client.aio.aclose()

    if asynchronous:
        asyncio.run(main())
    else:
        for _ in range(2):
            ask(client)
    assert seen == ["MISS", "HIT"]
    assert {name.lower(): value for name, value in simulator.requests[0].headers}["cookie"] == "a=b"


@pytest.mark.parametrize("own", ["clients", "transports"])
def test_http_clients_of_the_users_own(own: str, cache: cachelayer.Cache, simulator: Simulator) -> None:
    async def main() -> None:
        sync_transport, async_transport = http.HTTPTransport(), http.AsyncHTTPTransport()
        if own == "transports":
            options: dict[str, Any] = {
                "client_args": {"transport": sync_transport},
                "async_client_args": {"transport": async_transport},
            }
        else:
            options = {
                "httpx_client": http.Client(transport=sync_transport),
                "httpx_async_client": http.AsyncClient(transport=async_transport),
            }
        client = cache.wrap(developer(simulator, **options))
        for _ in range(2):
            ask(client)
            await ask(client.aio, "async")
        assert len(sync_transport._pool.connections) == 1
        assert len(async_transport._pool.connections) == 1
        await async_transport.aclose()
        sync_transport.close()

    asyncio.run(main())
    assert simulator.calls == 2


def test_an_aiohttp_session_of_the_users_own_is_refused(cache: cachelayer.Cache, simulator: Simulator) -> None:
    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            given = developer(simulator, aiohttp_client=session)
            with pytest.raises(cachelayer.ConfigError, match="aiohttp_client"):
                cache.wrap(given)
            assert images(await ask(given.aio))

    asyncio.run(main())


def pooled(client: Any) -> int:
    return len(client._api_client._httpx_client._transport._pool.connections)


def test_dropping_the_wrapped_client_leaves_the_givens_pool(cache: cachelayer.Cache, simulator: Simulator) -> None:
    given = developer(simulator)
    wrapped = cache.wrap(given)
    ask(wrapped)
    assert pooled(given) == 1
    del wrapped
    gc.collect()
    assert pooled(given) == 1
    assert not given._api_client._httpx_client.is_closed
    ask(given)


def test_dropping_the_given_client_leaves_the_wrapped_one(cache: cachelayer.Cache, simulator: Simulator) -> None:
    wrapped = cache.wrap(developer(simulator))
    models = wrapped.models
    gc.collect()
    ask(wrapped)
    ask(wrapped, "another")
    assert simulator.calls == 2
    aio = wrapped.aio

    async def main() -> None:
        nonlocal wrapped
        del wrapped
        gc.collect()
        for _ in range(3):
            await asyncio.sleep(0)
        answer = await aio.models.generate_content(model=MODEL, contents="third", config=CONFIG)
        assert images(answer)

    asyncio.run(main())
    assert models is not None
    assert simulator.calls == 3


def test_dropping_inside_a_running_loop(cache: cachelayer.Cache, simulator: Simulator) -> None:
    async def main() -> None:
        given = developer(simulator)
        wrapped = cache.wrap(given)
        await ask(wrapped.aio)
        del wrapped
        gc.collect()
        for _ in range(3):
            await asyncio.sleep(0)
        assert not pool_of(given).is_closed
        again = cache.wrap(given)
        http_client = pool_of(given)
        del given
        gc.collect()
        for _ in range(3):
            await asyncio.sleep(0)
        await ask(again.aio, "another")
        assert not http_client.is_closed
        await again.aio.aclose()
        assert not http_client.is_closed
        if not OLD:
            assert not http_client._client_for_running_loop().is_closed

    asyncio.run(main())
    assert simulator.calls == 2


def test_a_dropped_client_does_not_kill_its_flight(cache: cachelayer.Cache, simulator: Simulator) -> None:
    """The given client closes its pool in __del__; the answer under way was paid for."""
    simulator.hold()

    def ask_and_leave() -> None:
        client = cache.wrap(developer(simulator, timeout=60))
        with pytest.raises(http.ReadTimeout):
            ask(client)

    ask_and_leave()
    gc.collect()
    simulator.release()
    assert cache.wait_idle(30) == 0
    assert cache.stats().entries == 1
    assert simulator.answered == 1


def test_closing_the_wrapped_client(cache: cachelayer.Cache, simulator: Simulator) -> None:
    given = developer(simulator)
    with cache.wrap(given) as wrapped:
        ask(wrapped)
    with pytest.raises(RuntimeError, match="closed"):
        ask(wrapped)
    ask(given)
    assert simulator.calls == 2
