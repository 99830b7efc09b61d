"""DESIGN section 3, rule 4: who waits for a silent provider makes a call of his own, and the first good answer serves
all. All times are small here; nothing is asserted of how long something took."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import openai
import pytest

import cachelayer
from cachelayer.core.model import Event, Outcome
from tests.asking import PATH, body
from tests.clients.canned import Said
from tests.conftest import Program, finish
from tests.runtime.silent import JSON, Silent, image, shade_of


def events(cache: cachelayer.Cache) -> list[Event]:
    return cache._engine.ledger.events()


def wait_until(holds: Callable[[], bool], timeout: float = 60.0) -> None:
    until = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def ask_in_threads(cache: cachelayer.Cache, provider: Silent, callers: int) -> list[httpx.Response | Exception]:
    """One asks, and when he has been heard the others ask the same."""
    answers: list[httpx.Response | Exception] = []

    def ask() -> None:
        with cache.wrap(httpx.Client(timeout=60)) as client:
            try:
                answers.append(client.post(provider.url + PATH, json=body()))
            except httpx.HTTPError as error:
                answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    threads[0].start()
    provider.wait_for_calls(1)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


SERVED = "HIT or COALESCED"
"""Under load a thread may come so late that the answer is stored already."""


def outcomes(answers: list[httpx.Response | Exception]) -> Counter[str]:
    return Counter(word_of(a.headers["x-cachelayer"]) if isinstance(a, httpx.Response) else repr(a) for a in answers)


def word_of(outcome: str) -> str:
    return SERVED if outcome in ("HIT", "COALESCED") else outcome


def test_threads_are_served_by_a_second_call(folder: Path) -> None:
    with Silent(1) as provider, cachelayer.Cache(path=folder, hedge_after=0.3) as cache:
        answers = ask_in_threads(cache, provider, 12)
        assert outcomes(answers) == {"MISS": 2, SERVED: 10}
        assert {shade_of(answer.content) for answer in answers if isinstance(answer, httpx.Response)} == {2}
        assert provider.calls == 2
        provider.speak()
        wait_until(lambda: cache.stats().misses == 2)
        booked = Counter((word_of(event.outcome), event.reason, event.upstream) for event in events(cache))
        assert booked == {("MISS", None, 1): 1, ("MISS", "late", 1): 1, (SERVED, None, 0): 10}
        stats = cache.stats()
        assert (stats.entries, stats.upstream_calls, stats.requests) == (1, 2, 12)
        each = stats.spent_usd / 2
        assert stats.saved_usd == 10 * each > 0
        with cache.wrap(httpx.Client()) as client:
            assert shade_of(client.post(provider.url + PATH, json=body()).content) == 2


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_tasks_are_served_by_a_second_call(loop: str, folder: Path) -> None:
    async def main(cache: cachelayer.Cache, provider: Silent) -> list[str]:
        async with cache.wrap(httpx.AsyncClient(timeout=60)) as client:
            first = asyncio.create_task(client.post(provider.url + PATH, json=body()))
            await asyncio.to_thread(provider.wait_for_calls, 1)
            rest = (client.post(provider.url + PATH, json=body()) for _ in range(11))
            return [answer.headers["x-cachelayer"] for answer in await asyncio.gather(first, *rest)]

    with Silent(1) as provider, cachelayer.Cache(path=folder, hedge_after=0.3, drain_timeout=600) as cache:
        if loop == "uvloop":
            import uvloop

            got = uvloop.run(main(cache, provider))
        else:
            got = asyncio.run(main(cache, provider))  # whose end does not wait for a late answer
        assert Counter(map(word_of, got)) == {"MISS": 2, SERVED: 10}
        assert provider.calls == 2
        stats = cache.stats()
        assert (stats.requests, stats.misses, stats.hits + stats.coalesced, stats.unpriced) == (12, 2, 10, 1)


def test_the_retry_of_whoever_made_the_call_may_make_another(folder: Path) -> None:
    """One caller alone, with an SDK that retries: as without the cache, the second try gets the image."""
    with Silent(1) as provider, cachelayer.Cache(path=folder, hedge_after=0.6, finish_timeout=0.1) as cache:
        client = cache.wrap(openai.OpenAI(base_url=provider.url + "/v1", api_key="k", timeout=1.5, max_retries=2))
        assert client.images.generate(**body()).data[0].b64_json
        assert provider.calls == 2
    with cachelayer.Cache(path=folder) as again:
        wait_until(lambda: again.stats().requests == 2)


def test_who_made_the_only_call_makes_no_second_one(folder: Path) -> None:
    with Silent(1) as provider, cachelayer.Cache(path=folder, hedge_after=0.05) as cache:
        with cache.wrap(httpx.Client(timeout=1.5)) as client, pytest.raises(httpx.ReadTimeout):
            client.post(provider.url + PATH, json=body())
        assert provider.calls == 1
        provider.speak()
        wait_until(lambda: cache.stats().entries == 1)
        assert [(event.outcome, event.reason) for event in events(cache)] == [(Outcome.MISS, None)]


def test_a_call_that_fails_beside_another_fails_for_its_maker_alone(folder: Path) -> None:
    with Silent(1) as provider, cachelayer.Cache(path=folder, hedge_after=0.3) as cache:
        provider.says = lambda number: Said(429, JSON, b"{}") if number == 2 else image(number)
        answers: list[tuple[int, str]] = []

        def ask() -> None:
            with cache.wrap(httpx.Client(timeout=60)) as client:
                answer = client.post(provider.url + PATH, json=body())
                answers.append((answer.status_code, answer.headers["x-cachelayer"]))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        threads[0].start()
        provider.wait_for_calls(1)
        for thread in threads[1:]:
            thread.start()
        provider.wait_for_calls(2)
        wait_until(lambda: len(answers) == 1)
        assert answers == [(429, "MISS")]
        provider.speak()
        for thread in threads:
            thread.join()
        # The third call may have begun before the first one spoke.
        assert Counter(answers)[429, "MISS"] == 1
        assert len(answers) == 6
        assert {status for status, _ in answers[1:]} == {200}
        assert provider.calls <= 3
        wait_until(lambda: cache.stats().requests == 6)
        assert cache.stats().upstream_calls == provider.calls


def test_the_first_call_fails_alone_too(folder: Path) -> None:
    with Silent(1, 2) as provider, cachelayer.Cache(path=folder, hedge_after=0.3) as cache:
        provider.says = lambda number: Said(500, JSON, b"{}") if number == 1 else image(number)
        answers: list[httpx.Response | Exception] = []
        thread = threading.Thread(target=lambda: answers.extend(ask_in_threads(cache, provider, 6)))
        thread.start()
        provider.wait_for_calls(2)
        provider.speak()
        thread.join()
        assert provider.calls == 2
        statuses = Counter(answer.status_code for answer in answers if isinstance(answer, httpx.Response))
        # Whichever of the two came first: the failure is its maker's, or it came late.
        assert statuses in ({500: 1, 200: 5}, {200: 6})
        wait_until(lambda: cache.stats().requests == 6)
        stats = cache.stats()
        assert (stats.misses, stats.entries) == (2, 1)
        assert stats.errors == 0


def test_the_third_call_comes_after_twice_as_long(folder: Path) -> None:
    with Silent(1, 2) as provider, cachelayer.Cache(path=folder, hedge_after=0.4) as cache:
        answers = ask_in_threads(cache, provider, 8)
        assert outcomes(answers) == {"MISS": 3, SERVED: 5}
        assert provider.calls == 3


def test_queueing_for_a_connection_is_no_silence(folder: Path) -> None:
    """A pool of one connection, busy with another request: nobody makes a second call, which would queue as well."""
    with Silent(1) as provider, cachelayer.Cache(path=folder, hedge_after=0.2) as cache:
        with cache.wrap(httpx.Client(timeout=60, limits=httpx.Limits(max_connections=1))) as client:
            busy = threading.Thread(target=lambda: client.post(provider.url + PATH, json=body("busy")))
            busy.start()
            provider.wait_for_calls(1)
            answers: list[str] = []

            def ask() -> None:
                answers.append(client.post(provider.url + PATH, json=body()).headers["x-cachelayer"])

            threads = [threading.Thread(target=ask) for _ in range(5)]
            for thread in threads:
                thread.start()
            wait_until(lambda: any(flight.passengers == 5 for flight in list(cache._engine.flights._by_key.values())))
            flight = next(one for one in cache._engine.flights._by_key.values() if one.passengers == 5)
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                assert len(flight.calls) == 1
                time.sleep(0.02)
            provider.speak()
            for thread in [busy, *threads]:
                thread.join()
        assert Counter(map(word_of, answers)) == {"MISS": 1, SERVED: 4}
        assert provider.calls == 2


ASK = """
    import asyncio, threading, httpx, cachelayer
    folder, url, threads, tasks, hedge_after = args
    cache = cachelayer.Cache(path=folder, hedge_after=float(hedge_after), drain_timeout=600)
    BODY = {"model": "gpt-image-2", "prompt": "a lighthouse at dusk", "size": "64x64", "quality": "low"}
    outcomes = []
    print("ready", flush=True)
    sys.stdin.readline()

    def ask():
        with cache.wrap(httpx.Client(timeout=100)) as client:
            outcomes.append(client.post(url, json=BODY).headers["x-cachelayer"])

    async def ask_all():
        limits = httpx.Limits(max_connections=None)
        async with cache.wrap(httpx.AsyncClient(timeout=100, limits=limits)) as client:
            for answer in await asyncio.gather(*(client.post(url, json=BODY) for _ in range(int(tasks)))):
                outcomes.append(answer.headers["x-cachelayer"])

    running = [threading.Thread(target=ask) for _ in range(int(threads))]
    running += [threading.Thread(target=lambda: asyncio.run(ask_all()))] if int(tasks) else []
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    print(" ".join(outcomes), flush=True)
"""


def start(program: Program, source: str, *arguments: object) -> object:
    process = program(source, *arguments)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: object) -> None:
    process.stdin.write("go\n")  # type: ignore[attr-defined]
    process.stdin.flush()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("processes", "threads", "tasks"), [(2, 3, 3), pytest.param(4, 25, 25, marks=pytest.mark.acceptance)]
)
def test_callers_of_many_processes_need_two_calls(
    processes: int, threads: int, tasks: int, program: Program, folder: Path
) -> None:
    callers = processes * (threads + tasks)
    with Silent(1) as provider:
        running = [start(program, ASK, folder, provider.url + PATH, threads, tasks, 1.0) for _ in range(processes)]
        for process in running:
            go(process)
        got = Counter(word for process in running for word in finish(process, 110).split())  # type: ignore[arg-type]
        assert provider.calls == 2
    assert sum(got.values()) == callers
    assert got["MISS"] == 2
    assert got["COALESCED"] + got["HIT"] == callers - 2
    with cachelayer.Cache(path=folder) as cache:
        stats = cache.stats()
        assert (stats.requests, stats.misses, stats.upstream_calls, stats.entries) == (callers, 2, 2, 1)
        assert stats.errors == 0
        assert stats.unpriced == 1  # what was swallowed may be billed


def test_a_stopped_holder_holds_nobody_and_his_late_answer_is_not_kept(program: Program, folder: Path) -> None:
    with Silent(1) as provider:
        holder = start(program, ASK, folder, provider.url + PATH, 1, 0, 1.0)
        go(holder)
        provider.wait_for_calls(1)
        holder.send_signal(signal.SIGSTOP)  # type: ignore[attr-defined]
        try:
            other = start(program, ASK, folder, provider.url + PATH, 2, 2, 1.0)
            go(other)
            got = Counter(map(word_of, finish(other).split()))  # type: ignore[arg-type]
            assert got == {"MISS": 1, SERVED: 3}
            assert provider.calls == 2
            provider.speak()
        finally:
            holder.send_signal(signal.SIGCONT)  # type: ignore[attr-defined]
        assert finish(holder) == "MISS\n"  # type: ignore[arg-type]
        with cachelayer.Cache(path=folder) as cache:
            booked = Counter((word_of(event.outcome), event.reason) for event in events(cache))
            assert booked == {("MISS", None): 1, ("MISS", "late"): 1, (SERVED, None): 3}
            with cache.wrap(httpx.Client()) as client:
                answer = client.post(provider.url + PATH, json=body())
                assert (answer.headers["x-cachelayer"], shade_of(answer.content)) == ("HIT", 2)
        assert provider.calls == 2


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_silent_call_is_overtaken_by_another_processs_answer(kind: str, program: Program, folder: Path) -> None:
    """Also for its starter alone, who makes no second call: his own is late, whatever becomes of it."""

    def ask(url: str) -> httpx.Response:
        with cache.wrap(httpx.Client(timeout=100)) as client:
            return client.post(url, json=body())

    async def ask_async(url: str) -> httpx.Response:
        async with cache.wrap(httpx.AsyncClient(timeout=100)) as client:
            return await client.post(url, json=body())

    def run(url: str) -> None:
        answers.append(asyncio.run(ask_async(url)) if kind == "async" else ask(url))

    answers: list[httpx.Response] = []
    with Silent(1) as provider, cachelayer.Cache(path=folder, hedge_after=0.5, drain_timeout=600) as cache:
        url = provider.url + PATH
        thread = threading.Thread(target=run, args=(url,))
        thread.start()
        provider.wait_for_calls(1)
        other = start(program, ASK, folder, url, 1, 1, 0.5)
        go(other)
        assert Counter(map(word_of, finish(other).split())) == {"MISS": 1, SERVED: 1}  # type: ignore[arg-type]
        wait_until(lambda: bool(answers) or provider.calls > 2)
        assert [(answer.headers["x-cachelayer"], shade_of(answer.content)) for answer in answers] == [("MISS", 2)]
        provider.speak()
        thread.join()
        wait_until(lambda: cache.stats().requests == 3)
        booked = Counter((word_of(event.outcome), event.reason, event.upstream) for event in events(cache))
        assert booked == {("MISS", None, 1): 1, ("MISS", "late", 1): 1, (SERVED, None, 0): 1}
        assert provider.calls == 2
        with cache.wrap(httpx.Client()) as client:
            assert shade_of(client.post(url, json=body()).content) == 2


def test_who_comes_back_goes_on_with_the_wait_for_a_lease(program: Program, folder: Path) -> None:
    """An SDK that pauses between its tries: each is shorter than hedge_after, and no call lives on in the pause."""
    with Silent(1) as provider:
        holder = start(program, ASK, folder, provider.url + PATH, 1, 0, 3600.0)
        go(holder)
        provider.wait_for_calls(1)
        with cachelayer.Cache(path=folder, hedge_after=4.0) as cache, cache.wrap(httpx.Client(timeout=1)) as client:
            answers: list[httpx.Response] = []
            for _ in range(5):
                with contextlib.suppress(httpx.ReadTimeout):
                    answers = answers or [client.post(provider.url + PATH, json=body())]
                wait_until(lambda: not cache._engine.flights._calls)
            assert [shade_of(answer.content) for answer in answers] == [2]
            provider.speak()
            finish(holder)  # type: ignore[arg-type]
