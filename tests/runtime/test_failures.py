"""DESIGN section 3, rule 3, the table: what those who wait get when a flight fails, here and in other processes."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import GEMINI_PATH, PATH, body, gemini_body
from tests.conftest import Program, finish


def ask_together(
    cache: cachelayer.Cache, simulator: Simulator, keys: list[str], boarded: int
) -> list[httpx.Response | Exception]:
    """Ask the same thing once per API key, all of them aboard before the provider answers."""
    simulator.hold()
    answers: list[httpx.Response | Exception] = []

    def ask(key: str) -> None:
        with cache.wrap(httpx.Client(timeout=60)) as client:
            try:
                answers.append(
                    client.post(simulator.url + PATH, json=body(), headers={"authorization": f"Bearer {key}"})
                )
            except httpx.HTTPError as error:
                answers.append(error)

    threads = [threading.Thread(target=ask, args=(key,)) for key in keys]
    threads[0].start()
    simulator.wait_for_calls(1)
    for thread in threads[1:]:
        thread.start()
    flight = next(iter(cache._engine.flights._by_key.values()))
    while flight.passengers < boarded:
        threading.Event().wait(0.002)
    simulator.release()
    for thread in threads:
        thread.join()
    return answers


def test_a_failed_answer_is_shared_by_equal_credentials(cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.script("error")
    answers = ask_together(cache, simulator, ["same"] * 8, 8)
    assert simulator.calls == 1
    assert all(isinstance(answer, httpx.Response) for answer in answers)
    assert {answer.status_code for answer in answers} == {500}  # type: ignore[union-attr]
    assert Counter(answer.headers["x-cachelayer"] for answer in answers) == {"MISS": 1, "ERROR": 7}  # type: ignore[union-attr]
    stats = cache.stats()
    assert (stats.misses, stats.errors, stats.saved_usd, stats.entries) == (1, 7, 0, 0)


def test_a_shared_refusal_says_when_to_come_back(cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.script("rate_limit")
    answers = ask_together(cache, simulator, ["same"] * 4, 4)
    assert simulator.calls == 1
    assert all(answer.headers["retry-after"] for answer in answers)  # type: ignore[union-attr]
    joined = [answer for answer in answers if answer.headers["x-cachelayer"] == "ERROR"]  # type: ignore[union-attr]
    assert len(joined) == 3
    assert not any("set-cookie" in answer.headers for answer in joined)  # type: ignore[union-attr]


def test_a_flight_that_cannot_start_leaves_nobody_waiting(program: Program, folder: Path, simulator: Simulator) -> None:
    """No more threads: the request is forwarded by the caller himself, and so is the next one for the same key."""
    source = """
        import threading, httpx, cachelayer
        folder, url = args
        with cachelayer.Cache(path=folder) as cache, cache.wrap(httpx.Client(timeout=30)) as client:
            start = threading.Thread.start
            def refuse(thread):
                if thread.name == "cachelayer-flight":
                    raise RuntimeError("can't start new thread")
                start(thread)
            threading.Thread.start = refuse
            for _ in range(2):
                answer = client.post(url, json={"model": "gpt-image-2", "prompt": "p", "size": "64x64"})
                print(answer.status_code, answer.headers["x-cachelayer"], answer.headers["x-cachelayer-reason"])
    """
    assert finish(program(source, folder, simulator.url + PATH)).splitlines() == ["200 BYPASS internal-error"] * 2
    assert simulator.calls == 2


def test_an_exception_is_shared_by_equal_credentials(cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.script("disconnect")
    answers = ask_together(cache, simulator, ["same"] * 8, 8)
    assert simulator.calls == 1
    assert {type(answer) for answer in answers} == {httpx.RemoteProtocolError}
    assert len({id(answer) for answer in answers}) == 8
    assert cache.stats().errors == 8
    assert cache.stats().unpriced == 1  # the provider may have billed it, and nobody knows how much


def test_of_other_credentials_one_starts_the_next_flight(cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.script("rate_limit")
    answers = ask_together(cache, simulator, ["poor"] * 3 + ["rich"] * 5, 8)
    assert simulator.calls == 2
    outcomes = Counter((answer.status_code, answer.headers["x-cachelayer"]) for answer in answers)  # type: ignore[union-attr]
    assert outcomes[429, "MISS"] == 1
    assert outcomes[429, "ERROR"] == 2
    assert outcomes[200, "MISS"] == 1
    assert outcomes[200, "COALESCED"] + outcomes[200, "HIT"] == 4


def test_other_processes_start_one_after_the_other(program: Program, folder: Path, simulator: Simulator) -> None:
    source = """
        import httpx, cachelayer
        folder, url = args
        with cachelayer.Cache(path=folder) as cache, cache.wrap(httpx.Client(timeout=60)) as client:
            print("ready", flush=True)
            sys.stdin.readline()
            answer = client.post(url, json={"model": "gpt-image-2", "prompt": "p", "size": "64x64"})
            print(answer.status_code, answer.headers["x-cachelayer"])
    """
    simulator.script("error", "error")
    simulator.hold()
    processes = [program(source, folder, simulator.url + PATH) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.write("\n")
        process.stdin.flush()
    simulator.wait_for_calls(1)
    assert simulator.calls == 1
    simulator.release()
    results = Counter(finish(process).strip() for process in processes)
    assert simulator.calls == 3
    assert results["500 MISS"] == 2
    assert results["200 MISS"] == 1


@pytest.mark.parametrize(
    ("behaviour", "path", "request_body", "reason"),
    [
        ("error", PATH, body(), "status-500"),
        ("rate_limit", PATH, body(), "status-429"),
        ("block", PATH, body(), "status-400"),
        ("url", PATH, body(), "image-url"),
        ("block", GEMINI_PATH, gemini_body(), "blocked"),
        ("text_only", GEMINI_PATH, gemini_body(), "no-image"),
        ("truncate", GEMINI_PATH, gemini_body(), "truncated"),
    ],
)
def test_what_is_not_good_is_forwarded_again_each_time(
    behaviour: str, path: str, request_body: object, reason: str, cache: cachelayer.Cache, simulator: Simulator
) -> None:
    simulator.script(behaviour, behaviour)
    with cache.wrap(httpx.Client()) as client:
        for _ in range(2):
            answer = client.post(simulator.url + path, json=request_body)
            assert answer.headers["x-cachelayer"] == "MISS"
            assert answer.headers["x-cachelayer-reason"] == reason
        assert client.post(simulator.url + path, json=request_body).headers["x-cachelayer"] == "MISS"
        assert client.post(simulator.url + path, json=request_body).headers["x-cachelayer"] == "HIT"
    assert simulator.calls == 3
    assert cache.stats().entries == 1


def test_billed_refusals_are_spent_money(cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.script("truncate", "block", "ok")
    with cache.wrap(httpx.Client()) as client:
        for _ in range(3):
            client.post(simulator.url + GEMINI_PATH, json=gemini_body())
    assert cache.stats().spent_usd == simulator.billed_usd
