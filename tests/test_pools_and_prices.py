"""Whose price a saving is, through the real SDK: two providers on real sockets, a pool of both, own prices."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

import cachelayer
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.reports import groups
from cachelayer.simulator import Simulator
from cachelayer.simulator.render import render
from tests.asking import PATH, body


@pytest.fixture
def official(simulator: Simulator) -> Simulator:
    return simulator


@pytest.fixture
def cheap() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def host(simulator: Simulator) -> str:
    return simulator.url.removeprefix("http://")


def ask(cache: cachelayer.Cache, simulator: Simulator, times: int = 1, **fields: Any) -> list[str | None]:
    """Ask through the SDK; what each answer says was saved."""
    said = []
    with openai.OpenAI(api_key="sk-test", base_url=f"{simulator.url}/v1", max_retries=0) as given:
        client = cache.wrap(given)
        for _ in range(times):
            answer = client.images.with_raw_response.generate(**body(**fields))
            assert answer.parse().data
            said.append(answer.headers.get("x-cachelayer-saved-usd"))
    return said


def test_official_first_then_three_asks_at_the_reseller(folder: Path, official: Simulator, cheap: Simulator) -> None:
    pools = [[host(official), host(cheap)]]
    prices = {host(official): "0.133", host(cheap): "0.05"}
    with cachelayer.Cache(path=folder, pools=pools, prices=prices) as cache:
        assert ask(cache, official) == [None]
        assert ask(cache, cheap, 3) == ["0.05"] * 3
        assert ask(cache, official) == ["0.133"]
        stats = cache.stats()
    assert (official.calls, cheap.calls) == (1, 0)
    assert (stats.spent_usd, stats.saved_usd) == (Decimal("0.133"), Decimal("0.283"))
    assert (stats.estimated, stats.unpriced) == (0, 0)


def test_the_reseller_first_then_the_official_host(folder: Path, official: Simulator, cheap: Simulator) -> None:
    pools = [[host(official), host(cheap)]]
    with cachelayer.Cache(path=folder, pools=pools, prices={host(cheap): "0.05"}) as cache:
        ask(cache, cheap)
        assert ask(cache, official, 2) == ["0.05"] * 2  # what it cost there; here nobody knows
        stats = cache.stats()
    assert (stats.saved_usd, stats.estimated) == (Decimal("0.10"), 2)
    with cachelayer.Cache(path=folder, pools=pools, prices={host(cheap): "0.05", host(official): "0.133"}) as cache:
        assert ask(cache, official) == ["0.133"]
        stats = cache.stats()
    assert (stats.saved_usd, stats.estimated) == (Decimal("0.233"), 2)  # what was booked stays


def test_who_joins_the_flight_of_a_named_pool_saves_his_own_price(
    folder: Path, official: Simulator, cheap: Simulator
) -> None:
    official.hold()
    pools = [["name:both", host(official), host(cheap)]]
    prices = {host(official): "0.133", host(cheap): "0.05"}
    with (
        cachelayer.Cache(path=folder, pools=pools, prices=prices) as cache,
        cache.wrap(httpx.Client(timeout=60)) as client,
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(client.post, official.url + PATH, json=body())
        official.wait_for_calls(1)
        second = pool.submit(client.post, cheap.url + PATH, json=body())
        official.release()
        said = [one.result().headers.get("x-cachelayer-saved-usd") for one in (first, second)]
        stats = cache.stats()
    assert (official.calls, cheap.calls, said) == (1, 0, [None, "0.05"])
    assert (stats.spent_usd, stats.saved_usd, stats.estimated) == (Decimal("0.133"), Decimal("0.05"), 0)


def test_a_price_named_later_reaches_old_estimates_at_the_next_hit(folder: Path, simulator: Simulator) -> None:
    with cachelayer.Cache(path=folder) as cache:
        (_, listed) = ask(cache, simulator, 2)
        assert listed is not None
        assert cache.stats().estimated == 2
    with cachelayer.Cache(path=folder, prices={host(simulator): "0.02"}) as cache:
        assert ask(cache, simulator) == ["0.02"]
    with cachelayer.Cache(path=folder, prices={host(simulator): "list"}) as cache:
        assert ask(cache, simulator) == [listed]
        stats = cache.stats()
    assert (stats.hits, stats.estimated) == (3, 2)
    assert stats.saved_usd == 2 * Decimal(listed) + Decimal("0.02")


def test_an_exact_cost_is_not_rewritten(folder: Path, simulator: Simulator) -> None:
    for price in ("0.05", "9.99"):
        with cachelayer.Cache(path=folder, prices={host(simulator): price}) as cache:
            ask(cache, simulator)
            stats = cache.stats()
    assert (stats.spent_usd, stats.saved_usd, stats.estimated) == (Decimal("0.05"), Decimal("0.05"), 0)


def test_another_tier_is_an_estimate(folder: Path, simulator: Simulator) -> None:
    with cachelayer.Cache(path=folder, prices={host(simulator): "list"}) as cache:
        ask(cache, simulator)
        ask(cache, simulator)
        assert cache.stats().estimated == 0
        ask(cache, simulator, extra_body={"service_tier": "flex"})
        stats = cache.stats()
    assert (stats.hits, stats.estimated, simulator.calls) == (2, 1, 1)


def test_who_joins_a_flight_in_another_tier_saves_an_estimate(folder: Path, simulator: Simulator) -> None:
    simulator.hold()
    with (
        cachelayer.Cache(path=folder, prices={host(simulator): "list"}) as cache,
        cache.wrap(httpx.Client(timeout=60)) as client,
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(client.post, simulator.url + PATH, json=body())
        simulator.wait_for_calls(1)
        others = [
            pool.submit(client.post, simulator.url + PATH, json=body(**fields))
            for fields in ({}, {"service_tier": "flex"})
        ]
        simulator.release()
        answers = [one.result().headers for one in (first, *others)]
        stats = cache.stats()
    assert (simulator.calls, stats.misses, stats.hits + stats.coalesced) == (1, 1, 2)
    assert stats.saved_usd == 2 * stats.spent_usd
    assert stats.estimated == 1
    assert [answer.get("x-cachelayer-saved-usd") for answer in answers[1:]] == [f"{stats.spent_usd:f}"] * 2


def provider(request: httpx.Request) -> httpx.Response:
    """Somebody's own host, whatever it is called."""
    data = base64.b64encode(render("a cat", 16, 16, "png").data).decode()
    return httpx.Response(200, json={"created": 1, "data": [{"b64_json": data}]})


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("http://provider.example", "provider.example"),
        ("http://provider.example", "provider.example:80"),
        ("http://provider.example", "http://provider.example"),
        ("http://provider.example:80", "PROVIDER.example."),
        ("https://provider.example", "provider.example"),
        ("https://provider.example", "provider.example:443"),
        ("https://provider.example:443", "https://provider.example/"),
        ("https://PROVIDER.example.", "provider.example"),
        ("http://provider.example:8080", "provider.example:8080"),
        ("http://[0:0:0:0:0:0:0:1]:8080", "[::1]:8080"),
        ("https://[::1]", "::1"),
        ("https://b\u00fccher.example", "b\u00fccher.example"),
        ("https://b\u00fccher.example", "xn--bcher-kva.example"),
        ("https://me:secret@provider.example", "provider.example"),
    ],
)
def test_a_price_applies_however_the_host_is_spelled(folder: Path, url: str, written: str) -> None:
    with (
        cachelayer.Cache(path=folder, prices={written: "0.05"}) as cache,
        cache.wrap(httpx.Client(transport=httpx.MockTransport(provider))) as client,
    ):
        for _ in range(2):
            assert client.post(url + PATH, json=body()).status_code == 200
        stats = cache.stats()
    assert (stats.spent_usd, stats.saved_usd, stats.estimated) == (Decimal("0.05"), Decimal("0.05"), 0)
    ((booked, _),) = groups(Ledger(folder / "ledger"), "host")
    with cachelayer.Cache(path=folder / "other", prices={booked: "0.05"}) as cache:  # what is booked can be pasted
        with cache.wrap(httpx.Client(transport=httpx.MockTransport(provider))) as client:
            client.post(url + PATH, json=body())
        assert cache.stats().spent_usd == Decimal("0.05")


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("http://provider.example", "https://provider.example"),
        ("https://provider.example", "provider.example:80"),
        ("http://provider.example:8080", "provider.example"),
        ("https://not-provider.example", "provider.example"),
    ],
)
def test_and_to_no_other_host(folder: Path, url: str, written: str) -> None:
    with (
        cachelayer.Cache(path=folder, prices={written: "0.05"}) as cache,
        cache.wrap(httpx.Client(transport=httpx.MockTransport(provider))) as client,
    ):
        client.post(url + PATH, json=body())
        assert cache.stats().unpriced == 1


def test_the_first_estimate_of_a_host_is_one_warning_with_the_line_to_paste(
    folder: Path, official: Simulator, cheap: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    with cachelayer.Cache(path=folder, prices={host(cheap): "0.05"}) as cache, caplog.at_level(logging.WARNING):
        for number in range(3):
            ask(cache, official, prompt=f"a cat {number}")
            ask(cache, cheap, prompt=f"a cat {number}")
    warned = [record.getMessage() for record in caplog.records if record.name == "cachelayer"]
    assert len(warned) == 1
    line = f'Cache(prices={{"{host(official)}": "0.05"}})'
    assert line in warned[0]
    pasted = eval(line, {"Cache": dict})
    with cachelayer.Cache(path=folder, **pasted) as cache:
        assert ask(cache, official, prompt="a cat 0") == ["0.05"]
