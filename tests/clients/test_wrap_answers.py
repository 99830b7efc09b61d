"""What a caller gets and what the provider gets: bytes and headers, on a miss, on a hit, from another's flight."""

from __future__ import annotations

import gc
import gzip
import json
import threading
import weakref
from decimal import Decimal
from typing import Any

import httpx
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import GEMINI_PATH, PATH, body, gemini_body
from tests.clients.canned import Canned, Said
from tests.clients.conftest import Side

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
GOOD = json.dumps({"created": 1, "data": [{"b64_json": PNG}]}).encode()
JSON = ("content-type", "application/json")


def ours(response: Any) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("x-cachelayer") or name == "age"}


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(("path", "asked"), [(PATH, body()), (GEMINI_PATH, gemini_body())])
def test_a_miss_is_the_answer_as_it_came(
    side: Side, cache: cachelayer.Cache, compress: bool, path: str, asked: dict[str, Any]
) -> None:
    with Simulator(compress=compress) as simulator, Simulator(compress=compress) as same:
        plain, sent = side.raw(side.client(), same.url + path, json=asked)
        response, came = side.raw(cache.wrap(side.client()), simulator.url + path, json=asked)
    assert b"".join(came) == b"".join(sent)
    assert b"".join(came).startswith(b"\x1f\x8b") is compress
    theirs = [pair for pair in response.headers.multi_items() if not pair[0].startswith("x-cachelayer")]
    without_date = [pair for pair in theirs if pair[0] != "date"]
    assert without_date == [pair for pair in plain.headers.multi_items() if pair[0] != "date"]
    assert response.http_version == plain.http_version
    assert response.reason_phrase == plain.reason_phrase
    assert ours(response).keys() == {"x-cachelayer", "x-cachelayer-key"}
    assert response.headers["x-cachelayer"] == "MISS"


@pytest.mark.parametrize("compress", [False, True])
def test_a_hit_is_the_decoded_body_without_what_was_the_first_callers_own(
    side: Side, cache: cachelayer.Cache, compress: bool
) -> None:
    with Simulator(compress=compress) as simulator:
        url = simulator.url + PATH
        wrapped = cache.wrap(side.client())
        first = side.ask(wrapped, url, json=body())
        second = side.ask(wrapped, url, json=body())
        response, raw = side.raw(wrapped, url, json=body())
        assert simulator.calls == 1
    assert first.headers["set-cookie"]
    assert [name for name in first.headers if name.startswith("x-ratelimit-")]
    assert second.content == first.content == b"".join(raw)
    assert second.json() == first.json()
    assert second.status_code == 200
    assert second.reason_phrase == "OK"
    assert second.http_version == "HTTP/1.1"
    for answer in (second, response):
        assert answer.headers["content-length"] == str(len(first.content))
        assert answer.headers["content-type"] == first.headers["content-type"]
        assert answer.headers["x-request-id"] == first.headers["x-request-id"]
        assert not {"content-encoding", "transfer-encoding", "set-cookie"} & set(answer.headers)
        assert not [name for name in answer.headers if name.startswith("x-ratelimit-")]
        assert ours(answer).keys() == {"x-cachelayer", "x-cachelayer-key", "x-cachelayer-saved-usd", "age"}
        assert answer.headers["x-cachelayer"] == "HIT"
        assert answer.headers["x-cachelayer-key"] == first.headers["x-cachelayer-key"]
        assert Decimal(answer.headers["x-cachelayer-saved-usd"]) == simulator.billed_usd
        assert int(answer.headers["age"]) >= 0


@pytest.mark.parametrize("compress", [False, True])
def test_a_joiner_gets_what_a_hit_gets(cache: cachelayer.Cache, compress: bool) -> None:
    with Simulator(compress=compress) as simulator, httpx.Client(timeout=60) as given:
        client = cache.wrap(given)
        simulator.hold()
        answers: list[httpx.Response] = []
        threads = [
            threading.Thread(target=lambda: answers.append(client.post(simulator.url + PATH, json=body())))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        simulator.wait_for_calls(1)
        while cache._engine.flights.count() != 1 or next(iter(cache._engine.flights._by_key.values())).passengers < 4:
            threading.Event().wait(0.002)
        simulator.release()
        for thread in threads:
            thread.join()
        hit = client.post(simulator.url + PATH, json=body())
    joined = [answer for answer in answers if answer.headers["x-cachelayer"] == "COALESCED"]
    (first,) = [answer for answer in answers if answer.headers["x-cachelayer"] == "MISS"]
    assert len(joined) == 3
    for answer in joined:
        assert answer.content == first.content
        as_hit = [pair for pair in hit.headers.multi_items() if pair[0] not in ("age", "x-cachelayer")]
        assert [pair for pair in answer.headers.multi_items() if pair[0] != "x-cachelayer"] == as_hit


@pytest.mark.parametrize(
    "arguments",
    [
        {"json": body()},
        {"content": json.dumps(body(), indent=3).encode(), "headers": {"Content-Type": "application/json"}},
        {
            "json": body(),
            "headers": [("X-Mixed-Case", "A"), ("x-twice", "1"), ("x-twice", "2"), ("X-Server-Timeout", "30")],
            "params": [("b", "2"), ("a", "1 + 1"), ("b", "3")],
        },
        {"data": {"model": "gpt-image-2", "prompt": "a lighthouse"}},
        {"content": b""},
        {},
    ],
    ids=["json", "bytes", "headers", "form", "empty", "none"],
)
def test_forwarded_is_what_the_plain_client_sends(
    side: Side, cache: cachelayer.Cache, simulator: Simulator, arguments: dict[str, Any]
) -> None:
    for client in (side.client(), cache.wrap(side.client())):
        side.ask(client, simulator.url + PATH + "?x=%2F&y", **arguments)
    plain, through = simulator.requests
    assert through == plain


def test_forwarded_form_with_files_is_what_the_plain_client_sends(
    side: Side, cache: cachelayer.Cache, simulator: Simulator, tmp_path: Any
) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG" + bytes(200_000))
    headers = {"content-type": "multipart/form-data; boundary=same"}
    for client in (side.client(), cache.wrap(side.client())):
        with (tmp_path / "a.png").open("rb") as file:
            files = [("image[]", ("a.png", file, "image/png")), ("mask", ("m.png", b"\x89PNG", "image/png"))]
            fields = {"model": "gpt-image-2", "prompt": "p", "n": "1"}
            side.ask(client, simulator.url + "/v1/images/edits", data=fields, files=files, headers=headers)
    plain, through = simulator.requests
    assert through == plain
    assert b"--same\r\n" in through.body
    assert len(through.body) > 200_000


def test_headers_outside_ascii_come_through(side: Side, cache: cachelayer.Cache, canned: Canned) -> None:
    """RFC 9110 5.5 lets a provider send any byte above 0x7F; httpx shows it as Latin-1."""
    canned.answer = lambda _: Said(200, (JSON, ("x-note", "caf\xe9 \xfcber"), ("x-both", "a"), ("x-both", "b")), GOOD)
    plain = side.ask(side.client(), canned.url + PATH, json=body())
    wrapped = cache.wrap(side.client())
    for expected in ("MISS", "HIT"):
        answer = side.ask(wrapped, canned.url + PATH, json=body())
        assert answer.headers["x-cachelayer"] == expected
        raw = dict(answer.headers.raw)
        assert raw[b"x-note"] == dict(plain.headers.raw)[b"x-note"] == "caf\xe9 \xfcber".encode("latin-1")
        assert answer.headers.get_list("x-both") == ["a", "b"]


def test_a_providers_own_x_cachelayer_headers_are_replaced(side: Side, cache: cachelayer.Cache, canned: Canned) -> None:
    """Another cachelayer may stand between: each tells its own outcome, and a caller reads the nearest."""
    theirs = (JSON, ("X-Cachelayer", "HIT"), ("x-cachelayer-saved-usd", "9"), ("age", "5"))
    canned.answer = lambda _: Said(200, theirs, GOOD)
    wrapped = cache.wrap(side.client())
    first = side.ask(wrapped, canned.url + PATH, json=body())
    assert (first.headers["x-cachelayer"], first.headers["age"]) == ("MISS", "5")
    assert "x-cachelayer-saved-usd" not in first.headers
    second = side.ask(wrapped, canned.url + PATH, json=body())
    assert second.headers["x-cachelayer"] == "HIT"
    assert second.headers["age"] == "0"
    passed = side.ask(wrapped, canned.url + "/v1/other", json=body())
    assert passed.headers["x-cachelayer"] == "BYPASS"
    assert "x-cachelayer-saved-usd" not in passed.headers


def test_an_answer_that_cannot_be_decoded_comes_through(side: Side, cache: cachelayer.Cache, canned: Canned) -> None:
    canned.answer = lambda _: Said(200, (JSON, ("content-encoding", "gzip")), GOOD)
    wrapped = cache.wrap(side.client())
    for client in (side.client(), wrapped, wrapped):
        with pytest.raises(side.module.DecodingError):
            side.ask(client, canned.url + PATH, json=body())
    _, raw = side.raw(wrapped, canned.url + PATH, json=body())
    assert b"".join(raw) == GOOD
    assert len(canned.requests) == 4
    assert cache.stats().entries == 0


def test_a_coding_nobody_knows_is_not_stored(side: Side, cache: cachelayer.Cache, canned: Canned) -> None:
    coded = b"\x00" + gzip.compress(GOOD, mtime=0)
    canned.answer = lambda _: Said(200, (JSON, ("content-encoding", "x-unknown")), coded)
    wrapped = cache.wrap(side.client())
    plain = side.ask(side.client(), canned.url + PATH, json=body()).content
    for _ in range(2):
        answer = side.ask(wrapped, canned.url + PATH, json=body())
        assert answer.content == plain
        assert answer.headers["x-cachelayer-reason"] == "incomplete"
    assert cache.stats().entries == 0


@pytest.mark.parametrize(("path", "asked"), [(PATH, body(stream=True)), (GEMINI_PATH, gemini_body())])
def test_streams_pass_through_as_they_come(
    side: Side, cache: cachelayer.Cache, path: str, asked: dict[str, Any]
) -> None:
    path = path.replace(":generateContent", ":streamGenerateContent?alt=sse")
    with Simulator() as simulator, Simulator() as same:
        _, sent = side.raw(side.client(), same.url + path, json=asked)
        wrapped = cache.wrap(side.client())
        for _ in range(2):
            response, came = side.raw(wrapped, simulator.url + path, json=asked)
            assert response.headers["x-cachelayer"] == "BYPASS"
            assert response.headers["x-cachelayer-reason"] == "stream"
            assert "x-cachelayer-key" not in response.headers
        assert simulator.calls == 2
    assert len(b"".join(came)) == len(b"".join(sent))
    assert b"data: " in b"".join(came)
    stats = cache.stats()
    assert (stats.bypassed, stats.entries, stats.upstream_calls, stats.unpriced) == (2, 0, 2, 2)


def test_a_stream_is_handed_on_before_it_ends(cache: cachelayer.Cache) -> None:
    """Chunk by chunk: the second one is made only after the first was read."""
    first_read = threading.Event()

    class Slow(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            yield b"data: one\n\n"
            assert first_read.wait(10)
            yield b"data: two\n\n"

    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Slow()))
    chunks = []
    with (
        cache.wrap(httpx.Client(transport=transport)) as client,
        client.stream("POST", "http://provider.example" + PATH, json=body(stream=True)) as response,
    ):
        for chunk in response.iter_raw():
            chunks.append(chunk)
            first_read.set()
    assert chunks == [b"data: one\n\n", b"data: two\n\n"]
    assert cache.stats().bypassed == 1


def test_a_stream_that_is_left_early_counts_once(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    wrapped = cache.wrap(side.client())
    url, asked = simulator.url + PATH, body(stream=True, partial_images=2)
    if side.asynchronous:

        async def leave() -> None:
            async with wrapped.stream("POST", url, json=asked) as response:
                async for _ in response.aiter_raw():
                    break

        side.wait(leave())
    else:
        with wrapped.stream("POST", url, json=asked) as response:
            next(response.iter_raw())
    stats = cache.stats()
    assert (stats.requests, stats.bypassed, stats.unpriced) == (1, 1, 1)


def test_streams_and_plain_answers_never_meet(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    wrapped = cache.wrap(side.client())
    side.ask(wrapped, simulator.url + PATH, json=body())
    assert side.ask(wrapped, simulator.url + PATH, json=body(stream=True)).headers["x-cachelayer"] == "BYPASS"
    assert side.ask(wrapped, simulator.url + PATH, json=body(stream=False)).headers["x-cachelayer"] == "HIT"


def test_what_no_dialect_knows_passes_through(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    plain, wrapped = side.client(), cache.wrap(side.client())
    for method, path in [("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("DELETE", PATH), ("GET", PATH)]:
        sent = side.ask(plain, simulator.url + path, method)
        came = side.ask(wrapped, simulator.url + path, method)
        assert (came.status_code, came.content) == (sent.status_code, sent.content)
        assert ours(came) == {"x-cachelayer": "BYPASS", "x-cachelayer-reason": "unrecognised"}
        assert simulator.requests[-1] == simulator.requests[-2]
    assert simulator.calls == 0


def test_an_answer_of_the_cache_needs_no_garbage_collector(
    side: Side, cache: cachelayer.Cache, simulator: Simulator
) -> None:
    """An image that waits for the collector costs the next one fresh memory, a page fault for every 4 KB."""
    wrapped = cache.wrap(side.client())
    for outcome in ("MISS", "HIT"):
        gc.collect()
        gc.disable()
        try:
            answer = side.ask(wrapped, simulator.url + PATH, json=body())
            assert answer.headers["x-cachelayer"] == outcome
            assert answer.elapsed.total_seconds() > 0
            gone = weakref.ref(answer)
            del answer
            assert gone() is None, outcome
        finally:
            gc.enable()


def test_an_answer_that_is_read_in_pieces_can_still_be_asked_what_it_can_without_the_cache(
    side: Side, cache: cachelayer.Cache, simulator: Simulator
) -> None:
    """After its end a response says that it is over, when it ended, and refuses to be read again."""
    wrapped = cache.wrap(side.client())
    for _ in ("MISS", "HIT"):
        response, raw = side.raw(wrapped, simulator.url + PATH, json=body())
        assert b"".join(raw)
        assert response.is_closed
        assert response.elapsed.total_seconds() > 0
        with pytest.raises(side.module.StreamConsumed):
            side.wait(response.aread() if side.asynchronous else response.read())
