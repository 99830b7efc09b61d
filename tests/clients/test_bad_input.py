"""Requests that are damaged, absurd or enormous: forwarded untouched, nothing stored, no exception of ours."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import httpx2
import pytest

import cachelayer
from cachelayer.core.model import KeyRules
from cachelayer.simulator import Simulator
from tests.asking import GEMINI_PATH, PATH, body, gemini_body
from tests.clients.conftest import Side

EDITS = "/v1/images/edits"
JSON = {"content-type": "application/json"}
DEEP = 100_000


@pytest.fixture(params=[(httpx, False), (httpx2, True)], ids=["httpx", "httpx2-async"])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    """Two of the four: what differs between them does not depend on the body, and there are many bodies."""
    side = Side(*request.param)
    yield side
    side.end()


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


BODIES = {
    "empty": b"",
    "not json": b"a lighthouse at dusk",
    "cut off": _json(body())[:-7],
    "two documents": _json(body()) + _json(body()),
    "garbage behind": _json(body()) + b" }",
    "an array": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "duplicate keys": b'{"model": "gpt-image-2", "prompt": "a", "prompt": "b", "contents": 1, "contents": 2}',
    "nan": b'{"model": "gpt-image-2", "prompt": "p", "n": NaN, "contents": [NaN]}',
    "infinity": b'{"model": "gpt-image-2", "prompt": "p", "n": -Infinity, "contents": Infinity}',
    "lone surrogate escaped": b'{"model": "gpt-image-2", "prompt": "\\ud800", "contents": "\\udfff"}',
    "lone surrogate raw": b'{"model": "gpt-image-2", "prompt": "\xed\xa0\x80", "contents": "\xed\xa0\x80"}',
    "not utf-8": b'{"model": "gpt-image-2", "prompt": "\xff\xfe", "contents": "\xff"}',
    "utf-16": _json(body()).decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{" + _json(body()),
    "control character": b'{"model": "gpt-image-2", "prompt": "a\x00b", "contents": "a\x00b"}',
    "deep lists": b'{"model": "gpt-image-2", "prompt": "p", "contents": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"prompt": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "deep and unclosed": b"[" * DEEP,
}


def assert_untouched(side: Side, cache: cachelayer.Cache, simulator: Simulator, url: str, **arguments: Any) -> Any:
    """The plain client and the wrapped one send the same and get the same, twice over; nothing is kept."""
    before = cache.stats().bypassed
    plain = side.ask(side.client(), url, **arguments)
    for _ in range(2):
        answer = side.ask(cache.wrap(side.client()), url, **arguments)  # a new jar: no cookies of the first answer
        assert answer.status_code == plain.status_code
        assert answer.headers["x-cachelayer"] == "BYPASS"
        assert answer.headers["x-cachelayer-reason"]
        assert "x-cachelayer-key" not in answer.headers
    first, *rest = simulator.requests[-3:]
    assert rest == [first, first]
    stats = cache.stats()
    assert (stats.bypassed, stats.requests, stats.entries, stats.blobs) == (before + 2, before + 2, 0, 0)
    assert cache._engine.faults.count == 0
    return answer


@pytest.mark.parametrize("content", BODIES.values(), ids=BODIES.keys())
def test_bodies(side: Side, cache: cachelayer.Cache, simulator: Simulator, content: bytes) -> None:
    for path in (PATH, EDITS, GEMINI_PATH):
        assert_untouched(side, cache, simulator, simulator.url + path, content=content, headers=JSON)


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=other",
        "application/json; charset=utf-16",
        "json",
        "",
        "\xe9" * 50,
        ";" * 1000,
    ],
    ids=lambda kind: kind[:40].encode("ascii", "replace").decode() or "empty",
)
def test_content_types(side: Side, cache: cachelayer.Cache, simulator: Simulator, kind: str) -> None:
    headers = [(b"content-type", kind.encode("latin-1"))]
    for path in (PATH, EDITS):
        assert_untouched(side, cache, simulator, simulator.url + path, content=_json(body()), headers=headers)


@pytest.mark.parametrize(
    "form",
    [
        b"",
        b"--b--\r\n",
        b"--b\r\n\r\n\r\n--b--\r\n",
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\np',
        b'--b\r\nContent-Disposition: form-data; name="prompt\r\n\r\np\r\n--b--\r\n',
        b"--b" * 10_000,
        Random(5).randbytes(5000),
    ],
    ids=["nothing", "no part", "no headers", "no name", "no end", "open quote", "boundaries", "noise"],
)
def test_forms(side: Side, cache: cachelayer.Cache, simulator: Simulator, form: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert_untouched(side, cache, simulator, simulator.url + EDITS, content=form, headers=headers)


def test_a_compressed_body(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    import gzip

    headers = JSON | {"content-encoding": "gzip"}
    answer = assert_untouched(
        side, cache, simulator, simulator.url + PATH, content=gzip.compress(_json(body()), mtime=0), headers=headers
    )
    assert answer.headers["x-cachelayer-reason"] == "content-encoding"


@pytest.fixture
def small(folder: Path) -> Iterator[cachelayer.Cache]:
    with cachelayer.Cache(path=folder, max_body="100kB") as cache:
        yield cache


@pytest.mark.parametrize("size", [100_001, 3_000_000])
def test_bodies_above_max_body(side: Side, small: cachelayer.Cache, simulator: Simulator, size: int) -> None:
    frame = _json(body(""))
    content = _json(body("p" * (size - len(frame))))
    assert len(content) == size
    answer = assert_untouched(side, small, simulator, simulator.url + PATH, content=content, headers=JSON)
    assert answer.headers["x-cachelayer-reason"] == "body-too-large"


def test_a_body_of_max_body_is_cached(side: Side, small: cachelayer.Cache, simulator: Simulator) -> None:
    content = _json(body("p" * (100_000 - len(_json(body(""))))))
    assert len(content) == 100_000
    wrapped = small.wrap(side.client())
    answers = [side.ask(wrapped, simulator.url + PATH, content=content, headers=JSON) for _ in range(2)]
    assert [answer.headers["x-cachelayer"] for answer in answers] == ["MISS", "HIT"]


def test_a_form_above_max_body_is_not_read_into_memory(
    side: Side, small: cachelayer.Cache, simulator: Simulator, tmp_path: Path
) -> None:
    """Its length is known from its files' sizes: the body streams from the file as with the plain client."""
    path = tmp_path / "large.png"
    path.write_bytes(b"\x89PNG" + os.urandom(300_000))
    headers = {"content-type": "multipart/form-data; boundary=same"}
    for client in (side.client(), small.wrap(side.client())):
        with path.open("rb") as file:
            answer = side.ask(
                client,
                simulator.url + EDITS,
                data={"model": "gpt-image-2", "prompt": "p", "size": "64x64"},
                files={"image": ("a.png", file, "image/png")},
                headers=headers,
            )
    assert answer.headers["x-cachelayer-reason"] == "body-too-large"
    assert not hasattr(answer.request, "_content")
    assert simulator.requests[0] == simulator.requests[1]


def test_the_default_limit_is_512_mb(cache: cachelayer.Cache) -> None:
    """By the length that a form declares: nobody has to make such a body."""
    assert cache._engine.rules.keys == KeyRules()
    assert KeyRules().max_body == 512_000_000

    from cachelayer.clients.httpx import _unreadable

    class Huge(io.BytesIO):
        """A sparse file, as far as httpx looks before it sends."""

        def __init__(self, size: int) -> None:
            super().__init__()
            self.size = size

        def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
            return self.size if whence == os.SEEK_END else offset

        def tell(self) -> int:
            return 0

        def read(self, size: int | None = -1) -> bytes:
            raise AssertionError("it was read")

    request = httpx.Request("POST", "http://provider.example" + EDITS, files={"image": ("a.png", Huge(512_000_000))})
    assert int(request.headers["content-length"]) > 512_000_000
    assert _unreadable(httpx, cache._engine, request) == "body-too-large"
    smaller = httpx.Request("POST", "http://provider.example" + EDITS, files={"image": ("a.png", Huge(511_000_000))})
    assert int(smaller.headers["content-length"]) < 512_000_000
    assert _unreadable(httpx, cache._engine, smaller) == "body-not-replayable"  # it was read, and that failed
    assert cache._engine.faults.count == 1


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-odd", b"caf\xc3\xa9 \xff")],
        [(b"x-long", b"v" * 30_000)],
        [(f"x-{number}".encode(), b"v") for number in range(80)],
        [(b"x-empty", b"")],
        [(b"authorization", b"Bearer \xff")],
        [(b"cookie", b"=; ;;=a=b")],
        [(b"x-twice", b"1"), (b"X-Twice", b"2")],
    ],
    ids=["not ascii", "long", "many", "empty", "odd credential", "odd cookie", "twice"],
)
def test_absurd_headers(side: Side, cache: cachelayer.Cache, simulator: Simulator, headers: Any) -> None:
    """A good request in odd clothes: cached, and forwarded as it is."""
    arguments: dict[str, Any] = {
        "content": _json(body()),
        "headers": [(b"content-type", b"application/json"), *headers],
    }
    side.ask(side.client(), simulator.url + PATH, **arguments)
    wrapped = cache.wrap(side.client())
    answers = [side.ask(wrapped, simulator.url + PATH, **arguments) for _ in range(2)]
    assert [answer.headers["x-cachelayer"] for answer in answers] == ["MISS", "HIT"]
    plain, through = simulator.requests
    assert through == plain
    assert cache._engine.faults.count == 0


@pytest.mark.parametrize("query", ["?%", "?%zz=%ff&&=&a", "?" + "a=b&" * 2000, "?q=%ED%A0%80", "#fragment", "?a=1;b=2"])
def test_absurd_queries(side: Side, cache: cachelayer.Cache, simulator: Simulator, query: str) -> None:
    side.ask(side.client(), simulator.url + PATH + query, json=body())
    wrapped = cache.wrap(side.client())
    for _ in range(2):
        answer = side.ask(wrapped, simulator.url + PATH + query, json=body())
        assert answer.headers["x-cachelayer"] in ("MISS", "HIT", "BYPASS")
        assert answer.status_code == 200
    assert len({request.path for request in simulator.requests}) == 1
    assert cache._engine.faults.count == 0


def _references(number: int, size: int) -> list[bytes]:
    return [b"\x89PNG\r\n\x1a\n" + os.urandom(size - 8) for _ in range(number)]


def _edit_with_references(side: Side, cache: cachelayer.Cache, simulator: Simulator, images: list[bytes]) -> None:
    wrapped = cache.wrap(side.client(timeout=120))
    fields = {"model": "gpt-image-2", "prompt": "p", "size": "64x64"}
    outcomes = []
    for order in (images, images, images[::-1]):
        files = [("image[]", (f"{number}.png", image, "image/png")) for number, image in enumerate(order)]
        answer = side.ask(wrapped, simulator.url + EDITS, data=fields, files=files)
        assert answer.status_code == 200
        outcomes.append(answer.headers["x-cachelayer"])
    assert outcomes == ["MISS", "HIT", "MISS"]  # swapped references are another request
    assert simulator.calls == 2
    sent = simulator.requests[-1].body
    assert all(sent.count(image) == 1 for image in images)


def _generate_with_references(side: Side, cache: cachelayer.Cache, simulator: Simulator, images: list[bytes]) -> None:
    wrapped = cache.wrap(side.client(timeout=120))
    asked = gemini_body()
    asked["contents"][0]["parts"] += [
        {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(image).decode()}} for image in images
    ]
    content = _json(asked)
    outcomes = [
        side.ask(wrapped, simulator.url + GEMINI_PATH, content=content, headers=JSON).headers["x-cachelayer"]
        for _ in range(2)
    ]
    assert outcomes == ["MISS", "HIT"]
    assert simulator.calls == 1
    assert simulator.requests[-1].body == content


ASK = pytest.mark.parametrize("ask", [_edit_with_references, _generate_with_references])


@ASK
def test_fourteen_references_of_5_mb(side: Side, cache: cachelayer.Cache, simulator: Simulator, ask: Any) -> None:
    ask(side, cache, simulator, _references(14, 5_000_000))


@pytest.mark.acceptance
@ASK
def test_fourteen_references_of_20_mb(side: Side, cache: cachelayer.Cache, simulator: Simulator, ask: Any) -> None:
    ask(side, cache, simulator, _references(14, 20_000_000))
