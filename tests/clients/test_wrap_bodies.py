"""Request bodies that can and cannot be sent again, and transports of the user's own behind the cache."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.clients.conftest import Side
from tests.clients.test_wrap_answers import GOOD

EDITS = "/v1/images/edits"
FIELDS = {"model": "gpt-image-2", "prompt": "p", "size": "64x64"}


def reason(response: Any) -> tuple[str, str | None]:
    return response.headers["x-cachelayer"], response.headers.get("x-cachelayer-reason")


def test_a_generator_is_used_once_and_passes_through(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    pieces = [b'{"model": "gpt-image-2", ', b'"prompt": "p", "size": "64x64"}']
    drawn: list[bytes] = []

    def pull() -> Iterator[bytes]:
        for piece in pieces:
            drawn.append(piece)
            yield piece

    async def pull_async() -> AsyncIterator[bytes]:
        for piece in pull():
            yield piece

    wrapped = cache.wrap(side.client())
    for _ in range(2):
        content = pull_async() if side.asynchronous else pull()
        answer = side.ask(wrapped, simulator.url + PATH, content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 200
        assert reason(answer) == ("BYPASS", "body-not-replayable")
    assert drawn == pieces * 2
    assert [request.body for request in simulator.requests] == [b"".join(pieces)] * 2
    assert dict(simulator.requests[0].headers)["Transfer-Encoding"] == "chunked"
    stats = cache.stats()
    assert (stats.bypassed, stats.entries) == (2, 0)


@pytest.mark.parametrize("module", ["httpx", "httpx2"])
def test_an_open_file_as_body_is_read_once(
    module: str, cache: cachelayer.Cache, simulator: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "body").write_bytes(json.dumps(body()).encode())
    library = __import__(module)
    with cache.wrap(library.Client()) as client, (tmp_path / "body").open("rb") as file:
        answer = client.post(simulator.url + PATH, content=file, headers={"content-type": "application/json"})
        assert file.read() == b""
    assert reason(answer) == ("BYPASS", "body-not-replayable")
    assert simulator.requests[0].body == json.dumps(body()).encode()


def test_a_form_with_open_files_is_cached(
    side: Side, cache: cachelayer.Cache, simulator: Simulator, tmp_path: Path
) -> None:
    path = tmp_path / "reference.png"
    path.write_bytes(b"\x89PNG" + os.urandom(100_000))
    wrapped = cache.wrap(side.client())
    outcomes = []
    for _ in range(2):
        with path.open("rb") as file:
            answer = side.ask(wrapped, simulator.url + EDITS, data=FIELDS, files={"image": file})
            outcomes.append(answer.headers["x-cachelayer"])
    assert outcomes == ["MISS", "HIT"]
    assert path.read_bytes() in simulator.requests[0].body
    assert answer.request.content.count(path.read_bytes()) == 1


def test_a_form_from_a_pipe_passes_through(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    """A file of unknown length, which nobody can read twice."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            super().__init__()
            self.reads = 0
            self._left = b"\x89PNG and more"

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            self.reads += 1
            part, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
            buffer[: len(part)] = part
            return len(part)

    plain, through = Pipe(), Pipe()
    settings: dict[str, Any] = {"data": FIELDS, "headers": {"content-type": "multipart/form-data; boundary=same"}}
    side.ask(side.client(), simulator.url + EDITS, files={"image": ("a.png", plain)}, **settings)
    answer = side.ask(cache.wrap(side.client()), simulator.url + EDITS, files={"image": ("a.png", through)}, **settings)
    assert reason(answer) == ("BYPASS", "body-not-replayable")
    assert simulator.requests[1] == simulator.requests[0]
    assert b"\x89PNG and more" in simulator.requests[0].body
    assert through.reads == plain.reads


def test_a_closed_file_raises_what_it_raises(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    def form() -> dict[str, Any]:
        file = io.BytesIO(b"\x89PNG")
        file.name = "a.png"
        return {"data": FIELDS, "files": {"image": file}}

    for client in (side.client(), cache.wrap(side.client())):
        arguments = form()
        request = client.build_request("POST", simulator.url + EDITS, **arguments)
        arguments["files"]["image"].close()
        with pytest.raises(ValueError, match="closed file"):
            side.wait(client.send(request))
    assert simulator.calls == 0


@pytest.mark.parametrize("length", ["abc", "-1", "9" * 5000, "", "1, 1"])
def test_absurd_content_lengths_raise_what_they_raise(
    side: Side, cache: cachelayer.Cache, simulator: Simulator, length: str
) -> None:
    raised = []
    for client in (side.client(), cache.wrap(side.client())):
        files = {"image": ("a.png", b"\x89PNG", "image/png")}
        try:
            answer = side.ask(
                client, simulator.url + EDITS, data=FIELDS, files=files, headers={"content-length": length}
            )
            raised.append((answer.status_code, ""))
        except Exception as error:
            raised.append((type(error), str(error)))
    assert raised[0] == raised[1]
    assert cache._engine.faults.count == 0


def test_a_request_is_sent_again_as_often_as_asked(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    """One Request object, sent three times: each time it has its body."""
    wrapped = cache.wrap(side.client())
    request = wrapped.build_request(
        "POST", simulator.url + EDITS, data=FIELDS, files={"image": ("a.png", io.BytesIO(b"\x89PNG"), "image/png")}
    )
    simulator.script("error", "ok")
    outcomes = [side.wait(wrapped.send(request)).headers["x-cachelayer"] for _ in range(3)]
    assert outcomes == ["MISS", "MISS", "HIT"]
    assert simulator.requests[0].body == simulator.requests[1].body


def test_get_and_head_pass_through(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    wrapped = cache.wrap(side.client())
    answer = side.ask(wrapped, simulator.url + "/v1/models", "GET")
    assert answer.json()
    assert reason(answer) == ("BYPASS", "unrecognised")


# Transports of the user's own -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["content", "json", "chunks", "read before"])
def test_ready_made_responses(side: Side, cache: cachelayer.Cache, how: str) -> None:
    calls: list[bytes] = []

    def handle(request: Any) -> Any:
        calls.append(request.content)
        if how == "json":
            return side.module.Response(200, json=json.loads(GOOD), headers={"x-from": "mock"})
        if how == "chunks" and not side.asynchronous:
            return side.module.Response(
                200, content=iter([GOOD[:10], GOOD[10:]]), headers={"content-type": "application/json"}
            )
        return side.module.Response(200, content=GOOD, headers={"content-type": "application/json"})

    if how == "read before":
        import gzip

        plain = handle

        def handle(request: Any) -> Any:
            plain(request)
            headers = {"content-type": "application/json", "content-encoding": "gzip"}
            return side.module.Response(200, content=gzip.compress(GOOD, mtime=0), headers=headers)

    wrapped = cache.wrap(side.client(transport=side.transport(handle)))
    first = side.ask(wrapped, "http://provider.example" + PATH, json=body())
    second = side.ask(wrapped, "http://provider.example" + PATH, json=body())
    assert first.json() == second.json() == json.loads(GOOD)
    assert [first.headers["x-cachelayer"], second.headers["x-cachelayer"]] == ["MISS", "HIT"]
    assert len(calls) == 1
    other = side.ask(wrapped, "http://provider.example/v1/other", json=body())
    assert other.json() == json.loads(GOOD)
    assert reason(other) == ("BYPASS", "unrecognised")


def test_a_transport_that_reads_and_returns(side: Side, cache: cachelayer.Cache) -> None:
    """A logging transport reads the network's answer, then returns it: the stream is used up, the content is there."""
    with Simulator(compress=True) as simulator:
        module = side.module
        if side.asynchronous:

            class Logging(module.AsyncHTTPTransport):  # type: ignore[name-defined, misc]
                async def handle_async_request(self, request: Any) -> Any:
                    response = await super().handle_async_request(request)
                    await response.aread()
                    return response
        else:

            class Logging(module.HTTPTransport):  # type: ignore[name-defined, misc, no-redef]
                def handle_request(self, request: Any) -> Any:
                    response = super().handle_request(request)
                    response.read()
                    return response

        wrapped = cache.wrap(side.client(transport=Logging()))
        first = side.ask(wrapped, simulator.url + PATH, json=body())
        second = side.ask(wrapped, simulator.url + PATH, json=body())
        assert first.headers["content-encoding"] == "gzip"
        assert first.content == second.content
        assert [first.headers["x-cachelayer"], second.headers["x-cachelayer"]] == ["MISS", "HIT"]
        assert simulator.calls == 1


class Odd(Exception):
    """With a constructor that copying does not know."""

    def __init__(self, one: int, *, two: int) -> None:
        super().__init__("odd")
        self.one, self.two = one, two


class OddBase(BaseException):
    pass


@pytest.mark.parametrize(
    "error", [Odd(1, two=2), KeyError("k"), OSError(5, "io"), OddBase("base"), httpx.ReadError("not this module's")]
)
def test_odd_exceptions_come_out_unchanged(side: Side, cache: cachelayer.Cache, error: BaseException) -> None:
    calls = []

    def handle(request: Any) -> Any:
        calls.append(request)
        raise error

    wrapped = cache.wrap(side.client(transport=side.transport(handle)))
    for path in (PATH, "/v1/other"):
        with pytest.raises(type(error)) as caught:
            side.ask(wrapped, "http://provider.example" + path, json=body())
        assert caught.value is error
    assert len(calls) == 2
    assert cache._engine.flights.count() == 0
    stats = cache.stats()
    assert (stats.errors, stats.bypassed, stats.requests) == (1, 1, 2)


def test_an_exhausted_iterator_in_a_mock(cache: cachelayer.Cache) -> None:
    """next() in a mock raises StopIteration; inside a coroutine that would turn into something else."""
    empty: Iterator[httpx.Response] = iter(())
    client = cache.wrap(httpx.Client(transport=httpx.MockTransport(lambda _: next(empty))))
    with pytest.raises(StopIteration), client:
        client.post("http://provider.example" + PATH, json=body())


def test_an_answer_cut_off_by_the_transport(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    simulator.script("disconnect", "disconnect")
    raised = []
    for client in (side.client(), cache.wrap(side.client())):
        with pytest.raises(side.module.RemoteProtocolError) as caught:
            side.ask(client, simulator.url + PATH, json=body())
        raised.append((str(caught.value)[:20], caught.value.request.url.path))
    assert raised[0] == raised[1]
    assert cache.stats().errors == 1


@pytest.mark.parametrize("module", ["httpx", "httpx2"])
def test_a_large_form_is_not_read_while_the_event_loop_waits(
    module: str, cache: cachelayer.Cache, simulator: Simulator
) -> None:
    readers: set[int] = set()

    class Noted(io.BytesIO):
        def read(self, *size: Any) -> bytes:
            readers.add(threading.get_ident())
            return super().read(*size)

    async def main() -> str:
        async with cache.wrap(__import__(module).AsyncClient()) as client:
            files = {"image": ("a.png", Noted(b"\x89PNG" + bytes(200_000)), "image/png")}
            answer = await client.post(simulator.url + EDITS, data=FIELDS, files=files)
            return str(answer.headers["x-cachelayer"])

    assert asyncio.run(main()) == "MISS"
    assert readers
    assert threading.get_ident() not in readers
