"""DESIGN section 3, rule 4: callers may leave; the flight continues, and what was paid for is stored."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx
import httpx2
import openai
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.conftest import Program, finish


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_read_timeout_is_the_callers_own_and_his_retry_joins(
    module: object, cache: cachelayer.Cache, simulator: Simulator
) -> None:
    simulator.hold()
    with cache.wrap(module.Client()) as client:  # type: ignore[attr-defined]
        for _ in range(3):
            with pytest.raises(module.ReadTimeout):  # type: ignore[attr-defined]
                client.post(simulator.url + PATH, json=body(), timeout=0.05)
        simulator.release()
        answer = client.post(simulator.url + PATH, json=body(), timeout=30)
    assert answer.headers["x-cachelayer"] in ("COALESCED", "HIT")
    assert simulator.calls == 1
    stats = cache.stats()
    assert (stats.entries, stats.misses, stats.errors) == (1, 1, 2)


def test_async_read_timeout(cache: cachelayer.Cache, simulator: Simulator) -> None:
    async def main() -> str:
        simulator.hold()
        async with cache.wrap(httpx2.AsyncClient()) as client:
            for _ in range(3):
                with pytest.raises(httpx2.ReadTimeout):
                    await client.post(simulator.url + PATH, json=body(), timeout=0.05)
            simulator.release()
            answer = await client.post(simulator.url + PATH, json=body(), timeout=30)
            return answer.headers["x-cachelayer"]

    assert asyncio.run(main()) in ("COALESCED", "HIT")
    assert simulator.calls == 1
    assert cache.stats().entries == 1


def test_the_sdks_own_retry_joins_the_flight(cache: cachelayer.Cache, simulator: Simulator) -> None:
    """openai retries a timeout by itself: the provider is asked once, and the second try gets the image."""
    simulator.hold()
    client = cache.wrap(openai.OpenAI(base_url=simulator.url + "/v1", api_key="k", timeout=0.2, max_retries=0))
    with pytest.raises(openai.APITimeoutError):
        client.images.generate(**body())
    simulator.release()
    patient = client.with_options(timeout=30)
    assert patient.images.generate(**body()).data[0].b64_json
    assert simulator.calls == 1


def test_each_joiner_keeps_his_own_timeout(cache: cachelayer.Cache, simulator: Simulator) -> None:
    async def main() -> list[object]:
        simulator.hold()
        async with cache.wrap(httpx.AsyncClient()) as client:
            patient = asyncio.create_task(client.post(simulator.url + PATH, json=body(), timeout=30))
            await asyncio.to_thread(simulator.wait_for_calls, 1)
            hasty = await asyncio.gather(
                *(client.post(simulator.url + PATH, json=body(), timeout=0.05) for _ in range(3)),
                return_exceptions=True,
            )
            simulator.release()
            return [*hasty, (await patient).headers["x-cachelayer"]]

    *hasty, patient = asyncio.run(main())
    assert [type(error) for error in hasty] == [httpx.ReadTimeout] * 3
    assert patient == "MISS"
    assert simulator.calls == 1


def test_cancelled_task_leaves_the_others_their_answer(cache: cachelayer.Cache, simulator: Simulator) -> None:
    async def main() -> str:
        simulator.hold()
        async with cache.wrap(httpx.AsyncClient(timeout=30)) as client:
            leader = asyncio.create_task(client.post(simulator.url + PATH, json=body()))
            await asyncio.to_thread(simulator.wait_for_calls, 1)
            follower = asyncio.create_task(client.post(simulator.url + PATH, json=body()))
            leader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leader
            simulator.release()
            return (await follower).headers["x-cachelayer"]

    assert asyncio.run(main()) in ("COALESCED", "HIT")
    assert simulator.calls == 1


ENDS_AT_ONCE = """
    import asyncio, threading, httpx, cachelayer
    folder, url, how = args
    cache = cachelayer.Cache(path=folder, drain_timeout=30)
    BODY = {"model": "gpt-image-2", "prompt": "p", "size": "64x64", "quality": "low"}

    async def main():
        client = cache.wrap(httpx.AsyncClient(timeout=60))
        task = asyncio.ensure_future(client.post(url, json=BODY))
        await asyncio.to_thread(sys.stdin.readline)
        task.cancel()

    if how == "asyncio.run":
        asyncio.run(main())
    elif how == "uvloop":
        import uvloop
        uvloop.run(main())
    elif how == "anyio":
        import anyio
        async def anyio_main():
            client = cache.wrap(httpx.AsyncClient(timeout=60))
            async with anyio.create_task_group() as group:
                async def ask():
                    await client.post(url, json=BODY)
                group.start_soon(ask)
                await anyio.to_thread.run_sync(sys.stdin.readline)
                group.cancel_scope.cancel()
        anyio.run(anyio_main)
    elif how == "sys.exit":
        client = cache.wrap(httpx.Client(timeout=0.05))
        try:
            client.post(url, json=BODY)
        except httpx.ReadTimeout:
            pass
        sys.stdin.readline()
        sys.exit(0)
    elif how == "multiprocessing":
        import multiprocessing
        def child():
            client = cache.wrap(httpx.Client(timeout=0.05))
            try:
                client.post(url, json=BODY)
            except httpx.ReadTimeout:
                pass
            print("left", file=sys.stderr, flush=True)
        warnings.simplefilter("ignore")
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        sys.exit(process.exitcode)
"""


@pytest.mark.parametrize("how", ["asyncio.run", "uvloop", "anyio", "sys.exit", "multiprocessing"])
def test_a_program_that_ends_right_after_a_left_call_still_stores_it(
    how: str, program: Program, folder: Path, simulator: Simulator
) -> None:
    simulator.hold()
    process = program(ENDS_AT_ONCE, folder, simulator.url + PATH, how)
    assert process.stdin is not None
    simulator.wait_for_calls(1)
    process.stdin.write("\n")
    process.stdin.flush()
    if how in ("sys.exit", "multiprocessing"):
        assert process.stderr is not None
        line = process.stderr.readline()
        while "waiting up to 30 s for 1 answer" not in line:
            assert line, "the program ended without waiting"
            line = process.stderr.readline()
    simulator.release()
    finish(process)
    assert simulator.calls == 1
    with cachelayer.Cache(path=folder) as cache:
        stats = cache.stats()
        assert (stats.entries, stats.misses, stats.requests) == (1, 1, 1)


def test_ctrl_c_once_stores_and_twice_abandons(program: Program, folder: Path, simulator: Simulator) -> None:
    source = """
        import httpx, cachelayer
        folder, url = args
        cache = cachelayer.Cache(path=folder, drain_timeout=30)
        client = cache.wrap(httpx.Client(timeout=60))
        client.post(url, json={"model": "gpt-image-2", "prompt": "p", "size": "64x64", "quality": "low"})
    """
    for times in (1, 2):
        simulator.hold()
        calls = simulator.calls
        process = program(source, folder / str(times), simulator.url + PATH)
        assert process.stderr is not None
        simulator.wait_for_calls(calls + 1)
        process.send_signal(signal.SIGINT)
        while "waiting up to" not in (line := process.stderr.readline()):
            assert line, "the program ended without waiting"
        if times == 2:
            process.send_signal(signal.SIGINT)
            while "gave up on 1" not in (line := process.stderr.readline()):
                assert line, "the second Ctrl-C was not heard"
        simulator.release()
        process.wait(30)
        with cachelayer.Cache(path=folder / str(times)) as cache:
            assert cache.stats().entries == 2 - times


def test_closing_a_client_does_not_kill_its_flight(cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.hold()
    client = cache.wrap(httpx.Client())
    with pytest.raises(httpx.ReadTimeout):
        client.post(simulator.url + PATH, json=body(), timeout=0.05)
    client.close()
    simulator.release()
    with cache.wrap(httpx.Client(timeout=30)) as other:
        assert other.post(simulator.url + PATH, json=body()).headers["x-cachelayer"] in ("COALESCED", "HIT")
    assert simulator.calls == 1


def test_close_of_the_cache_waits_for_flights_and_later_calls_bypass(folder: Path, simulator: Simulator) -> None:
    cache = cachelayer.Cache(path=folder)
    with cache.wrap(httpx.Client()) as client:
        simulator.hold()
        with pytest.raises(httpx.ReadTimeout):
            client.post(simulator.url + PATH, json=body(), timeout=0.05)
        simulator.release()
        cache.close()
        answer = client.post(simulator.url + PATH, json=body())
    assert answer.headers["x-cachelayer"] == "BYPASS"
    assert answer.headers["x-cachelayer-reason"] == "closed"
    with cachelayer.Cache(path=folder) as again:
        assert again.stats().entries == 1
