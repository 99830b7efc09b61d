"""What a request says in the log: exactly one line, INFO for a hit, DEBUG with the reason for everything else."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import cachelayer
from cachelayer.core.reasons import Reason
from cachelayer.simulator import Simulator
from tests.asking import GEMINI_PATH, PATH, body, gemini_body


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def taken(self, level: int) -> list[str]:
        lines = [record.getMessage() for record in self.records if record.levelno == level]
        self.records = [record for record in self.records if record.levelno != level]
        return lines


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("cachelayer")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.setLevel(before)
    logger.removeHandler(handler)


def test_a_hit_is_one_info_line(cache: cachelayer.Cache, simulator: Simulator, lines: Lines) -> None:
    with cache.wrap(httpx.Client()) as client:
        key = client.post(simulator.url + PATH, json=body()).headers["x-cachelayer-key"]
        assert lines.taken(logging.INFO) == []
        (miss,) = lines.taken(logging.DEBUG)
        assert miss == f"MISS gpt-image-2 64x64: spent ${simulator.billed_usd:f}, key {key[:12]}"
        client.post(simulator.url + PATH, json=body())
    (hit,) = lines.taken(logging.INFO)
    assert re.fullmatch(
        rf"HIT gpt-image-2 64x64: saved \${simulator.billed_usd:f} and \d+\.\d s, key {key[:12]}", hit
    ), hit
    assert lines.taken(logging.DEBUG) == []


def test_every_other_decision_is_one_debug_line_with_its_reason(folder: Path, lines: Lines) -> None:
    asks: list[tuple[Reason | str, str, Any]] = [
        (Reason.UNRECOGNISED, "/v1/chat/completions", {"json": {}}),
        (Reason.MALFORMED, PATH, {"content": b"{", "headers": {"content-type": "application/json"}}),
        (Reason.CONTENT_TYPE, PATH, {"content": b"{}", "headers": {"content-type": "text/plain"}}),
        (Reason.STREAM, PATH, {"json": body(stream=True)}),
        (Reason.OPERATION_OFF, GEMINI_PATH.replace("-image", ""), {"json": {"contents": []}}),
        (Reason.STATEFUL, GEMINI_PATH, {"json": gemini_body() | {"cachedContent": "cachedContents/1"}}),
        (Reason.BLOCKED, GEMINI_PATH, {"json": gemini_body("blocked")}),
    ]
    with (
        Simulator(block_rate=1) as simulator,
        cachelayer.Cache(path=folder) as cache,
        cache.wrap(httpx.Client()) as client,
    ):
        for reason, path, request in asks:
            answer = client.post(simulator.url + path, **request)
            assert answer.headers["x-cachelayer-reason"] == reason
            assert lines.taken(logging.INFO) == []
            (line,) = lines.taken(logging.DEBUG)
            assert line.startswith(answer.headers["x-cachelayer"])
            assert f"{reason} ({Reason(reason).meaning}; {Reason(reason).remedy})" in line


def test_a_failed_call_and_a_joined_one(cache: cachelayer.Cache, simulator: Simulator, lines: Lines) -> None:
    simulator.hold()
    with cache.wrap(httpx.Client()) as client:
        threads = [threading.Thread(target=client.post, args=(simulator.url + PATH,), kwargs={"json": body()})]
        threads[0].start()
        simulator.wait_for_calls(1)
        with pytest.raises(httpx.ReadTimeout):
            client.post(simulator.url + PATH, json=body(), timeout=0.05)
        (left,) = lines.taken(logging.DEBUG)
        assert left.startswith("ERROR gpt-image-2 64x64: read-timeout (")
        simulator.release()
        threads[0].join()
        (miss,) = lines.taken(logging.DEBUG)
        assert miss.startswith("MISS")
    with cache.wrap(httpx.Client()) as client, pytest.raises(httpx.ConnectError):
        client.post("http://127.0.0.1:9" + PATH, json=body())
    (raised,) = lines.taken(logging.DEBUG)
    assert raised.startswith("ERROR gpt-image-2 64x64: raised (")


@pytest.mark.parametrize("state", ["disabled", "closed"])
def test_a_cache_that_does_nothing_says_so(state: str, folder: Path, simulator: Simulator, lines: Lines) -> None:
    cache = cachelayer.Cache(path=folder, disabled=state == "disabled")
    with cache.wrap(httpx.Client()) as client:
        if state == "closed":
            cache.close()
        client.post(simulator.url + PATH, json=body())
    cache.close()
    # A closed cache still reads what passes: the call is paid for, and the ledger knows it.
    said = "BYPASS: " if state == "disabled" else "BYPASS gpt-image-2 64x64: spent $0.003895, "
    assert lines.taken(logging.DEBUG) == [f"{said}{state} ({Reason(state).meaning}; {Reason(state).remedy})"]


def test_an_answer_that_cannot_be_kept_is_said(folder: Path, simulator: Simulator, lines: Lines) -> None:
    with cachelayer.Cache(path=folder, size_limit=1) as cache, cache.wrap(httpx.Client()) as client:
        key = client.post(simulator.url + PATH, json=body()).headers["x-cachelayer-key"]
    said = lines.taken(logging.DEBUG)
    assert [line.partition(":")[0] for line in said] == ["MISS gpt-image-2 64x64", "not stored"]
    assert said[1] == f"not stored: no-room ({Reason.NO_ROOM.meaning}; {Reason.NO_ROOM.remedy}), key {key[:12]}"


def test_no_line_can_be_forged_by_a_model_name(cache: cachelayer.Cache, simulator: Simulator, lines: Lines) -> None:
    with cache.wrap(httpx.Client()) as client:
        client.post(simulator.url + PATH, json=body(model="x\nHIT gpt-image-2\x1b[31m\u202e"))
    (line,) = lines.taken(logging.DEBUG)
    assert line.isprintable()


class Raising(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("no line today")

    def filter(self, record: logging.LogRecord) -> bool:
        return True


def refuse(record: logging.LogRecord) -> bool:
    raise RuntimeError("no line today")


@pytest.mark.parametrize("what", ["filter", "handler"])
def test_a_log_that_raises_hinders_no_call(what: str, folder: Path, simulator: Simulator, lines: Lines) -> None:
    """Warnings of a failing store and of an estimate are logged on the way of this call, by the flight."""
    logger, handler = logging.getLogger("cachelayer"), Raising()
    folder.write_text("no folder")
    logger.addFilter(refuse) if what == "filter" else logger.addHandler(handler)
    try:
        with cachelayer.Cache(folder) as cache, cache.wrap(httpx.Client(timeout=20)) as client:
            outcomes = [client.post(simulator.url + PATH, json=body()).headers["x-cachelayer"] for _ in range(2)]
    finally:
        logger.removeFilter(refuse)
        logger.removeHandler(handler)
    assert outcomes == ["MISS", "MISS"]
