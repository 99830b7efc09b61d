"""The ledger against the provider's own books and the callers' own counts, and the money of known cases."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

import cachelayer
from cachelayer.ledger.reports import Stats
from cachelayer.simulator import Simulator
from tests.asking import GEMINI_PATH, PATH, body, gemini_body
from tests.conftest import Program, finish
from tests.dialects.samples import made

PROCESSES, THREADS = 4, 5

WORKER = """
    import collections, decimal, random, threading, httpx, cachelayer
    folder, url, number, threads, each = args
    counts, saved, lock = collections.Counter(), collections.Counter(), threading.Lock()
    host = url.removeprefix("http://")

    def work(name):
        draw = random.Random(f"{number} {name}")
        mine, money = collections.Counter(), collections.defaultdict(decimal.Decimal)
        with cache.wrap(httpx.Client(timeout=60)) as client:
            for _ in range(int(each)):
                kind = draw.random()
                path, body = "/v1/images/generations", {"model": "gpt-image-2", "size": "16x16", "quality": "low"}
                if kind < 0.85:
                    body["prompt"] = f"few {draw.randrange(40)}"
                elif kind < 0.95:
                    body["prompt"] = f"many {draw.randrange(10_000)}"
                elif kind < 0.98:
                    body |= {"prompt": "elsewhere", "style": "https://h.example/unknown"}
                else:
                    path, body = "/v1beta/models/gemini-3-pro-image:generateContent", {
                        "contents": [{"parts": [{"text": f"gemini {draw.randrange(4)}"}]}],
                        "generationConfig": {"imageConfig": {"imageSize": "512", "aspectRatio": "1:8"}}}
                try:
                    answer = client.post(url + path, json=body)
                except httpx.HTTPError:
                    # Passed through is passed through, however it ended: it was never looked up.
                    mine["BYPASS" if "style" in body else "ERROR"] += 1
                    continue
                outcome = answer.headers["x-cachelayer"]
                mine[outcome] += 1
                money[outcome] += decimal.Decimal(answer.headers.get("x-cachelayer-saved-usd", "0"))
        with lock:
            counts.update(mine)
            for outcome, usd in money.items():
                saved[outcome] += usd

    print("ready", flush=True)
    sys.stdin.readline()
    with cachelayer.Cache(path=folder, prices={host: "list"}) as cache:
        workers = [threading.Thread(target=work, args=(name,)) for name in range(int(threads))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    print(json.dumps([dict(counts), {outcome: str(usd) for outcome, usd in saved.items()}]))
"""


@pytest.mark.parametrize("each", [80, pytest.param(500, marks=pytest.mark.acceptance)])
def test_the_outcomes_of_four_processes_add_up(each: int, program: Program, folder: Path) -> None:
    with Simulator(
        error_rate=0.02, block_rate=0.02, truncate_rate=0.02, text_only_rate=0.02, disconnect_rate=0.03, keep_requests=1
    ) as simulator:
        processes = [program(WORKER, folder, simulator.url, number, THREADS, each) for number in range(PROCESSES)]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        told, saved = Counter[str](), Counter[str]()
        for process in processes:
            counts, usd = json.loads(finish(process, timeout=110))
            told.update(counts)
            for outcome, text in usd.items():
                saved[outcome] += Decimal(text)  # type: ignore[assignment]
        calls, billed, answered = simulator.calls, simulator.billed_usd, simulator.answered
    with cachelayer.Cache(path=folder) as cache:
        stats = cache.stats()
    assert stats.requests == sum(told.values()) == PROCESSES * THREADS * each
    assert (stats.hits, stats.misses, stats.coalesced, stats.bypassed, stats.errors, stats.stale) == tuple(
        told[name] for name in ("HIT", "MISS", "COALESCED", "BYPASS", "ERROR", "STALE")
    )
    assert all(told[name] for name in ("HIT", "MISS", "COALESCED", "BYPASS", "ERROR")), told
    assert stats.upstream_calls == calls
    assert stats.spent_usd == billed
    assert stats.avoided_usd == saved["HIT"]
    assert stats.coalesced_usd == saved["COALESCED"]
    assert stats.saved_usd == stats.avoided_usd + stats.coalesced_usd > 0
    assert stats.broken == 0
    assert stats.estimated == 0
    # Each kept answer was good, and is kept once.
    assert 0 < stats.entries <= answered
    assert stats.hit_rate == (told["HIT"] + told["COALESCED"]) / (stats.requests - told["BYPASS"])


# --- money ------------------------------------------------------------------------------------------------------------

GOOGLE = "https://generativelanguage.googleapis.com" + GEMINI_PATH


def provider(usage: dict[str, Any] | None, calls: list[int]) -> httpx.MockTransport:
    """The user's own transport: Google, as far as this request goes."""
    image = base64.b64encode(made("PNG", 96)).decode()

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(1)
        document: dict[str, Any] = {
            "candidates": [
                {
                    "content": {
                        "role": "model",
                        "parts": [{"inlineData": {"mimeType": "image/png", "data": image}}],
                    },
                    "finishReason": "STOP",
                    "index": 0,
                }
            ],
            "modelVersion": "gemini-3-pro-image",
        }
        if usage is not None:
            document["usageMetadata"] = usage
        return httpx.Response(200, json=document)

    return httpx.MockTransport(answer)


DETAILED = {
    "promptTokenCount": 567,
    "candidatesTokenCount": 1120,
    "thoughtsTokenCount": 200,
    "totalTokenCount": 1887,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 567}],
    "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}],
}
UNDETAILED = {name: value for name, value in DETAILED.items() if not name.endswith("Details")}
IMAGES_AS_TEXT = {Decimal("0.0146"), Decimal("0.0170")}

Play = Callable[..., tuple[Stats, list[httpx.Response], int]]


@pytest.fixture
def play(folder: Path) -> Play:
    """Ask Google the same thing a number of times; its sums, the answers, and the calls that were made."""

    def run(usage: dict[str, Any] | None, times: int, url: str = GOOGLE, **settings: Any) -> Any:
        calls: list[int] = []
        with cachelayer.Cache(path=folder, **settings) as cache:
            with cache.wrap(httpx.Client(transport=provider(usage, calls))) as client:
                document = gemini_body(imageConfig={"imageSize": "1K"})
                answers = [client.post(url, json=document) for _ in range(times)]
            return cache.stats(), answers, len(calls)

    return run


def test_the_case_of_the_article_costs_exactly_this(play: Play) -> None:
    stats, answers, calls = play(DETAILED, 8)
    cost = Decimal("0.137934")  # 567 x $2 + 1,120 x $120 + 200 x $12, per million
    assert calls == stats.upstream_calls == 1
    assert [answer.headers["x-cachelayer"] for answer in answers] == ["MISS"] + ["HIT"] * 7
    assert stats.spent_usd == cost
    assert stats.saved_usd == stats.avoided_usd == 7 * cost == Decimal("0.965538")
    assert (stats.coalesced_usd, stats.estimated, stats.unpriced) == (0, 0, 0)
    assert {answer.headers.get("x-cachelayer-saved-usd") for answer in answers[1:]} == {"0.137934"}
    assert "x-cachelayer-saved-usd" not in answers[0].headers


def test_without_details_image_tokens_are_never_priced_as_text(play: Play) -> None:
    stats, answers, _ = play(UNDETAILED, 3)
    assert stats.estimated == 3 or stats.unpriced == 3
    assert stats.estimated + stats.unpriced == 3
    assert stats.spent_usd in ((Decimal("0.137934"), 0) if stats.estimated else (Decimal(0),))
    assert stats.saved_usd == 2 * stats.spent_usd
    for usd in (stats.spent_usd, stats.saved_usd / 2):
        assert round(usd, 4) not in IMAGES_AS_TEXT
    if stats.unpriced:
        assert all("x-cachelayer-saved-usd" not in answer.headers for answer in answers)


def test_without_usage_nothing_is_exact(play: Play) -> None:
    stats, _, _ = play(None, 3)
    assert stats.estimated + stats.unpriced == 3
    assert round(stats.spent_usd, 4) not in IMAGES_AS_TEXT


def test_another_host_is_an_estimate_until_the_user_says_so(play: Play, folder: Path) -> None:
    url = "https://api.reseller.example" + GEMINI_PATH
    stats, _, _ = play(DETAILED, 3, url)
    assert (stats.spent_usd, stats.saved_usd, stats.estimated) == (Decimal("0.137934"), Decimal("0.275868"), 3)


@pytest.mark.parametrize(
    ("prices", "cost"), [("list", "0.137934"), ("0.05", "0.05"), ({"*": {"1K": "0.07", "*": "1"}}, "0.07")]
)
def test_the_users_word_on_a_host_is_exact(prices: Any, cost: str, play: Play) -> None:
    url = "https://api.reseller.example" + GEMINI_PATH
    stats, _, _ = play(DETAILED, 4, url, prices={"api.reseller.example": prices})
    assert (stats.spent_usd, stats.saved_usd) == (Decimal(cost), 3 * Decimal(cost))
    assert (stats.estimated, stats.unpriced) == (0, 0)


def test_what_a_miss_cost_stays_what_it_was(play: Play) -> None:
    """The cost is frozen into the entry: a price named later does not rewrite what was saved."""
    play(DETAILED, 2)
    stats, _, calls = play(DETAILED, 1, prices={"generativelanguage.googleapis.com": "9.99"})
    assert calls == 0
    assert stats.spent_usd == Decimal("0.137934")
    assert stats.saved_usd == Decimal("0.275868")


@pytest.mark.parametrize(
    ("behaviour", "spent"),
    [("error", False), ("rate_limit", False), ("block", False), ("text_only", True), ("truncate", True)],
)
def test_failures_save_nothing(behaviour: str, spent: bool, cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.script(*[behaviour] * 3)
    path, document = (GEMINI_PATH, gemini_body()) if behaviour in ("text_only", "truncate") else (PATH, body())
    with cache.wrap(httpx.Client()) as client:
        for _ in range(3):
            assert "x-cachelayer-saved-usd" not in client.post(simulator.url + path, json=document).headers
    stats = cache.stats()
    assert (stats.misses, stats.saved_usd, stats.saved_seconds, stats.entries) == (3, 0, 0, 0)
    assert stats.spent_usd == simulator.billed_usd
    assert (stats.spent_usd > 0) is spent


def test_a_cut_answer_saves_nothing_and_its_cost_is_unknown(cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.script("disconnect")
    with cache.wrap(httpx.Client()) as client, pytest.raises(httpx.RemoteProtocolError):
        client.post(simulator.url + PATH, json=body())
    stats = cache.stats()
    assert (stats.errors, stats.upstream_calls, stats.unpriced, stats.saved_usd) == (1, 1, 1, 0)


def test_a_dead_host_costs_nothing(cache: cachelayer.Cache) -> None:
    with cache.wrap(httpx.Client()) as client, pytest.raises(httpx.ConnectError):
        client.post("http://127.0.0.1:9" + PATH, json=body())
    stats = cache.stats()
    assert (stats.errors, stats.unpriced, stats.spent_usd, stats.saved_usd) == (1, 0, 0, 0)


def test_a_bypassed_request_is_spent_money_where_it_can_be_priced(folder: Path, simulator: Simulator) -> None:
    host = simulator.url.removeprefix("http://")
    with (
        cachelayer.Cache(path=folder, operations=(), prices={host: "list"}) as cache,
        cache.wrap(httpx.Client()) as client,
    ):
        for _ in range(2):
            assert client.post(simulator.url + PATH, json=body()).headers["x-cachelayer"] == "BYPASS"
        stats = cache.stats()
    assert (stats.bypassed, stats.upstream_calls, stats.saved_usd, stats.estimated) == (2, 2, 0, 0)
    assert stats.spent_usd == simulator.billed_usd > 0


def test_several_images_cost_and_save_what_all_of_them_cost(cache: cachelayer.Cache, simulator: Simulator) -> None:
    with cache.wrap(httpx.Client()) as client:
        for _ in range(3):
            answer = client.post(simulator.url + PATH, json=body(n=3))
    assert len(answer.json()["data"]) == 3
    stats = cache.stats()
    assert stats.spent_usd == simulator.billed_usd
    assert stats.saved_usd == 2 * stats.spent_usd
    assert Decimal(answer.headers["x-cachelayer-saved-usd"]) == stats.spent_usd


def test_what_is_asked_of_a_closed_cache_is_priced_too(folder: Path, simulator: Simulator) -> None:
    """It is passed through and paid: its key is worked out all the same, since that says what it costs."""
    cache = cachelayer.Cache(path=folder, prices={simulator.url.removeprefix("http://"): "0.05"})
    with cache.wrap(httpx.Client()) as client:
        cache.close()
        answer = client.post(simulator.url + PATH, json=body())
    assert (answer.headers["x-cachelayer"], answer.headers["x-cachelayer-reason"]) == ("BYPASS", "closed")
    with cachelayer.Cache(path=folder) as again:
        stats = again.stats()
    assert (stats.bypassed, stats.upstream_calls, stats.unpriced) == (1, 1, 0)
    assert stats.spent_usd == Decimal("0.05")


def test_an_image_call_that_cannot_be_read_is_unpriced_unless_it_failed(
    cache: cachelayer.Cache, simulator: Simulator
) -> None:
    with cache.wrap(httpx.Client()) as client:
        url = simulator.url + PATH
        assert client.post(url, content=b"{", headers={"content-type": "application/json"}).status_code == 400
        assert cache.stats().unpriced == 0
        streamed = client.post(url, json=body(stream=True))
        assert (streamed.status_code, streamed.headers["x-cachelayer-reason"]) == (200, "stream")
    stats = cache.stats()
    assert (stats.bypassed, stats.unpriced) == (2, 1)


def test_a_passed_call_that_reached_no_provider_costs_nothing(cache: cachelayer.Cache) -> None:
    with cache.wrap(httpx.Client()) as client, pytest.raises(httpx.ConnectError):
        client.post("http://127.0.0.1:9" + PATH, json=body(stream=True))
    stats = cache.stats()
    assert (stats.bypassed, stats.upstream_calls, stats.unpriced) == (1, 0, 0)
