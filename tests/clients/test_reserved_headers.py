"""What is said to cachelayer in a request's headers stays here, whatever becomes of the request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cachelayer
from tests.asking import PATH, body
from tests.clients.canned import Arrived, Canned, Said
from tests.clients.conftest import Side

RESERVED = {"x-cachelayer-bypass": "0", "X-Cachelayer-Tags": "a,b", "x-cachelayer-what-comes-later": "1"}
THEIRS = {"x-cachelayers": "5", "x-job": "6"}


def arrived_names(request: Arrived) -> set[str]:
    return {name.lower() for name, _ in request.headers}


def _stream(side: Side) -> dict[str, Any]:
    if side.asynchronous:

        async def pieces() -> Any:
            yield b'{"model":'
            yield b'"gpt-image-2"}'
    else:

        def pieces() -> Any:
            yield b'{"model":'
            yield b'"gpt-image-2"}'

    return {"content": pieces(), "headers": {**RESERVED, **THEIRS, "content-length": "23"}}


WAYS: dict[str, tuple[str, Callable[[Side], dict[str, Any]], str]] = {
    "forwarded": (PATH, lambda side: {"json": body()}, "MISS"),
    "unrecognised": ("/v1/chat/completions", lambda side: {"json": {}}, "BYPASS"),
    "a stream of answers": (PATH, lambda side: {"json": body(stream=True)}, "BYPASS"),
    "a body that is a stream": (PATH, _stream, "BYPASS"),
    "a form": ("/v1/images/edits", lambda side: {"data": {"prompt": "x"}, "files": {"image": b"bytes"}}, "MISS"),
    "malformed": (PATH, lambda side: {"content": b"{", "headers": {**RESERVED, **THEIRS}}, "BYPASS"),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_reserved_header_reaches_a_provider(way: str, side: Side, cache: cachelayer.Cache, canned: Canned) -> None:
    path, make, outcome = WAYS[way]
    answer = side.ask(cache.wrap(side.client()), canned.url + path, **{"headers": {**RESERVED, **THEIRS}, **make(side)})
    assert answer.headers["x-cachelayer"] == outcome
    (request,) = canned.requests
    assert arrived_names(request) & {name.lower() for name in RESERVED} == set()
    assert arrived_names(request) >= THEIRS.keys()
    assert all(answer.request.headers[name] == RESERVED[name] for name in RESERVED), "his own request is not changed"
    if way == "a body that is a stream":
        assert request.body == b'{"model":"gpt-image-2"}'
    elif way == "a form":
        assert b'name="prompt"' in request.body
        assert b"bytes" in request.body


@pytest.mark.parametrize("state", ["disabled", "closed"])
def test_nor_past_a_cache_that_does_nothing(state: str, side: Side, folder: Path, canned: Canned) -> None:
    cache = cachelayer.Cache(path=folder, disabled=state == "disabled")
    client = cache.wrap(side.client())
    if state == "closed":
        cache.close()
    side.ask(client, canned.url + PATH, json=body(), headers={**RESERVED, **THEIRS})
    cache.close()
    assert arrived_names(canned.requests[0]) & {name.lower() for name in RESERVED} == set()


@pytest.mark.parametrize("status", [302, 307])
def test_nor_after_a_redirect(status: int, side: Side, cache: cachelayer.Cache, canned: Canned) -> None:
    def answer(request: Arrived) -> Said:
        return Said(status, (("location", "/elsewhere"),), b"") if request.path == PATH else Said(200, (), b"{}")

    canned.answer = answer
    client = cache.wrap(side.client(follow_redirects=True))
    came = side.ask(client, canned.url + PATH, json=body(), headers={**RESERVED, **THEIRS})
    assert came.status_code == 200
    assert [request.path for request in canned.requests] == [PATH, "/elsewhere"]
    for request in canned.requests:
        assert arrived_names(request) & {name.lower() for name in RESERVED} == set()
        assert arrived_names(request) >= THEIRS.keys()
    assert [bool(request.body) for request in canned.requests] == [True, status == 307]
