"""What goes wrong around a flight: forks, loops that stop, interrupts and departures at bad moments."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
import uvloop

import cachelayer
from cachelayer.core.trip import Abandoned, TimedOut
from cachelayer.runtime.call import Call
from cachelayer.runtime.flight import Flight
from cachelayer.runtime.flights import flights_of
from cachelayer.runtime.seat import Seat
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.conftest import Program, finish

KEY = "ab" * 32
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def runner(loop: str) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None)


def test_a_forked_child_may_fork(program: Program, folder: Path) -> None:
    source = """
        import cachelayer
        cache = cachelayer.Cache(path=args[0])
        for depth in range(3):
            child = os.fork()
            if child:
                os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print("third", flush=True)
    """
    assert finish(program(source, folder)) == "third\n"


def a_seat(loop: asyncio.AbstractEventLoop | None = None, *, read_timeout: float | None = None) -> Seat:
    return Seat(b"", loop, read_timeout=read_timeout, hedge_after=90.0)


def a_call(loop: asyncio.AbstractEventLoop | None = None) -> Call:
    return Call(b"", loop, finish_timeout=600.0, hedge_after=90.0, book=lambda *_: None)


LEASE_IS_FREE = """
    from pathlib import Path
    from cachelayer.runtime.leases import MachineLeases
    print(MachineLeases(Path(args[0])).acquire(args[1], 0, "token"))
"""


def test_a_flight_that_was_given_up_keeps_no_lease(program: Program, tmp_path: Path) -> None:
    """Its loop stood still, a joiner flew himself; then the loop goes on, and asks for the lease."""
    flights, loop = flights_of(tmp_path), asyncio.new_event_loop()
    seat, given_up = a_seat(loop), a_call(loop)
    assert flights.board(KEY, seat, given_up)
    flights.give_up(given_up)
    assert not flights.try_lease(given_up)
    flights.close(given_up, Abandoned())
    loop.close()
    assert finish(program(LEASE_IS_FREE, tmp_path, KEY)) == "True\n"


def test_two_calls_of_a_flight_drop_its_lease_with_the_second(program: Program, tmp_path: Path) -> None:
    async def main() -> None:
        flights = flights_of(tmp_path)
        seats, first, second = (
            [a_seat(asyncio.get_running_loop()), a_seat()],
            a_call(asyncio.get_running_loop()),
            a_call(),
        )
        assert flights.board(KEY, seats[0], first)
        assert flights.try_lease(first)
        assert flights.board(KEY, seats[1], second)  # a sync call inside that very loop
        assert flights.try_lease(second)
        assert (first.slot, second.slot) == (0, 1)
        flights.close(first, Abandoned())
        assert finish(program(LEASE_IS_FREE, tmp_path, KEY)) == "False\n"
        flights.close(second, Abandoned())

    asyncio.run(main())
    assert finish(program(LEASE_IS_FREE, tmp_path, KEY)) == "True\n"


def test_no_readers_timer_runs_while_an_answer_is_judged(tmp_path: Path) -> None:
    async def main() -> None:
        flights, loop = flights_of(tmp_path), asyncio.get_running_loop()
        maker, call = a_seat(), a_call()
        assert flights.board(KEY, maker, call)
        flight = call.flight
        assert flight is not None
        for judged in (False, True):
            seat = a_seat(loop, read_timeout=0.0)
            assert not flights.board(KEY, seat, a_call(loop))
            if not judged:
                assert isinstance((await flight.wait_async(seat)).landing, TimedOut)
        flight.answer(call)
        reader = asyncio.create_task(flight.wait_async(seat))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not reader.done()
        flights.close(call, Abandoned())
        assert isinstance((await reader).landing, Abandoned)

    asyncio.run(main())


@LOOPS
def test_close_inside_the_loop_of_a_flight_loses_no_answer(loop: str, folder: Path, simulator: Simulator) -> None:
    async def main() -> None:
        cache = cachelayer.Cache(path=folder)
        async with cache.wrap(httpx.AsyncClient()) as client:
            simulator.hold()
            task = asyncio.create_task(client.post(simulator.url + PATH, json=body()))
            await asyncio.to_thread(simulator.wait_for_calls, 1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            cache.close()
        simulator.release()

    with runner(loop) as running:
        running.run(main())
    with cachelayer.Cache(path=folder) as cache:
        stats = cache.stats()
    assert (simulator.answered, stats.entries, stats.misses, stats.requests) == (1, 1, 1, 1)


def test_nobody_waits_for_a_flight_whose_loop_stands_still(folder: Path, simulator: Simulator) -> None:
    cache = cachelayer.Cache(path=folder, drain_timeout=3600)
    client = cache.wrap(httpx.AsyncClient())

    async def leave() -> None:
        task = asyncio.create_task(client.post(simulator.url + PATH, json=body()))
        await asyncio.to_thread(simulator.wait_for_calls, 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    simulator.hold()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    assert cache.wait_idle(0) == 0
    asyncio.run(cache.aclose())
    simulator.release()
    loop.run_until_complete(loop.shutdown_default_executor())
    for guard in asyncio.all_tasks(loop):  # as asyncio.run ends
        guard.cancel()
        loop.run_until_complete(guard)
    loop.run_until_complete(client.aclose())
    loop.close()


@pytest.mark.parametrize("size", [10, 300_000])
@LOOPS
def test_a_caller_who_leaves_anywhere_counts_once(
    loop: str, size: int, cache: cachelayer.Cache, simulator: Simulator
) -> None:
    """Bodies of 300 kB are keyed in a thread, so that a caller can leave before the flow knows what he asks."""
    callers = 40

    async def main() -> None:
        async with cache.wrap(httpx.AsyncClient()) as client:
            for steps in range(1, callers + 1):
                request = body(f"{steps}", extra="x" * size)
                task = asyncio.create_task(client.post(simulator.url + PATH, json=request))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await cache._engine.flights.wait_idle_async(60)

    with runner(loop) as running:
        running.run(main())
    stats = cache.stats()
    assert (stats.requests, stats.upstream_calls) == (callers, simulator.calls)
    assert simulator.answered == stats.entries == stats.misses


@LOOPS
def test_an_answer_does_not_stay_in_memory_until_finish_timeout(
    loop: str, cache: cachelayer.Cache, simulator: Simulator
) -> None:
    async def main() -> weakref.ref[Flight]:
        async with cache.wrap(httpx.AsyncClient()) as client:
            simulator.hold()
            task = asyncio.create_task(client.post(simulator.url + PATH, json=body()))
            await asyncio.to_thread(simulator.wait_for_calls, 1)
            flight = weakref.ref(next(iter(cache._engine.flights._by_key.values())))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del task
            await asyncio.sleep(0)
            simulator.release()
            await cache._engine.flights.wait_idle_async(60)
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()
        return flight

    with runner(loop) as running:
        flight = running.run(flight_of := main())
        del flight_of
        gc.collect()
        assert flight() is None


@pytest.mark.parametrize("where", ["launch_thread", "start"])
def test_ctrl_c_while_a_flight_starts_leaves_nobody_waiting(
    where: str, cache: cachelayer.Cache, simulator: Simulator
) -> None:
    def interrupt(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_name == where and frame.f_code.co_filename.endswith(FILES[where]):
            sys.setprofile(None)
            raise KeyboardInterrupt

    with cache.wrap(httpx.Client(timeout=20)) as client:
        sys.setprofile(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                client.post(simulator.url + PATH, json=body())
        finally:
            sys.setprofile(None)
        assert client.post(simulator.url + PATH, json=body()).headers["x-cachelayer"] == "MISS"


FILES = {"launch_thread": "launch.py", "start": "threading.py"}
