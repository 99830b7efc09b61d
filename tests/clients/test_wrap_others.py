"""What is no client, the default Cache, and a cache that is switched off or closed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest
import requests
from google import genai
from google.genai import types

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.clients.conftest import Side

pytestmark = [pytest.mark.usefixtures("collected"), pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.mark.parametrize(
    "thing",
    [
        lambda prompt: prompt,
        requests.Session(),
        object(),
        None,
        "https://api.openai.com",
        openai,
        openai.OpenAI,
        httpx.Client,
        httpx.HTTPTransport(),
    ],
    ids=["function", "session", "object", "none", "url", "module", "class", "another class", "transport"],
)
def test_what_is_no_client_is_refused_in_one_sentence(thing: Any, cache: cachelayer.Cache) -> None:
    with pytest.raises(cachelayer.ConfigError) as refused:
        cache.wrap(thing)
    message = str(refused.value)
    assert message.startswith("cannot wrap a ")
    assert type(thing).__qualname__ in message
    assert "OpenAI" in message
    assert "\n" not in message
    assert ". " not in message


def test_the_default_cache_lies_in_the_users_cache_folder(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import cachelayer.cache

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    monkeypatch.setattr(cachelayer.cache, "_default", None)
    first, second = cachelayer.wrap(httpx.Client()), cachelayer.wrap(httpx2.Client())
    with first, second:
        assert first.post(simulator.url + PATH, json=body()).headers["x-cachelayer"] == "MISS"
        assert second.post(simulator.url + PATH, json=body()).headers["x-cachelayer"] == "HIT"
    default = cachelayer.cache._default
    assert default is not None
    assert default.path == tmp_path / "mine" / "cachelayer"
    assert (default.path / "blobs").is_dir()
    default.close()
    with cachelayer.wrap(httpx.Client()) as third:  # a closed default is replaced
        assert third.post(simulator.url + PATH, json=body()).headers["x-cachelayer"] == "HIT"
    replaced = cachelayer.cache._default
    assert replaced is not None
    replaced.close()
    assert simulator.calls == 1


def test_switched_off_everything_passes_through(
    side: Side, simulator: Simulator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHELAYER_DISABLED", "1")
    with cachelayer.Cache(path=folder) as cache:
        wrapped = cache.wrap(side.client())
        for asked in (body(), body(), body(stream=True)):
            answer = side.ask(wrapped, simulator.url + PATH, json=asked)
            assert answer.status_code == 200
            assert answer.headers["x-cachelayer"] == "BYPASS"
            assert answer.headers["x-cachelayer-reason"] == "disabled"
        assert simulator.calls == 3
        with pytest.raises(side.module.ConnectError):
            side.ask(wrapped, "http://127.0.0.1:1" + PATH, json=body())
    assert not os.path.lexists(folder)


def test_switched_off_sdks_work_too(simulator: Simulator, folder: Path) -> None:
    async def main(cache: cachelayer.Cache) -> None:
        client = cache.wrap(openai.AsyncOpenAI(base_url=simulator.url + "/v1", api_key="k"))
        assert (await client.images.generate(**body())).data
        await client.close()
        options = types.HttpOptions(base_url=simulator.url)
        google = cache.wrap(genai.Client(api_key="k", http_options=options))
        assert (await google.aio.models.generate_content(model="gemini-3-pro-image", contents="p")).parts
        assert google.models.generate_content(model="gemini-3-pro-image", contents="p").parts
        await google.aio.aclose()

    with cachelayer.Cache(path=folder, disabled=True) as cache:
        asyncio.run(main(cache))
    assert simulator.calls == 3
    assert not os.path.lexists(folder)


def test_after_close_everything_passes_through(side: Side, simulator: Simulator, folder: Path) -> None:
    with cachelayer.Cache(path=folder) as cache:
        wrapped = cache.wrap(side.client())
        side.ask(wrapped, simulator.url + PATH, json=body())
    answer = side.ask(wrapped, simulator.url + PATH, json=body())
    assert (answer.headers["x-cachelayer"], answer.headers["x-cachelayer-reason"]) == ("BYPASS", "closed")
    assert simulator.calls == 2


def test_no_store_is_no_obstacle(side: Side, simulator: Simulator, tmp_path: Path) -> None:
    """A folder that cannot be: the path leads through a file."""
    (tmp_path / "file").write_text("")
    with cachelayer.Cache(path=tmp_path / "file" / "cache") as cache:
        wrapped = cache.wrap(side.client())
        for _ in range(2):
            answer = side.ask(wrapped, simulator.url + PATH, json=body())
            assert answer.status_code == 200
            assert answer.headers["x-cachelayer-reason"] == "tier-down"
    assert simulator.calls == 2
