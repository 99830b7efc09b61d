"""What wrap() says of things that it cannot wrap: what to wrap instead, in one sentence; nothing is made or changed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import httpx2
import openai
import pytest
import requests
from google import genai

import cachelayer


def _openai() -> openai.OpenAI:
    return openai.OpenAI(api_key="sk-none")


def _genai() -> genai.Client:
    return genai.Client(api_key="none")


class OwnSession(requests.Session):
    """A subclass is told by what it is at heart."""


async def _draw(prompt: str) -> str:
    return prompt


GIVEN: list[tuple[str, Callable[[], Any], list[str]]] = [
    ("openai", lambda: openai, ["module (openai)", "cache.wrap(OpenAI())"]),
    ("google.genai", lambda: genai, ["module (google.genai)", "cache.wrap(genai.Client())"]),
    ("httpx", lambda: httpx, ["module (httpx)", "cache.wrap(httpx.Client())"]),
    ("requests", lambda: requests, ["module (requests)", "httpx.Client"]),
    ("aiohttp", lambda: aiohttp, ["module (aiohttp)", "httpx.AsyncClient"]),
    ("another module", lambda: functools, ["module (functools)", "cache.wrap(client)"]),
    ("OpenAI", lambda: openai.OpenAI, ["the class OpenAI", "cache.wrap(OpenAI(...))"]),
    ("Client", lambda: httpx2.Client, ["the class Client", "cache.wrap(Client(...))"]),
    ("another class", lambda: dict, ["the class dict", "cache.wrap(dict(...))"]),
    ("images", lambda: _openai().images, ["Images", "wrap the client", "cache.wrap(OpenAI())"]),
    ("chat", lambda: _openai().chat, ["Chat", "wrap the client"]),
    ("completions", lambda: _openai().chat.completions, ["Completions", "wrap the client"]),
    ("async images", lambda: openai.AsyncOpenAI(api_key="x").images, ["AsyncImages", "wrap the client"]),
    ("raw", lambda: _openai().with_raw_response, ["OpenAIWithRawResponse", "wrap the client"]),
    ("raw images", lambda: _openai().images.with_raw_response, ["ImagesWithRawResponse", "wrap the client"]),
    ("the module's images", lambda: openai.images, ["Images", "wrap the client"]),
    ("aio", lambda: _genai().aio, ["AsyncClient", "cache.wrap(client)", ".aio of the twin"]),
    ("models", lambda: _genai().models, ["Models", "wrap the client", "cache.wrap(genai.Client())"]),
    ("aio.models", lambda: _genai().aio.models, ["AsyncModels", "wrap the client"]),
    ("a chat", lambda: _genai().chats.create(model="gemini-3-pro-image"), ["Chat", "wrap the client"]),
    ("images.generate", lambda: _openai().images.generate, ["Images.generate", "wrap the client that it belongs to"]),
    ("client.post", lambda: httpx.Client().post, ["Client.post", "wrap the client that it belongs to"]),
    ("a function", lambda: _draw, ["function (_draw)", "wrap the client that it uses"]),
    ("a session", requests.Session, ["requests.sessions.Session", "not cached yet", "httpx.Client"]),
    ("a session's child", OwnSession, ["OwnSession", "not cached yet", "httpx.Client"]),
    ("a transport", httpx.HTTPTransport, ["HTTPTransport", "cache.wrap(httpx.Client(transport=...))"]),
    ("an async transport", httpx2.AsyncHTTPTransport, ["cache.wrap(httpx2.AsyncClient(transport=...))"]),
    ("a key", lambda: "sk-canary", ["builtins.str"]),
    ("nothing", lambda: None, ["NoneType"]),
]


@pytest.mark.parametrize(("make", "said"), [case[1:] for case in GIVEN], ids=[case[0] for case in GIVEN])
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # clients that are made only to be refused
def test_it_says_what_to_wrap_instead(make: Callable[[], Any], said: list[str], cache: cachelayer.Cache) -> None:
    with pytest.raises(cachelayer.ConfigError) as refused:
        cache.wrap(make())
    message = str(refused.value)
    for words in (*said, "cannot wrap a ", "cachelayer wraps OpenAI"):
        assert words in message
    assert "\n" not in message
    assert ". " not in message
    assert "sk-" not in message


async def _refused_session(cache: cachelayer.Cache) -> str:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(cachelayer.ConfigError) as refused:
            cache.wrap(session)
    return str(refused.value)


def test_an_aiohttp_session_says_what_to_do_meanwhile(cache: cachelayer.Cache) -> None:
    import asyncio

    message = asyncio.run(_refused_session(cache))
    assert "aiohttp.client.ClientSession" in message
    assert "httpx.AsyncClient" in message


def test_what_is_advised_works(cache: cachelayer.Cache) -> None:
    for client in (_openai(), httpx.Client(), httpx2.Client()):
        assert type(cache.wrap(client)) is type(client)
        client.close()
    assert type(cache.wrap(_genai())) is genai.Client
