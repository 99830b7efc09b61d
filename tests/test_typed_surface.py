"""What a program's type checker sees of the public surface. Run by mypy with all the rest (`make check`), which also
refuses an ignore that nothing needs: each one below pins a mistake that is found."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

import httpx
import httpx2
import openai
from google import genai

import cachelayer
from cachelayer.ledger.reports import Stats


def wrapping_keeps_the_type(cache: cachelayer.Cache, key: str) -> None:
    assert_type(cache.wrap(openai.OpenAI(api_key=key)), openai.OpenAI)
    assert_type(cache.wrap(openai.AsyncOpenAI(api_key=key)), openai.AsyncOpenAI)
    assert_type(cache.wrap(openai.AzureOpenAI(api_key=key)), openai.AzureOpenAI)
    assert_type(cache.wrap(openai.AsyncAzureOpenAI(api_key=key)), openai.AsyncAzureOpenAI)
    assert_type(cache.wrap(genai.Client(api_key=key)), genai.Client)
    assert_type(cache.wrap(httpx.Client()), httpx.Client)
    assert_type(cache.wrap(httpx2.AsyncClient()), httpx2.AsyncClient)
    assert_type(cachelayer.wrap(httpx.AsyncClient()), httpx.AsyncClient)


def a_cache_is_made_of_settings(path: Path) -> None:
    assert_type(cachelayer.Cache(), cachelayer.Cache)
    cachelayer.Cache("somewhere", size_limit="10GB", ttl=60, operations=["image"], prices={"h": Decimal("0.05")})
    cachelayer.Cache(path, pools=[["a", "b"]], ignore=("header:x",), max_body=5, hedge_after="1h", disabled=None)
    cachelayer.Cache(size="10GB")  # type: ignore[call-arg]
    cachelayer.Cache(ttl=[60])  # type: ignore[arg-type]
    cachelayer.Cache(disabled="yes")  # type: ignore[arg-type]
    cachelayer.Cache(path=5)  # type: ignore[arg-type]


def questions_have_typed_answers(cache: cachelayer.Cache) -> None:
    request = cachelayer.Request("POST", "https://api.example/v1/images/generations", {"a": "b"}, b"{}")
    explanation = cache.explain(request)
    assert_type(explanation, cachelayer.Explanation)
    assert_type(explanation.key, str | None)
    assert_type(explanation.fields, dict[str, Any])
    assert_type(cache.diff(request, request), list[cachelayer.Difference])
    assert_type(cache.stats(), Stats)
    assert_type(cache.stats().saved_usd, Decimal)
    assert_type(cache.stats().hit_rate, float)


async def a_cache_is_closed(make: Callable[[], cachelayer.Cache]) -> None:
    with make() as cache:
        assert_type(cache, cachelayer.Cache)
    async with make() as cache:
        assert_type(cache, cachelayer.Cache)
    await cache.aclose()


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(cachelayer.__file__).parent / "py.typed").is_file()
