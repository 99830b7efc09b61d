"""A pool widens the look-up of the program that set it, and of no other program on the same folder."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import cachelayer
from cachelayer.ledger.ledger import Ledger
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.conftest import Program, finish
from tests.dialects.samples import SAMPLES


@pytest.fixture
def reseller() -> Iterator[Simulator]:
    with Simulator() as reseller:
        yield reseller


def host(simulator: Simulator) -> str:
    return simulator.url.removeprefix("http://")


class Shop:
    """One program's Cache and client on a folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.cache = cachelayer.Cache(path=folder, **settings)
        self.client = self.cache.wrap(httpx.Client(timeout=60))

    def ask(self, simulator: Simulator, prompt: str = "a hat", **fields: Any) -> httpx.Response:
        answer = self.client.post(simulator.url + PATH, json=body(prompt, **fields))
        assert answer.status_code == 200, answer.text
        return answer

    def outcome(self, simulator: Simulator, prompt: str = "a hat", **fields: Any) -> str:
        return self.ask(simulator, prompt, **fields).headers["x-cachelayer"]

    def key(self, simulator: Simulator, prompt: str = "a hat") -> str:
        sent = httpx.Request("POST", simulator.url + PATH, json=body(prompt))
        asking = cachelayer.Request("POST", str(sent.url), dict(sent.headers), sent.content)
        key = self.cache.explain(asking).key
        assert key is not None
        return key

    def close(self) -> None:
        self.client.close()
        self.cache.close()


Open = Callable[..., Shop]


@pytest.fixture
def open_shop(folder: Path) -> Iterator[Open]:
    shops: list[Shop] = []

    def open_one(**settings: Any) -> Shop:
        shops.append(Shop(folder, **settings))
        return shops[-1]

    yield open_one
    for shop in shops:
        shop.close()


@pytest.mark.parametrize("named", [False, True])
def test_only_who_names_the_pool_is_served_by_it(
    open_shop: Open, simulator: Simulator, reseller: Simulator, named: bool
) -> None:
    pool = [*(["name:both"] if named else []), host(simulator), host(reseller)]
    mine, theirs = open_shop(pools=[pool]), open_shop()
    first = mine.ask(reseller)
    assert first.headers["x-cachelayer"] == "MISS"
    assert mine.ask(simulator).content == first.content
    # The other program never agreed to be served by a reseller, at either host.
    assert theirs.outcome(simulator) == "MISS"
    assert theirs.outcome(reseller) == ("MISS" if named else "HIT")
    assert (simulator.calls, reseller.calls) == (1, 2 if named else 1)


@pytest.mark.parametrize("setting", [{"normalize": "loose"}, {"normalize": "exact"}, {"ignore": ["body:seed"]}])
def test_normalize_and_ignore_hold_for_one_program_alone(
    open_shop: Open, simulator: Simulator, setting: dict[str, Any]
) -> None:
    mine, theirs = open_shop(**setting), open_shop()
    assert mine.outcome(simulator, "a  hat", seed=1) == "MISS"
    assert mine.outcome(simulator, "a  hat", seed=1) == "HIT"
    assert [theirs.outcome(simulator, prompt, seed=1) for prompt in ("a  hat", "a hat")] == ["MISS", "MISS"]
    assert [theirs.outcome(simulator, "a hat", **more) for more in ({}, {"seed": 2})] == ["MISS", "MISS"]


def test_who_adopts_a_pool_finds_what_was_paid_for_before(
    open_shop: Open, simulator: Simulator, reseller: Simulator
) -> None:
    before = open_shop()
    paid = before.ask(reseller)
    for pool in ([host(simulator), host(reseller)], ["name:both", host(simulator), host(reseller)]):
        found = open_shop(pools=[pool]).ask(simulator)
        assert (found.headers["x-cachelayer"], found.content) == ("HIT", paid.content)
        assert found.headers["x-cachelayer-key"] == paid.headers["x-cachelayer-key"] == before.key(reseller)
    assert simulator.calls == 0


def test_the_entrys_key_is_named_and_the_asked_host_is_booked(
    open_shop: Open, folder: Path, simulator: Simulator, reseller: Simulator
) -> None:
    shop = open_shop(pools=[[host(simulator), host(reseller)]])
    shop.ask(reseller)
    shop.ask(simulator)
    shop.ask(simulator, "another")
    theirs, mine = shop.key(reseller), shop.key(simulator, "another")
    shop.close()
    booked = [(event.outcome.value, event.host, event.key) for event in Ledger(folder / "ledger").events()]
    assert booked == [
        ("MISS", host(reseller), theirs),
        ("HIT", host(simulator), theirs),
        ("MISS", host(simulator), mine),
    ]


def test_the_askers_own_entry_comes_first(open_shop: Open, simulator: Simulator, reseller: Simulator) -> None:
    apart = open_shop()
    own = {one: apart.ask(one).headers["x-cachelayer-key"] for one in (simulator, reseller)}
    assert own[simulator] != own[reseller]
    pooled = open_shop(pools=[[host(simulator), host(reseller)]])
    assert {one: pooled.ask(one).headers["x-cachelayer-key"] for one in own} == own


def test_two_members_asked_at_once_make_two_calls(open_shop: Open) -> None:
    with Simulator(latency=0.3) as one, Simulator(latency=0.3) as other:
        shop = open_shop(pools=[[host(one), host(other)]])
        with ThreadPoolExecutor(8) as threads:
            outcomes = list(threads.map(shop.outcome, [one, other] * 4))
        assert sorted(outcomes) == ["COALESCED"] * 6 + ["MISS"] * 2
        assert (one.calls, other.calls) == (1, 1)


PROGRAM = """
    import httpx, cachelayer
    folder, url, *pool = args
    with cachelayer.Cache(path=folder, pools=[pool] if pool else None) as cache:
        with cache.wrap(httpx.Client(timeout=60)) as client:
            print("ready", flush=True)
            sys.stdin.readline()
            asked = {"model": "gpt-image-2", "prompt": "a hat", "size": "64x64", "quality": "low"}
            answer = client.post(url, json=asked)
            print(answer.headers["x-cachelayer"], answer.headers["x-cachelayer-key"])
    """


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def go(processes: list[Any]) -> None:
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


def test_a_named_pool_makes_one_call_for_all_its_members(folder: Path, program: Program) -> None:
    with Simulator(latency=0.5) as one, Simulator(latency=0.5) as other:
        pool = ["name:both", host(one), host(other)]
        processes = [program(PROGRAM, folder, at.url + PATH, *pool) for at in (one, other, one)]
        go(processes)
        told = [finish(process).split() for process in processes]
        assert [outcome for outcome, _ in told].count("MISS") == 1
        assert one.calls + other.calls == 1
        assert len({key for _, key in told}) == 1


def test_the_look_up_under_the_lease_asks_the_same_scopes(
    open_shop: Open, folder: Path, program: Program, reseller: Simulator
) -> None:
    """While he waits for another process's flight, which fails, an answer is stored under another member."""
    with Simulator(latency=2, error_rate=1) as failing:
        process = program(PROGRAM, folder, failing.url + PATH)
        go([process])
        wait_until(lambda: failing.calls > 0)
        mine, theirs = open_shop(pools=[[host(failing), host(reseller)]]), open_shop()
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(mine.ask, failing)
            wait_until(lambda: mine.cache.flights.count() > 0)
            stored = theirs.ask(reseller)
            assert stored.headers["x-cachelayer"] == "MISS"
            found = waiting.result(timeout=60)
        finish(process)
        assert (found.headers["x-cachelayer"], found.content) == ("COALESCED", stored.content)
        assert found.headers["x-cachelayer-key"] == stored.headers["x-cachelayer-key"]
        assert failing.calls == 1


def test_the_same_in_an_event_loop(folder: Path, simulator: Simulator, reseller: Simulator) -> None:
    async def main() -> list[str]:
        pools = [[host(simulator), host(reseller)]]
        async with (
            cachelayer.Cache(path=folder, pools=pools) as cache,
            cache.wrap(httpx.AsyncClient(timeout=60)) as client,
        ):
            answers = [await client.post(one.url + PATH, json=body()) for one in (reseller, simulator)]
            return [answer.headers[name] for answer in answers for name in ("x-cachelayer", "x-cachelayer-key")]

    first, key, second, same = asyncio.run(main())
    assert (first, second, key) == ("MISS", "HIT", same)


def cut_blobs(folder: Path) -> None:
    blobs = [path for path in (folder / "blobs").rglob("*") if path.is_file()]
    assert blobs
    for path in blobs:
        os.truncate(path, 10)


def test_damage_under_another_members_key_counts_once_a_process(
    open_shop: Open, folder: Path, simulator: Simulator, reseller: Simulator
) -> None:
    with_a_blob = {"size": "512x512"}
    open_shop().ask(reseller, **with_a_blob)
    cut_blobs(folder)
    shop = open_shop(pools=[[host(simulator), host(reseller)]])
    assert shop.outcome(simulator, **with_a_blob) == "MISS"
    assert shop.cache.stats().broken == 1
    cut_blobs(folder)
    assert shop.outcome(simulator, **with_a_blob) == "MISS"
    assert shop.cache.stats().broken == 2  # his own, which was damaged just now


def test_namespaces_are_walls_in_a_pool_too(open_shop: Open, simulator: Simulator, reseller: Simulator) -> None:
    pools = [["name:both", host(simulator), host(reseller)]]
    one, other = open_shop(pools=pools), open_shop(pools=pools, namespace="other")
    assert [shop.outcome(at) for shop in (one, other) for at in (reseller, simulator)] == ["MISS", "HIT", "MISS", "HIT"]


def test_explain_and_diff_of_pooled_requests(open_shop: Open, simulator: Simulator, reseller: Simulator) -> None:
    def asking(one: Simulator) -> cachelayer.Request:
        return cachelayer.Request("POST", one.url + PATH, {"content-type": "application/json"}, b'{"prompt":"p"}')

    plain = open_shop(pools=[[host(simulator), host(reseller)]]).cache
    assert [one.field for one in plain.diff(asking(simulator), asking(reseller))] == ["scope"]
    named = open_shop(pools=[["name:both", host(simulator), host(reseller)]]).cache
    assert named.diff(asking(simulator), asking(reseller)) == []
    assert named.explain(asking(simulator)).fields["scope"] == {"$pool": "both"}


def test_a_bare_host_is_meant_with_both_schemes(open_shop: Open) -> None:
    """Each on its own port; the answers of one are found by the other, for who named it alone."""
    png = base64.b64encode(SAMPLES["png"].data).decode()
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"data": [{"b64_json": png}]}))

    def ask(url: str, prompt: str, **settings: Any) -> str:
        with open_shop(**settings).cache.wrap(httpx.Client(transport=transport)) as client:
            got = client.post(f"{url}/v1/images/generations", json={"prompt": prompt})
        return got.headers["x-cachelayer"]

    bare, https = [["a.example", "b.example"]], [["https://a.example", "https://b.example"]]
    for made, asked in (("http://a", "https://b"), ("https://a", "http://b"), ("https://a", "http://a")):
        assert ask(f"{made}.example", made + asked) == "MISS"
        assert ask(f"{asked}.example:{443 if 's:' in asked else 80}", made + asked, pools=bare) == "HIT"
    for pools in ([], https):
        assert ask("http://b.example", f"{pools}", pools=pools) == "MISS"
        assert ask("https://a.example", f"{pools}", pools=pools) == "MISS"
