"""An exception out of a signal handler, anywhere in boarding, waiting, leaving: no lock stays held, no
passenger stays aboard, no flight waits for a launch that never comes, and the next caller gets his answer."""

from __future__ import annotations

import contextlib
import dis
import functools
import gc
import itertools
import random
import sys
import threading
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import httpx
import pytest

import cachelayer
from tests.asking import PATH, body
from tests.runtime.silent import Silent

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""An interrupt may come between the making of a coroutine and its first step."""

FILES = tuple(
    f"cachelayer/runtime/{name}.py"
    for name in ("sync", "boarding", "call", "flight", "flights", "launch", "leases", "seat")
)


class Interrupt(KeyboardInterrupt):
    """As a handler of the program's own might raise."""


class Interrupter:
    """Raises at the n-th place of ours in this thread where Python runs handlers of signals; n = 0: never, it counts.

    Those are the start of a function, a jump backwards, and the end of a call, where the exception belongs to the
    calling instruction. So it is raised before the next one, where both lie in the same `try` or `with`.
    """

    def __init__(self, at: int, files: tuple[str, ...] = FILES) -> None:
        self._at, self._files, self.count = at, files, 0
        self.struck = ""
        """The function in which it was raised."""
        self._before: dict[FrameType, int] = {}

    def __enter__(self) -> Interrupter:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        self._before.clear()

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.endswith(self._files):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            before, self._before[frame] = self._before.get(frame), frame.f_lasti
            if before is not None and _is_place(frame.f_code, before, frame.f_lasti):
                self.count += 1
                if self.count == self._at:
                    self.struck = frame.f_code.co_name
                    sys.settrace(None)
                    raise Interrupt
        return self._step


@functools.cache
def _handlers(code: CodeType) -> list[tuple[int, int, int]]:
    return [(entry.start, entry.end, entry.target) for entry in dis._parse_exception_table(code)]  # type: ignore[attr-defined]


@functools.cache
def _is_place(code: CodeType, before: int, now: int) -> bool:
    name = dis.opname[code.co_code[before]]
    if not name.startswith(("CALL", "JUMP_BACKWARD", "RESUME")):
        return False
    return _handler(code, before) == _handler(code, now)


def _handler(code: CodeType, at: int) -> int | None:
    return next((target for start, end, target in _handlers(code) if start <= at < end), None)


def ask(cache: cachelayer.Cache, provider: Silent, prompt: str) -> str:
    with cache.wrap(httpx.Client(timeout=20)) as client:
        return str(client.post(provider.url + PATH, json=body(prompt)).headers["x-cachelayer"])


def check(cache: cachelayer.Cache, provider: Silent, at: int) -> None:
    """Interrupt an ask at its at-th place; then somebody else asks the same."""
    prompt = f"{at} {random.random()}"
    try:
        with Interrupter(at):
            ask(cache, provider, prompt)
    except Interrupt:
        pass
    answers: list[str] = []
    other = threading.Thread(target=lambda: answers.append(ask(cache, provider, prompt)), daemon=True)
    other.start()
    other.join(15)
    assert answers, f"whoever asks after an interrupt at {at} hangs"
    flights = cache._engine.flights
    until = time.monotonic() + 15
    while flights._calls or flights._by_key:
        assert time.monotonic() < until, f"after an interrupt at {at}: {flights._calls}, {flights._by_key}"
        flights.sweep()
        time.sleep(0.001)


def places(cache: cachelayer.Cache, provider: Silent) -> int:
    with Interrupter(0) as interrupter:
        ask(cache, provider, f"{random.random()}")
    return interrupter.count


def test_an_interrupt_anywhere_leaves_nobody_waiting(folder: Path) -> None:
    with Silent() as provider, cachelayer.Cache(path=folder) as cache:
        total = places(cache, provider)
        assert total > 100
        for at in random.sample(range(1, total), 50):
            check(cache, provider, at)
        gc.collect()
        assert cache.stats().upstream_calls == provider.calls


BOOKING = (
    "core/flow.py",
    "core/tables.py",
    "core/trip.py",
    "runtime/booking.py",
    "core/ending.py",
    "ledger/ledger.py",
    "segments.py",
)


@pytest.mark.parametrize("what", ["hit", "miss"])
def test_whoever_is_interrupted_is_booked_once_wherever_it_strikes(what: str, folder: Path) -> None:
    """Also between two steps of the flow, while his outcome is written, and when it has just been."""
    fresh = itertools.count()
    with (
        Silent() as provider,
        cachelayer.Cache(path=folder) as cache,
        cache.wrap(httpx.Client(timeout=20, verify=False)) as client,
    ):

        def asked(at: int) -> Interrupter:
            prompt = "p" if what == "hit" else f"{next(fresh)}"
            with Interrupter(at, BOOKING) as interrupter, contextlib.suppress(Interrupt):
                client.post(provider.url + PATH, json=body(prompt))
            return interrupter

        client.post(provider.url + PATH, json=body("p"))
        asked(0)  # what is imported and opened late is there now
        total = asked(0).count
        struck = [asked(at).struck for at in range(1, total + 1)]
        unknown = struck.index("_serve") - 1  # before the flow's own `try` nobody knows of a request
        assert {"_serve", "plan_of"} < set(struck[unknown:])
        cache.wait_idle(20)
        assert cache.stats().requests == 3 + total - unknown


@pytest.mark.acceptance
@pytest.mark.timeout(1800)
def test_an_interrupt_everywhere_leaves_nobody_waiting(folder: Path) -> None:
    with Silent() as provider, cachelayer.Cache(path=folder) as cache:
        for at in range(1, places(cache, provider)):
            check(cache, provider, at)


def test_interrupted_joiners_are_passengers_no_more(folder: Path) -> None:
    with Silent(1) as provider, cachelayer.Cache(path=folder, finish_timeout=0.2) as cache:
        maker = threading.Thread(target=lambda: _ask_and_leave(cache, provider), daemon=True)
        maker.start()
        provider.wait_for_calls(1)
        flight = next(iter(cache._engine.flights._by_key.values()))
        for at in random.sample(range(1, 60), 15):
            try:
                with Interrupter(at), cache.wrap(httpx.Client(timeout=httpx.Timeout(20, read=0.2))) as client:
                    client.post(provider.url + PATH, json=body("p"))
            except (Interrupt, httpx.ReadTimeout):
                pass
        gc.collect()
        assert flight.passengers == 1
        provider.speak()
        maker.join()


def _ask_and_leave(cache: cachelayer.Cache, provider: Silent) -> None:
    with cache.wrap(httpx.Client(timeout=60)) as client:
        client.post(provider.url + PATH, json=body("p"))
