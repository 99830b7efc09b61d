"""DESIGN section 3, rule 3: one flight per key, whoever asks from wherever."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from pathlib import Path

import httpx
import httpx2
import pytest
from openai import AsyncOpenAI

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.conftest import Program, finish

GOOD = {"MISS": 1}


def outcomes_are_one_call(outcomes: list[str], callers: int) -> bool:
    count = Counter(outcomes)
    return count["MISS"] == 1 and count["COALESCED"] + count["HIT"] == callers - 1


def test_64_threads_make_one_call(cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.hold()
    barrier = threading.Barrier(65)
    answers: list[httpx.Response] = []

    with cache.wrap(httpx.Client(timeout=60)) as client:

        def ask() -> None:
            barrier.wait()
            answers.append(client.post(simulator.url + PATH, json=body()))

        threads = [threading.Thread(target=ask) for _ in range(64)]
        for thread in threads:
            thread.start()
        barrier.wait()
        simulator.wait_for_calls(1)
        simulator.release()
        for thread in threads:
            thread.join()

    assert simulator.calls == 1
    assert outcomes_are_one_call([answer.headers["x-cachelayer"] for answer in answers], 64)
    assert len({answer.content for answer in answers}) == 1
    stats = cache.stats()
    assert (stats.requests, stats.misses, stats.upstream_calls) == (64, 1, 1)
    assert stats.hits + stats.coalesced == 63


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_200_tasks_make_one_call(loop: str, cache: cachelayer.Cache, simulator: Simulator) -> None:
    async def main() -> list[str | None]:
        async with cache.wrap(AsyncOpenAI(base_url=simulator.url + "/v1", api_key="k", max_retries=0)) as client:

            async def ask() -> str | None:
                answer = await client.images.generate(**body())
                picture: str | None = answer.data[0].b64_json
                return picture

            simulator.hold()
            tasks = [asyncio.create_task(ask()) for _ in range(200)]
            await asyncio.to_thread(simulator.wait_for_calls, 1)
            simulator.release()
            return await asyncio.gather(*tasks)

    if loop == "uvloop":
        import uvloop

        images = uvloop.run(main())
    else:
        images = asyncio.run(main())
    assert simulator.calls == 1
    assert len(set(images)) == 1
    assert cache.stats().requests == 200


def test_threads_loops_and_both_modules_join_one_flight(cache: cachelayer.Cache, simulator: Simulator) -> None:
    """Sync and async clients of httpx and httpx2, four event loops and eight threads: one call."""
    simulator.hold()
    outcomes: list[str] = []

    def ask_sync(module: object) -> None:
        with cache.wrap(module.Client(timeout=60)) as client:  # type: ignore[attr-defined]
            outcomes.append(client.post(simulator.url + PATH, json=body()).headers["x-cachelayer"])

    def ask_async(module: object) -> None:
        async def main() -> None:
            async with cache.wrap(module.AsyncClient(timeout=60)) as client:  # type: ignore[attr-defined]
                answers = await asyncio.gather(*(client.post(simulator.url + PATH, json=body()) for _ in range(5)))
                outcomes.extend(answer.headers["x-cachelayer"] for answer in answers)

        asyncio.run(main())

    threads = [
        threading.Thread(target=ask, args=(module,))
        for module in (httpx, httpx2)
        for ask in (ask_sync, ask_sync, ask_async, ask_async)
    ]
    for thread in threads:
        thread.start()
    simulator.wait_for_calls(1)
    simulator.release()
    for thread in threads:
        thread.join()
    assert simulator.calls == 1
    assert outcomes_are_one_call(outcomes, 24)


ASK_ONCE = """
    import httpx, cachelayer
    folder, url, *rest = args
    with cachelayer.Cache(path=folder) as cache, cache.wrap(httpx.Client(timeout=60)) as client:
        print("ready", flush=True)
        sys.stdin.readline()
        answer = client.post(url, json={"model": "gpt-image-2", "prompt": "p", "size": "64x64", "quality": "low"})
        print(answer.status_code, answer.headers["x-cachelayer"])
"""


def test_8_processes_make_one_call(program: Program, folder: Path, simulator: Simulator) -> None:
    simulator.hold()
    processes = [program(ASK_ONCE, folder, simulator.url + PATH) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    simulator.wait_for_calls(1)
    simulator.release()
    outcomes = [finish(process).split()[1] for process in processes]
    assert simulator.calls == 1
    assert outcomes_are_one_call(outcomes, 8)
    with cachelayer.Cache(path=folder) as cache:
        assert cache.stats().upstream_calls == 1
        assert cache.stats().requests == 8


LEADER = """
    import httpx, cachelayer
    folder, url, forks = args
    cache = cachelayer.Cache(path=folder)
    client = cache.wrap(httpx.Client(timeout=60))
    def ask():
        client.post(url, json={"model": "gpt-image-2", "prompt": "p", "size": "64x64", "quality": "low"})
    import threading
    threading.Thread(target=ask, daemon=True).start()
    sys.stdin.readline()
    child = 0
    if forks == "True":
        warnings.simplefilter("ignore")  # Python 3.12 warns of a fork beside threads, which is the point here
        child = os.fork()
        if child == 0:
            import signal
            signal.pause()
    print(child, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("forks", [False, True])
def test_killed_leader_frees_his_lease_at_once(
    forks: bool, program: Program, folder: Path, simulator: Simulator
) -> None:
    import os
    import signal

    simulator.hold()
    leader = program(LEADER, folder, simulator.url + PATH, forks)
    assert leader.stdin is not None
    assert leader.stdout is not None
    simulator.wait_for_calls(1)
    leader.stdin.write("\n")
    leader.stdin.flush()
    child = int(leader.stdout.readline())
    followers = [program(ASK_ONCE, folder, simulator.url + PATH) for _ in range(3)]
    for follower in followers:
        assert follower.stdout is not None
        assert follower.stdin is not None
        follower.stdout.readline()
        follower.stdin.write("\n")
        follower.stdin.flush()
    try:
        leader.kill()
        simulator.wait_for_calls(2)
        simulator.release()
        outcomes = [finish(follower).split()[1] for follower in followers]
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
    assert simulator.calls == 2
    assert outcomes_are_one_call(outcomes, 3)


def test_a_forked_child_has_flights_of_its_own(program: Program, folder: Path, simulator: Simulator) -> None:
    """A child forked beside a flight of its parent neither hangs nor calls: it waits for the parent's lease."""
    source = """
        import httpx, cachelayer, threading, time
        folder, url = args
        cache = cachelayer.Cache(path=folder)
        ask = lambda client: client.post(url, json={"model": "gpt-image-2", "prompt": "p", "size": "64x64"})
        answers = []
        thread = threading.Thread(target=lambda: answers.append(ask(cache.wrap(httpx.Client(timeout=60)))))
        thread.start()
        sys.stdin.readline()
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            def tell():
                while not cache.flights.count():
                    time.sleep(0.001)
                print("waits", flush=True)
            threading.Thread(target=tell).start()
            print(ask(cache.wrap(httpx.Client(timeout=60))).headers["x-cachelayer"], flush=True)
            os._exit(0)
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print(answers[0].headers["x-cachelayer"])
    """
    simulator.hold()
    process = program(source, folder, simulator.url + PATH)
    assert process.stdin is not None
    assert process.stdout is not None
    simulator.wait_for_calls(1)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "waits\n"
    simulator.release()
    assert sorted(finish(process).split()) == ["COALESCED", "MISS"]
    assert simulator.calls == 1


def test_sync_call_inside_the_flights_own_loop_does_not_hang(cache: cachelayer.Cache, simulator: Simulator) -> None:
    async def main() -> str:
        simulator.hold()
        async with cache.wrap(httpx.AsyncClient(timeout=60)) as client:
            task = asyncio.create_task(client.post(simulator.url + PATH, json=body()))
            await asyncio.to_thread(simulator.wait_for_calls, 1)
            simulator.release()
            with cache.wrap(httpx.Client(timeout=60)) as blocking:
                answer = blocking.post(simulator.url + PATH, json=body())  # blocks the loop of the flight above
            await task
            return answer.headers["x-cachelayer"]

    assert asyncio.run(main()) in ("MISS", "HIT")
    assert simulator.calls == 2


def test_joiner_starts_anew_when_the_flights_loop_is_closed(cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.hold()
    loop = asyncio.new_event_loop()
    client = cache.wrap(httpx.AsyncClient(timeout=60))
    task = loop.create_task(client.post(simulator.url + PATH, json=body()))

    async def until_called() -> None:
        await asyncio.to_thread(simulator.wait_for_calls, 1)

    loop.run_until_complete(until_called())
    outcomes: list[str] = []

    def ask() -> None:
        with cache.wrap(httpx.Client(timeout=60)) as blocking:
            outcomes.append(blocking.post(simulator.url + PATH, json=body()).headers["x-cachelayer"])

    thread = threading.Thread(target=ask)
    thread.start()
    # The loop stands still from here on, and the joiner finds out: a second call reaches the provider.
    simulator.wait_for_calls(2, timeout=30)
    simulator.release()
    thread.join()
    assert outcomes == ["MISS"]
    assert loop.run_until_complete(asyncio.wait_for(task, 30)).headers["x-cachelayer"] == "MISS"
    stats = cache.stats()
    assert (stats.requests, stats.misses, stats.saved_usd) == (2, 2, 0)
    loop.run_until_complete(client.aclose())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
