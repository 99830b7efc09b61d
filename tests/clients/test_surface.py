"""What every client needs stands in clients/surface.py: a toy client of another library shows that nothing of httpx is
left in it."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import httpx
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.clients import toy_urllib
from tests.clients.canned import Canned, Said

Open = Callable[..., Any]
"""(url, body, headers, timeout) -> the response, as urllib gives it."""


@pytest.fixture
def open_cached(cache: cachelayer.Cache) -> Open:
    handler = toy_urllib.CachedHandler()
    handler.engine = cache._engine
    return opener(handler)


def opener(*handlers: urllib.request.BaseHandler) -> Open:
    director = urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)

    def open_url(url: str, asked: Any = None, headers: dict[str, str] | None = None, timeout: float = 30.0) -> Any:
        said = {"content-type": "application/json", **(headers or {})}
        data = json.dumps(body() if asked is None else asked).encode()
        return director.open(urllib.request.Request(url, data, said), timeout=timeout)

    return open_url


def test_the_toy_is_short_and_the_surface_knows_no_library() -> None:
    assert len(Path(toy_urllib.__file__).read_text().splitlines()) < 60
    surface = Path(cachelayer.__file__).parent / "clients" / "surface.py"
    assert "httpx" not in surface.read_text()


def test_a_miss_and_then_a_hit(open_cached: Open, simulator: Simulator, cache: cachelayer.Cache) -> None:
    plain = opener()(simulator.url + PATH)
    assert plain.status == 200
    miss, hit = open_cached(simulator.url + PATH), open_cached(simulator.url + PATH)
    assert simulator.calls == 2
    assert [miss.headers["x-cachelayer"], hit.headers["x-cachelayer"]] == ["MISS", "HIT"]
    assert miss.headers["x-cachelayer-key"] == hit.headers["x-cachelayer-key"]
    assert miss.read() == hit.read()
    assert {name.lower() for name in plain.headers} <= {name.lower() for name in miss.headers}
    stats = cache.stats()
    assert (stats.misses, stats.hits, stats.upstream_calls) == (1, 1, 1)


def test_an_entry_serves_the_clients_of_another_library(
    open_cached: Open, simulator: Simulator, cache: cachelayer.Cache
) -> None:
    miss = open_cached(simulator.url + PATH)
    with cache.wrap(httpx.Client()) as client:
        hit = client.post(simulator.url + PATH, json=body())
    assert hit.headers["x-cachelayer"] == "HIT"
    assert hit.content == miss.read()


def test_who_asks_meanwhile_joins(open_cached: Open, simulator: Simulator, cache: cachelayer.Cache) -> None:
    simulator.hold()
    outcomes: list[str] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(open_cached(simulator.url + PATH).headers["x-cachelayer"]))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    simulator.wait_for_calls(1)
    flight = next(iter(cache._engine.flights._by_key.values()))
    while flight.passengers < 5:
        threading.Event().wait(0.002)
    simulator.release()
    for thread in threads:
        thread.join()
    assert simulator.calls == 1
    assert sorted(outcomes) == ["COALESCED"] * 4 + ["MISS"]


def test_what_is_no_image_call_is_passed_through_without_our_headers(open_cached: Open, canned: Canned) -> None:
    canned.answer = lambda _: Said(200, (("content-type", "text/plain"),), b"pong")
    answer = open_cached(canned.url + "/ping", headers={"x-cachelayer-bypass": "1"})
    assert answer.read() == b"pong"
    assert answer.headers["x-cachelayer"] == "BYPASS"
    assert answer.headers["x-cachelayer-reason"] == "unrecognised"
    assert canned.requests[0].header("x-cachelayer-bypass") is None


def test_an_image_call_that_is_passed_through_is_priced(
    open_cached: Open, simulator: Simulator, folder: Path, cache: cachelayer.Cache
) -> None:
    answer = open_cached(simulator.url + PATH, body(stream=True))
    assert answer.headers["x-cachelayer-reason"] == "stream"
    assert answer.read()
    stats = cache.stats()
    assert (stats.bypassed, stats.upstream_calls, stats.unpriced) == (1, 1, 1)


def test_a_status_that_is_no_success_is_the_providers(open_cached: Open, simulator: Simulator) -> None:
    simulator.script("error")
    with pytest.raises(HTTPError) as raised:
        open_cached(simulator.url + PATH)
    assert raised.value.code == 500
    assert raised.value.headers["x-cachelayer-reason"] == "status-500"
    raised.value.close()


def test_an_exception_is_urllibs_own(open_cached: Open, cache: cachelayer.Cache, simulator: Simulator) -> None:
    url = simulator.url
    simulator.stop()
    for open_it in (opener(), open_cached):
        with pytest.raises(URLError) as raised:
            open_it(url + PATH)
        assert isinstance(raised.value.reason, ConnectionRefusedError)
    stats = cache.stats()
    assert (stats.errors, stats.upstream_calls) == (1, 0)


def test_the_read_timeout_is_the_callers_and_the_paid_answer_is_stored(
    open_cached: Open, simulator: Simulator, cache: cachelayer.Cache
) -> None:
    simulator.hold()
    with pytest.raises(TimeoutError):
        open_cached(simulator.url + PATH, timeout=0.2)
    simulator.release()
    assert cache.wait_idle(10) == 0
    assert open_cached(simulator.url + PATH).headers["x-cachelayer"] == "HIT"
    assert simulator.calls == 1
