"""However a program ends: what was paid for is stored, or given up with one warning."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.conftest import Program, finish

FLYING = """
    import asyncio, httpx, signal, time, cachelayer
    folder, url, *more = args
    body = {"model": "gpt-image-2", "prompt": "a lighthouse at dusk", "size": "64x64", "quality": "low"}

    def leave_a_flight(cache, timeout=0.2):
        try:
            cache.wrap(httpx.Client()).post(url, json=body, timeout=timeout)
        except httpx.ReadTimeout:
            pass

    async def leave_a_flight_async(cache, timeout=0.2):
        try:
            await cache.wrap(httpx.AsyncClient()).post(url, json=body, timeout=timeout)
        except httpx.ReadTimeout:
            pass
"""


def stored(folder: Path, simulator: Simulator) -> bool:
    """Whether the answer of the one call was kept: whoever asks now gets a HIT, or makes a call of his own."""
    with cachelayer.Cache(path=folder) as cache:
        client = cache.wrap(httpx.Client())
        hit = client.post(simulator.url + PATH, json=body(), timeout=30).headers["x-cachelayer"] == "HIT"
    assert simulator.calls == (1 if hit else 2)
    return hit


def heard(process: subprocess.Popen[str], words: str) -> str:
    assert process.stderr is not None
    while words not in (line := process.stderr.readline()):
        assert line, f"the program ended without saying {words!r}"
    return line


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_sigterm_is_an_orderly_end_where_the_setting_says_so(
    kind: str, program: Program, folder: Path, simulator: Simulator
) -> None:
    simulator.hold()
    source = FLYING + (
        """
    cache = cachelayer.Cache(path=folder, drain_on_sigterm=True)
    leave_a_flight(cache)
    print("ready", flush=True)
    time.sleep(60)
    """
        if kind == "thread"
        else """
    async def main():
        cache = cachelayer.Cache(path=folder, drain_on_sigterm=True)
        await leave_a_flight_async(cache)
        print("ready", flush=True)
        await asyncio.sleep(60)
    asyncio.run(main())
    """
    )
    process = program(source, folder, simulator.url + PATH)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    heard(process, "already paid for")
    simulator.release()
    assert process.wait(30) == -signal.SIGTERM
    assert stored(folder, simulator)


def test_a_second_sigterm_ends_at_once(program: Program, folder: Path, simulator: Simulator) -> None:
    simulator.hold()
    source = (
        FLYING
        + """
    cache = cachelayer.Cache(path=folder, drain_on_sigterm=True, drain_timeout=3600)
    leave_a_flight(cache)
    print("ready", flush=True)
    time.sleep(60)
    """
    )
    process = program(source, folder, simulator.url + PATH)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    heard(process, "already paid for")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM
    simulator.release()


def test_a_program_that_ends_during_the_drain_waits_for_it(
    program: Program, folder: Path, simulator: Simulator
) -> None:
    simulator.hold()
    source = (
        FLYING
        + """
    cache = cachelayer.Cache(path=folder, drain_on_sigterm=True)
    leave_a_flight(cache)
    print("ready", flush=True)
    sys.stdin.readline()
    """
    )
    process = program(source, folder, simulator.url + PATH)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    heard(process, "already paid for")
    process.stdin.write("\n")
    process.stdin.flush()
    simulator.release()
    assert process.wait(30) == -signal.SIGTERM
    assert stored(folder, simulator)


def test_a_handler_of_the_programs_own_stays(program: Program, folder: Path, simulator: Simulator) -> None:
    source = (
        FLYING
        + """
    def mine(*_):
        sys.exit(7)
    signal.signal(signal.SIGTERM, mine)
    cache = cachelayer.Cache(path=folder, drain_on_sigterm=True)
    assert signal.getsignal(signal.SIGTERM) is mine
    leave_a_flight(cache)
    print("ready", flush=True)
    time.sleep(60)
    """
    )
    simulator.hold()
    process = program(source, folder, simulator.url + PATH)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    heard(process, "already paid for")  # sys.exit is an end like any other
    simulator.release()
    assert process.wait(30) == 7
    assert stored(folder, simulator)


def test_sigterm_is_left_alone_by_default_and_outside_the_main_thread(
    program: Program, folder: Path, simulator: Simulator
) -> None:
    source = (
        FLYING
        + """
    import threading
    cachelayer.Cache(path=folder)
    thread = threading.Thread(target=lambda: cachelayer.Cache(path=folder, drain_on_sigterm=True))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    """
    )
    process = program(source, folder, simulator.url + PATH)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "drain_on_sigterm has no effect" in err


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("end", ["exit", "close"])
def test_a_loop_that_stands_still_is_stepped_to_its_flights_end(
    loop: str, end: str, program: Program, folder: Path, simulator: Simulator
) -> None:
    source = (
        FLYING
        + """
    import importlib
    simulated, end, kind = more
    cache = cachelayer.Cache(path=folder)
    loop = importlib.import_module(kind).new_event_loop()
    loop.run_until_complete(leave_a_flight_async(cache))
    others = []
    async def of_the_users_own():
        while True:
            others.append(1)
            await asyncio.sleep(0.01)
    task = loop.create_task(of_the_users_own())
    print("ready", flush=True)
    if end == "close":
        cache.close()
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()
    else:
        warnings.simplefilter("ignore")  # a loop that is never closed
    """
    )
    simulator.hold()
    process = program(source, folder, simulator.url + PATH, "", end, loop)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    simulator.release()
    finish(process)
    assert stored(folder, simulator)


def test_an_answer_that_outlasts_the_drain_of_close_is_stored_all_the_same(
    folder: Path, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    simulator.hold()
    cache = cachelayer.Cache(path=folder, drain_timeout=0.1)
    with cache.wrap(httpx.Client()) as client, pytest.raises(httpx.ReadTimeout):
        client.post(simulator.url + PATH, json=body(), timeout=0.2)
    with caplog.at_level(logging.WARNING, "cachelayer"):
        cache.close()
    assert [record.getMessage() for record in caplog.records] == [
        "close() has waited drain_timeout (0.1 s) in vain for 1 answer; what comes while the program lives is stored"
    ]
    simulator.release()
    assert cache.wait_idle(30) == 0
    assert stored(folder, simulator)


def test_the_same_in_a_loop(folder: Path, simulator: Simulator) -> None:
    async def main() -> None:
        simulator.hold()
        cache = cachelayer.Cache(path=folder, drain_timeout=0.1)
        async with cache.wrap(httpx.AsyncClient()) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post(simulator.url + PATH, json=body(), timeout=0.2)
        await cache.aclose()
        simulator.release()
        await asyncio.to_thread(simulator.wait_for_calls, 1)
        while cache.flights.count():
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert stored(folder, simulator)


def test_what_is_given_up_is_one_warning(program: Program, folder: Path, simulator: Simulator) -> None:
    source = (
        FLYING
        + """
    cache, other = cachelayer.Cache(path=folder, drain_timeout=0.1), cachelayer.Cache(path=folder, drain_timeout=0.1)
    leave_a_flight(cache)
    """
    )
    simulator.hold()
    process = program(source, folder, simulator.url + PATH)
    _, err = process.communicate(timeout=60)
    simulator.release()
    assert process.returncode == 0
    assert err.splitlines() == [
        "cachelayer: waiting up to 0.1 s for 1 answer that is already paid for (Ctrl-C abandons)",
        "gave up on 1 answer already paid for",
    ]


def test_already_paid_for_is_not_said_of_what_was_never_sent(program: Program, folder: Path) -> None:
    """The provider's address takes no connection: nothing is paid for yet."""
    source = (
        FLYING
        + """
    cache = cachelayer.Cache(path=folder, drain_timeout=0.1)
    import threading
    ask = lambda: cache.wrap(httpx.Client()).post(url, json=body, timeout=httpx.Timeout(0.2, connect=60))
    threading.Thread(target=ask, daemon=True).start()
    while not cache.flights.count():
        time.sleep(0.01)
    """
    )
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        filling = [socket.socket() for _ in range(4)]
        for one in filling:
            one.setblocking(False)
            one.connect_ex(address)
        process = program(source, folder, f"http://127.0.0.1:{address[1]}{PATH}")
        _, err = process.communicate(timeout=60)
        for one in filling:
            one.close()
    assert process.returncode == 0, err
    assert "paid for" not in err
