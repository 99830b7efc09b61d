"""One outcome per request, and savings only of what was handed over: whoever leaves with nothing has saved nothing."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from decimal import Decimal
from pathlib import Path

import httpx
import openai
import pytest

import cachelayer
from cachelayer.core.model import Outcome
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.conftest import Program, finish

HOLDER = """
    import httpx, cachelayer
    folder, url = args
    with cachelayer.Cache(path=folder) as cache, cache.wrap(httpx.Client(timeout=100)) as client:
        answer = client.post(url, json={"model": "gpt-image-2", "prompt": "p", "size": "64x64", "quality": "low"})
        print(answer.headers["x-cachelayer"])
"""


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_who_left_before_another_processs_answer_is_an_error(
    kind: str, program: Program, folder: Path, simulator: Simulator
) -> None:
    simulator.hold()
    holder = program(HOLDER, folder, simulator.url + PATH)
    simulator.wait_for_calls(1)
    with cachelayer.Cache(path=folder) as cache:
        if kind == "sync":
            with cache.wrap(httpx.Client()) as client, pytest.raises(httpx.ReadTimeout):
                client.post(simulator.url + PATH, json=body("p"), timeout=0.2)
            simulator.release()
            cache.wait_idle(0)
        else:

            async def main() -> None:
                async with cache.wrap(httpx.AsyncClient()) as client:
                    task = asyncio.create_task(client.post(simulator.url + PATH, json=body("p"), timeout=100))
                    while not cache._engine.flights._calls:
                        await asyncio.sleep(0.002)
                    await asyncio.sleep(0.05)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    simulator.release()
                    while cache._engine.flights._calls:
                        await asyncio.sleep(0.01)

            asyncio.run(main())
        assert finish(holder) == "MISS\n"
        while cache._engine.flights._calls:
            threading.Event().wait(0.01)
        stats = cache.stats()
        assert (stats.requests, stats.misses, stats.errors) == (2, 1, 1)
        assert (stats.saved_usd, stats.upstream_calls) == (0, 1)
        reasons = {event.reason for event in cache._engine.ledger.events() if event.outcome is Outcome.ERROR}
        assert reasons == {"read-timeout" if kind == "sync" else "cancelled"}


def test_an_sdk_that_retries_is_credited_once_for_one_image(
    program: Program, folder: Path, simulator: Simulator
) -> None:
    simulator.hold()
    holder = program(HOLDER, folder, simulator.url + PATH)
    simulator.wait_for_calls(1)
    with cachelayer.Cache(path=folder) as cache:
        client = cache.wrap(openai.OpenAI(base_url=simulator.url + "/v1", api_key="k", timeout=0.5, max_retries=9))
        images: list[str | None] = []
        thread = threading.Thread(target=lambda: images.append(client.images.generate(**body("p")).data[0].b64_json))
        thread.start()
        while not any(event.reason == "read-timeout" for event in cache._engine.ledger.events()):
            # Whoever made the call is booked when it ends, a joiner when he leaves: his first retry.
            threading.Event().wait(0.05)
        simulator.release()
        thread.join()
        assert images[0]
        finish(holder)
        while cache._engine.flights._calls:
            threading.Event().wait(0.01)
        stats = cache.stats()
        assert stats.hits + stats.coalesced == 1
        assert stats.errors == stats.requests - 2
        assert stats.saved_usd == stats.spent_usd


LEAVERS = """
    import asyncio, random, threading, time, httpx, cachelayer
    folder, url, seed, kind, callers, hedge_after = args
    dice = random.Random(int(seed))
    asked, handed, saved = 0, [], []

    def take(answer):
        assert answer.status_code == 200, answer.text
        handed.append(answer.headers["x-cachelayer"])
        saved.append(answer.headers.get("x-cachelayer-saved-usd", "0"))

    def body():
        prompt = f"{dice.randrange(int(callers) // 4)}"
        return {"model": "gpt-image-2", "prompt": prompt, "size": "64x64", "quality": "low"}

    def patience():
        return dice.choice([0.001, 0.01, 0.03, 0.1, 0.3, 60])

    async def main(cache):
        limits = httpx.Limits(max_connections=None)
        async with cache.wrap(httpx.AsyncClient(timeout=60, limits=limits)) as client:
            async def leave(request, after):
                task = asyncio.ensure_future(client.post(url, json=request))
                await asyncio.wait({task}, timeout=after)
                task.cancel()
                try:
                    take(await task)
                except asyncio.CancelledError:
                    pass

            async def time_out(request, after):
                try:
                    take(await client.post(url, json=request, timeout=httpx.Timeout(60, read=after)))
                except httpx.TransportError:
                    pass

            asks = [dice.choice([leave, time_out])(body(), patience()) for _ in range(int(callers))]
            await asyncio.gather(*asks)

    def ask(cache, request, after):
        with cache.wrap(httpx.Client()) as client:
            try:
                take(client.post(url, json=request, timeout=httpx.Timeout(60, read=after)))
            except httpx.TransportError:
                pass

    with cachelayer.Cache(path=folder, hedge_after=float(hedge_after)) as cache:
        if kind == "async":
            asyncio.run(main(cache))
        else:
            threads = [threading.Thread(target=ask, args=(cache, body(), patience())) for _ in range(int(callers))]
            for thread in threads:
                thread.start()
                time.sleep(dice.random() / 100)
            for thread in threads:
                thread.join()
    print(json.dumps([handed, saved]))
"""


def check_leavers(program: Program, folder: Path, url: str, kinds: list[str], callers: int, hedge_after: float) -> None:
    seed = random.SystemRandom().randrange(10**9)
    running = [
        program(LEAVERS, folder, url + PATH, seed + number, kind, callers, hedge_after)
        for number, kind in enumerate(kinds)
    ]
    results = [json.loads(finish(process, 110)) for process in running]
    handed = Counter(word for result in results for word in result[0])
    saved = sum((Decimal(usd) for result in results for usd in result[1]), Decimal(0))
    with cachelayer.Cache(path=folder) as cache:
        stats = cache.stats()
    assert stats.requests == callers * len(kinds), seed
    assert (stats.hits, stats.coalesced) == (handed["HIT"], handed["COALESCED"]), seed
    assert stats.saved_usd == saved, seed
    assert stats.misses >= handed["MISS"], seed
    assert stats.bypassed == 0, seed


@pytest.mark.parametrize(
    "kinds", [["sync", "async"], pytest.param(["sync", "async"] * 3, marks=pytest.mark.acceptance)], ids=len
)
def test_callers_who_leave_anywhere_count_once(kinds: list[str], program: Program, folder: Path) -> None:
    with Simulator(latency=(0.0, 0.2)) as simulator:
        check_leavers(program, folder, simulator.url, kinds, 60, 90.0)
        with cachelayer.Cache(path=folder) as cache:
            assert cache.stats().upstream_calls == simulator.calls


@pytest.mark.parametrize(
    "kinds", [["sync", "async"], pytest.param(["sync", "async"] * 3, marks=pytest.mark.acceptance)], ids=len
)
def test_callers_who_leave_calls_that_hedge_count_once(kinds: list[str], program: Program, folder: Path) -> None:
    """Hedges all the time, late answers, failures beside other calls."""
    with Simulator(latency=(0.0, 0.6), error_rate=0.0) as simulator:
        check_leavers(program, folder, simulator.url, kinds, 60, 0.05)
        with cachelayer.Cache(path=folder) as cache:
            assert cache.stats().upstream_calls == simulator.calls
