"""Event loops that were closed, stopped or dropped under a flight: its call is ended and booked once, nobody waits for
it, and nothing of it stays."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import uvloop

import cachelayer
from cachelayer.core.model import Outcome
from cachelayer.simulator import Simulator
from tests.asking import PATH, body

NEW = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # httpcore, closed without a loop
]
LOOPS = pytest.mark.parametrize("new", [pytest.param(new, id=name) for name, new in NEW.items()])


@pytest.fixture(autouse=True)
def _nothing_for_others_to_find() -> Iterator[None]:
    """What such an end leaves open is collected here, where its warnings are expected, and not in the next test."""
    yield
    for _ in range(3):
        gc.collect()


def leave_a_flight(
    cache: cachelayer.Cache, simulator: Simulator, new: Callable[[], asyncio.AbstractEventLoop], prompt: str
) -> asyncio.AbstractEventLoop:
    """An event loop with a flight that its only caller has left."""
    loop, calls = new(), simulator.calls

    async def ask() -> None:
        client = cache.wrap(httpx.AsyncClient(timeout=60))
        task = asyncio.create_task(client.post(simulator.url + PATH, json=body(prompt)))
        while simulator.calls == calls:
            await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    loop.run_until_complete(ask())
    return loop


def booked(cache: cachelayer.Cache) -> list[tuple[Outcome, str | None, int]]:
    return [(event.outcome, event.reason, event.upstream) for event in cache._engine.ledger.events()]


@LOOPS
def test_flights_of_closed_loops_are_booked_once_and_gone(
    new: Callable[[], asyncio.AbstractEventLoop], cache: cachelayer.Cache, simulator: Simulator
) -> None:
    simulator.hold()
    loops = []
    for number in range(5):
        loop = leave_a_flight(cache, simulator, new, f"{number}")
        loop.close()
        loops.append(weakref.ref(loop))
        del loop
    stats = cache.stats()
    assert (stats.requests, stats.errors, stats.upstream_calls, stats.unpriced) == (5, 5, 5, 5)
    assert set(booked(cache)) == {(Outcome.ERROR, "abandoned", 1)}
    flights = cache._engine.flights
    assert not flights._by_key
    assert not flights._calls
    gc.collect()
    assert [loop() for loop in loops] == [None] * 5
    simulator.release()
    with cache.wrap(httpx.Client(timeout=60)) as client:
        for number in range(5):
            assert client.post(simulator.url + PATH, json=body(f"{number}")).headers["x-cachelayer"] == "MISS"
    assert cache.stats().requests == 10
    assert simulator.calls == 10


@LOOPS
def test_flights_of_dropped_loops_are_booked_once_and_gone(
    new: Callable[[], asyncio.AbstractEventLoop], folder: Path, simulator: Simulator
) -> None:
    simulator.hold()
    loops = []
    with cachelayer.Cache(path=folder, finish_timeout=0.3) as cache:
        for number in range(5):
            loop = leave_a_flight(cache, simulator, new, f"{number}")
            loops.append(weakref.ref(loop))
            del loop
        while cache.stats().requests < 5:
            threading.Event().wait(0.05)
        gc.collect()
        if new is asyncio.new_event_loop:  # one of uvloop that was not closed never goes, used or not
            assert [loop() for loop in loops] == [None] * 5
        stats = cache.stats()
        assert (stats.requests, stats.errors, stats.upstream_calls) == (5, 5, 5)
        assert not cache._engine.flights._by_key
        assert not cache._engine.flights._calls


@LOOPS
def test_a_loop_that_never_runs_again_is_given_up_after_finish_timeout(
    new: Callable[[], asyncio.AbstractEventLoop], folder: Path, simulator: Simulator
) -> None:
    simulator.hold()
    with cachelayer.Cache(path=folder, finish_timeout=0.3) as cache:
        loop = leave_a_flight(cache, simulator, new, "p")
        while cache.stats().requests == 0:
            threading.Event().wait(0.05)
        assert booked(cache) == [(Outcome.ERROR, "abandoned", 1)]
        assert not cache._engine.flights._calls
        simulator.release()
        loop.run_until_complete(asyncio.sleep(0.1))  # it runs again after all
        assert booked(cache) == [(Outcome.ERROR, "abandoned", 1)]
        assert cache.stats().entries == 0
        loop.close()


@pytest.mark.parametrize("end", ["close", "stop"])
@LOOPS
def test_a_caller_elsewhere_is_not_held(
    end: str, new: Callable[[], asyncio.AbstractEventLoop], cache: cachelayer.Cache, simulator: Simulator
) -> None:
    """He asks while the loop stands still, and waits when it is closed."""
    simulator.hold()
    loop = leave_a_flight(cache, simulator, new, "p")
    answers: list[str] = []

    def ask() -> None:
        with cache.wrap(httpx.Client(timeout=60)) as client:
            answers.append(client.post(simulator.url + PATH, json=body("p")).headers["x-cachelayer"])

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    if end == "close":
        loop.close()
    simulator.wait_for_calls(2, timeout=60)
    simulator.release()
    for thread in threads:
        thread.join()
    assert answers.count("MISS") == 1
    assert simulator.calls == 2
    loop.close()
    stats = cache.stats()
    assert (stats.requests, stats.errors, stats.misses) == (4, 1, 1)


@LOOPS
def test_a_caller_whose_loop_was_closed_counts_once(
    new: Callable[[], asyncio.AbstractEventLoop], cache: cachelayer.Cache, simulator: Simulator
) -> None:
    """A joiner, whom no cancellation ever reached: his task is destroyed with the loop."""
    simulator.hold()
    with cache.wrap(httpx.Client(timeout=60)) as client:
        maker = threading.Thread(target=lambda: client.post(simulator.url + PATH, json=body("p")))
        maker.start()
        simulator.wait_for_calls(1)
        loop, left = new(), []

        async def join() -> None:
            client = cache.wrap(httpx.AsyncClient(timeout=60))
            left.append(asyncio.ensure_future(client.post(simulator.url + PATH, json=body("p"))))
            flight = next(iter(cache._engine.flights._by_key.values()))
            while flight.passengers < 2:
                await asyncio.sleep(0.002)

        loop.run_until_complete(join())
        loop.close()
        left.clear()
        del loop
        gc.collect()
        simulator.release()
        maker.join()
    cache.stats()
    assert sorted(booked(cache)) == [(Outcome.ERROR, "cancelled", 0), (Outcome.MISS, None, 1)]
