"""A dialect is one file and one line in the table: a made-up image API is keyed, cached, replayed, priced and shown
through the public surface, over a real socket, with nothing else changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

import cachelayer
from cachelayer import dialects
from cachelayer.cli.entries import show
from cachelayer.dialects.dialect import Dialect
from tests.asking import wait_until_stored
from tests.clients.canned import Canned, Said
from tests.dialects.asks import asked, b64, request
from tests.dialects.samples import SAMPLES, made
from tests.dialects.toy import Sketch

TOY: Dialect = Sketch()
SMALL, LARGE = SAMPLES["png of one pixel"].data, made("PNG", 80)


@pytest.fixture(autouse=True)
def _one_line_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialects, "DIALECTS", (*dialects.DIALECTS, TOY))


@pytest.fixture
def client(cache: cachelayer.Cache) -> Iterator[httpx.Client]:
    with cache.wrap(httpx.Client()) as client:
        yield client


@pytest.fixture
def provider() -> Iterator[Canned]:
    with Canned() as canned:
        sketches = {"sketches": [b64(SMALL), b64(LARGE)], "charged": "0.04", "pen": "p-1"}
        canned.answer = lambda _: Said(200, (("Content-Type", "application/json"),), json.dumps(sketches).encode())
        yield canned


def ask(client: httpx.Client, provider: Canned, **fields: Any) -> httpx.Response:
    return client.post(f"{provider.url}/v2/sketch", json={"about": "a cat", "pictures": 2, **fields})


def test_keyed_cached_replayed_and_priced(cache: cachelayer.Cache, client: httpx.Client, provider: Canned) -> None:
    first = ask(client, provider, whoAmI="me")
    wait_until_stored(cache)
    again = ask(client, provider, who_am_i="you", about=" a cat\n", pen={})
    assert [answer.headers["x-cachelayer"] for answer in (first, again)] == ["MISS", "HIT"]
    assert again.content == first.content
    assert again.headers["x-cachelayer-saved-usd"] == "0.04"
    others: list[dict[str, Any]] = [
        {"about": "a dog"},
        {"pictures": 1},
        {"pen": {"ink": "red"}},
        {"like": b64(SMALL)},
        {"mood": "blue"},
    ]
    assert [ask(client, provider, **other).headers["x-cachelayer"] for other in others] == ["MISS"] * len(others)
    assert len(provider.requests) == 1 + len(others)
    stats = cache.stats()
    assert (stats.saved_usd, stats.spent_usd) == (Decimal("0.04"), Decimal("0.24"))
    assert (stats.estimated, stats.unpriced) == (0, 0)


def test_what_is_never_cached_and_what_is_not_kept(client: httpx.Client, provider: Canned) -> None:
    assert ask(client, provider, **{"continue": "s-1"}).headers["x-cachelayer-reason"] == "stateful"
    assert ask(client, provider, pictures=3).headers["x-cachelayer-reason"] == "incomplete"
    half = {"sketches": [b64(LARGE[:-20])]}
    provider.answer = lambda _: Said(200, (), json.dumps(half).encode())
    assert ask(client, provider, pictures=1).headers["x-cachelayer-reason"] == "not-an-image"


def test_its_images_can_be_taken_out(
    cache: cachelayer.Cache, client: httpx.Client, provider: Canned, folder: Path, tmp_path: Path
) -> None:
    key = ask(client, provider).headers["x-cachelayer-key"]
    wait_until_stored(cache)
    show(folder, key, save=tmp_path / "out", as_json=True)
    assert {file.read_bytes() for file in (tmp_path / "out").iterdir()} == {SMALL, LARGE}


def test_the_list_price_is_exact_at_home_alone() -> None:
    homes = {
        host: asked(request(f"https://{host}/sketch", {"about": "p"})).home for host in ("api.sketch.example", "h")
    }
    assert homes == {"api.sketch.example": "sketch", "h": None}


def test_the_order_of_the_table_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One URL is one dialect's."""
    for url in ("https://h/sketch", "https://h/v1/images/generations", "https://h/models/m:generateContent"):
        name = asked(request(url, {})).dialect
        monkeypatch.setattr(dialects, "DIALECTS", dialects.DIALECTS[::-1])
        assert asked(request(url, {})).dialect == name
