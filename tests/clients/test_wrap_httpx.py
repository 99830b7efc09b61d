"""A wrapped Client or AsyncClient: the same to its user, and the given one as it was."""

from __future__ import annotations

import gc
import threading
from typing import Any

import httpx
import httpx2
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.clients.canned import Arrived, Canned, Said
from tests.clients.conftest import Side


def outcome(response: Any) -> str:
    return str(response.headers["x-cachelayer"])


@pytest.mark.parametrize("kind", [httpx.Client, httpx.AsyncClient, httpx2.Client, httpx2.AsyncClient])
def test_same_type_and_state(kind: Any, cache: cachelayer.Cache) -> None:
    class Own(kind):  # type: ignore[misc]
        def __init__(self, tenant: str) -> None:
            super().__init__(headers={"x-tenant": tenant}, params={"tenant": tenant}, cookies={"tenant": tenant})
            self.tenant = tenant

        def greeting(self) -> str:
            return f"hello {self.tenant}"

    given = Own("acme")
    before = dict(given.__dict__)
    mounts = dict(given._mounts)
    wrapped = cache.wrap(given)
    assert type(wrapped) is Own
    assert isinstance(wrapped, kind)
    assert wrapped is not given
    assert wrapped.greeting() == "hello acme"
    for name in ("headers", "params", "cookies", "auth", "timeout", "base_url", "trust_env", "follow_redirects"):
        assert getattr(wrapped, name) == getattr(given, name), name
    assert wrapped.event_hooks == given.event_hooks
    assert given.__dict__.keys() == before.keys()
    assert all(given.__dict__[name] is value for name, value in before.items())
    assert given._mounts == mounts


def test_given_client_still_reaches_the_provider(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    given = side.client()
    wrapped = cache.wrap(given)
    url = simulator.url + PATH
    assert [outcome(side.ask(wrapped, url, json=body())) for _ in range(2)] == ["MISS", "HIT"]
    plain = side.ask(given, url, json=body())
    assert simulator.calls == 2
    assert not [name for name in plain.headers if name.startswith("x-cachelayer")]


def test_settings_take_part_in_every_call(side: Side, cache: cachelayer.Cache, canned: Canned) -> None:
    canned.answer = lambda _: Said(404, (("set-cookie", "session=s1; Path=/"),), b"{}")
    given = side.client(
        base_url=canned.url,
        headers={"x-mine": "1"},
        params={"tenant": "acme"},
        cookies={"flavour": "oat"},
        auth=("user", "secret"),
    )
    wrapped = cache.wrap(given)
    for client in (given, wrapped):
        client.cookies.delete("session") if "session" in client.cookies else None
        side.ask(client, PATH, json=body())
    plain, through = canned.requests
    assert through == plain
    assert through.path == PATH + "?tenant=acme"
    assert through.header("x-mine") == "1"
    assert through.header("cookie") == "flavour=oat"
    assert through.header("authorization") == "Basic dXNlcjpzZWNyZXQ="
    assert wrapped.cookies["session"] == "s1"
    assert wrapped.cookies.jar is given.cookies.jar


def test_hooks_run_for_hits_too_and_may_read(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    seen: list[tuple[str, int]] = []

    def asked(request: Any) -> None:
        seen.append((request.method, len(request.content)))

    def answered(response: Any) -> None:
        response.read()
        seen.append((outcome(response), len(response.content)))

    async def asked_async(request: Any) -> None:
        asked(request)

    async def answered_async(response: Any) -> None:
        await response.aread()
        seen.append((outcome(response), len(response.content)))

    hooks = (asked_async, answered_async) if side.asynchronous else (asked, answered)
    wrapped = cache.wrap(side.client(event_hooks={"request": [hooks[0]], "response": [hooks[1]]}))
    first, second = (side.ask(wrapped, simulator.url + PATH, json=body()) for _ in range(2))
    sent, size = len(first.request.content), len(second.content)
    assert seen == [("POST", sent), ("MISS", size), ("POST", sent), ("HIT", size)]
    assert first.content == second.content


def test_digest_auth_goes_through(side: Side, cache: cachelayer.Cache, canned: Canned, simulator: Simulator) -> None:
    def guard(arrived: Arrived) -> Said:
        if (arrived.header("authorization") or "").startswith("Digest "):
            return Said(200, (("content-type", "application/json"),), answer)
        challenge = 'Digest realm="r", qop="auth", nonce="n", algorithm=MD5'
        return Said(401, (("www-authenticate", challenge),), b"{}")

    answer = side.ask(side.client(), simulator.url + PATH, json=body()).content
    canned.answer = guard
    wrapped = cache.wrap(side.client(auth=side.module.DigestAuth("user", "secret")))
    first = side.ask(wrapped, canned.url + PATH, json=body())
    assert (first.status_code, outcome(first)) == (200, "MISS")
    assert first.content == answer
    assert len(canned.requests) == 2
    assert outcome(side.ask(wrapped, canned.url + PATH, json=body())) == "HIT"


def test_redirects_are_followed_and_cached(
    side: Side, cache: cachelayer.Cache, canned: Canned, simulator: Simulator
) -> None:
    """The same POST goes to where the redirect leads, its body a stream by then."""
    canned.answer = lambda arrived: Said(307, (("location", simulator.url + arrived.path),), b"")
    wrapped = cache.wrap(side.client(follow_redirects=True))
    answers = [side.ask(wrapped, canned.url + PATH, json=body()) for _ in range(2)]
    assert [outcome(answer) for answer in answers] == ["MISS", "HIT"]
    assert [outcome(answer.history[0]) for answer in answers] == ["MISS", "MISS"]
    assert simulator.calls == 1
    assert simulator.requests[0].body == canned.requests[0].body
    assert len(canned.requests) == 2


def test_mounts_stand_behind_the_cache(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    used: list[str] = []

    def handle(request: Any) -> Any:
        used.append(request.url.host)
        return side.module.Response(404, json={})

    given = side.client(mounts={"all://provider.example": side.transport(handle), "all://127.0.0.1": None})
    wrapped = cache.wrap(given)
    assert outcome(side.ask(wrapped, "http://provider.example" + PATH, json=body())) == "MISS"
    assert used == ["provider.example"]
    assert outcome(side.ask(wrapped, simulator.url + PATH, json=body())) == "MISS"
    assert outcome(side.ask(wrapped, simulator.url + PATH, json=body())) == "HIT"
    assert used == ["provider.example"]


def test_a_proxy_stays_in_use(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    """The simulator plays the proxy: it is asked for an absolute address."""
    wrapped = cache.wrap(side.client(proxy=simulator.url))
    answers = [side.ask(wrapped, "http://provider.example" + PATH, json=body()) for _ in range(2)]
    assert [outcome(answer) for answer in answers] == ["MISS", "HIT"]
    assert [request.path for request in simulator.requests] == ["http://provider.example" + PATH]


def test_the_pool_is_shared(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    given = side.client()
    wrapped = cache.wrap(given)
    side.ask(wrapped, simulator.url + PATH, json=body())
    assert len(given._transport._pool.connections) == 1
    side.ask(given, simulator.url + PATH, json=body())
    assert len(given._transport._pool.connections) == 1


def test_wrapping_twice_counts_once(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    wrapped = cache.wrap(side.client())
    again = cache.wrap(wrapped)
    assert again is wrapped
    side.ask(again, simulator.url + PATH, json=body())
    assert cache.stats().requests == 1


def test_two_caches_may_stand_one_behind_the_other(
    side: Side, cache: cachelayer.Cache, tmp_path: Any, simulator: Simulator
) -> None:
    with cachelayer.Cache(path=tmp_path / "second") as second:
        inner = cache.wrap(side.client())
        outer = second.wrap(inner)
        for _ in range(2):
            side.ask(outer, simulator.url + PATH, json=body())
        assert outcome(side.ask(inner, simulator.url + PATH, json=body())) == "HIT"
        assert simulator.calls == 1
        assert (second.stats().hits, second.stats().misses) == (1, 1)
        assert (cache.stats().hits, cache.stats().misses) == (1, 1)


def test_closing_the_wrapped_client_closes_it(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    given = side.client()
    wrapped = cache.wrap(given)
    side.ask(wrapped, simulator.url + PATH, json=body())
    side.close(wrapped)
    assert wrapped.is_closed
    assert not given.is_closed
    with pytest.raises(RuntimeError, match="closed"):
        side.ask(wrapped, simulator.url + PATH, json=body())
    assert side.ask(given, simulator.url + PATH, json=body()).status_code == 200


def test_dropping_either_leaves_the_other(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    given = side.client()
    wrapped = cache.wrap(given)
    side.ask(wrapped, simulator.url + PATH, json=body())
    del wrapped
    gc.collect()
    assert len(given._transport._pool.connections) == 1
    wrapped = cache.wrap(given)
    side._made.remove(given)
    del given
    gc.collect()
    assert outcome(side.ask(wrapped, simulator.url + PATH, json=body("another"))) == "MISS"
    side.close(wrapped)


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_a_dropped_client_does_not_kill_its_flight(module: Any, cache: cachelayer.Cache, simulator: Simulator) -> None:
    """Both SDKs close their pool in __del__. The answer under way was paid for."""

    class Closing(module.Client):  # type: ignore[misc]
        def close(self) -> None:
            closed.set()
            super().close()

        def __del__(self) -> None:
            self.close()

    closed = threading.Event()
    simulator.hold()

    def ask_and_leave() -> None:
        client = cache.wrap(Closing())
        with pytest.raises(module.ReadTimeout):
            client.post(simulator.url + PATH, json=body(), timeout=0.05)

    ask_and_leave()
    gc.collect()
    assert not closed.is_set()
    simulator.release()
    assert cache.wait_idle(30) == 0
    assert (cache.stats().entries, cache.stats().misses) == (1, 1)
    gc.collect()
    assert closed.wait(10)


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_one_client_for_32_threads(module: Any, cache: cachelayer.Cache, simulator: Simulator) -> None:
    answers: dict[int, list[tuple[str, bytes]]] = {}

    def ask(number: int) -> None:
        answers[number] = [
            (outcome(response), response.content)
            for response in (client.post(simulator.url + PATH, json=body(f"prompt {number}")) for _ in range(3))
        ]

    with module.Client(timeout=60) as given:
        client = cache.wrap(given)
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert simulator.calls == 32
    assert all([kind for kind, _ in answers[number]] == ["MISS", "HIT", "HIT"] for number in range(32))
    assert all(len({content for _, content in answers[number]}) == 1 for number in range(32))
    assert len({answers[number][0][1] for number in range(32)}) == 32
