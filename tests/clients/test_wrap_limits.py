"""Timeouts, pool limits and trace callbacks of the user's own, with the cache before them."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.clients.conftest import Side


@pytest.fixture
def slow() -> Iterator[Simulator]:
    with Simulator(latency=0.15) as simulator:
        yield simulator


def test_queueing_for_a_connection_is_no_read_timeout(side: Side, cache: cachelayer.Cache, slow: Simulator) -> None:
    """Ten keys over two connections: the last ones queue longer than the read timeout, in the plain client as well."""
    settings = {
        "limits": side.module.Limits(max_connections=2),
        "timeout": side.module.Timeout(60, read=0.6),
    }
    asked = [{"json": body(f"prompt {number}", size="16x16")} for number in range(10)]
    answers = side.together(cache.wrap(side.client(**settings)), slow.url + PATH, asked)
    assert [getattr(answer, "status_code", answer) for answer in answers] == [200] * 10
    assert slow.calls == 10


def test_the_pool_timeout_is_the_users_own(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    settings = {"limits": side.module.Limits(max_connections=1), "timeout": side.module.Timeout(60, pool=0.05)}
    simulator.hold()
    release = threading.Timer(1.0, simulator.release)
    release.start()
    asked = [{"json": body(f"prompt {number}", size="16x16")} for number in range(2)]
    answers = side.together(cache.wrap(side.client(**settings)), simulator.url + PATH, asked)
    release.join()
    kinds = sorted(type(answer).__name__ for answer in answers)
    assert kinds == ["PoolTimeout", "Response"]
    (error,) = [answer for answer in answers if isinstance(answer, Exception)]
    assert type(error) is side.module.PoolTimeout
    stats = cache.stats()
    assert (stats.errors, stats.misses, stats.unpriced) == (1, 1, 0)  # what was never sent was not billed


@pytest.fixture
def refused() -> Iterator[str]:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_refused_connection_is_the_modules_own_error_for_all(
    side: Side, cache: cachelayer.Cache, refused: str
) -> None:
    plain = side.client()
    with pytest.raises(side.module.ConnectError) as expected:
        side.ask(plain, refused + PATH, json=body())
    wrapped = cache.wrap(side.client())
    errors = side.together(wrapped, refused + PATH, [{"json": body()}] * 5)
    assert {type(error) for error in errors} == {side.module.ConnectError}
    assert {str(error) for error in errors} == {str(expected.value)}
    assert all(error.request.url.path == PATH for error in errors)
    assert len({id(error) for error in errors}) == 5
    stats = cache.stats()
    assert (stats.errors, stats.unpriced, stats.upstream_calls) == (5, 0, 0)


def test_a_joiner_of_the_other_module_gets_his_own_kind(cache: cachelayer.Cache) -> None:
    entered, go = threading.Event(), threading.Event()

    def fail(request: httpx.Request) -> httpx.Response:
        entered.set()
        assert go.wait(10)
        raise httpx.ReadError("gone", request=request)

    starter = cache.wrap(httpx.Client(transport=httpx.MockTransport(fail)))
    joiner = cache.wrap(httpx2.Client())
    errors: list[BaseException] = []

    def ask(client: Any) -> None:
        try:
            client.post("http://provider.example" + PATH, json=body())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(client,)) for client in (starter, joiner)]
    threads[0].start()
    assert entered.wait(10)
    threads[1].start()
    flight = next(iter(cache._engine.flights._by_key.values()))
    while flight.passengers < 2:
        threading.Event().wait(0.002)
    go.set()
    for thread in threads:
        thread.join()
    starter.close()
    joiner.close()
    assert {type(error) for error in errors} == {httpx.ReadError, httpx2.ReadError}
    assert {str(error) for error in errors} == {"gone"}


class Deaf:
    """Accepts connections and reads nothing."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(8)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    server = Deaf()
    yield server
    server.close()


def test_a_write_timeout_is_the_users_own(side: Side, cache: cachelayer.Cache, deaf: Deaf) -> None:
    timeout = side.module.Timeout(60, write=0.1, read=0.01)
    large = body("p" * 12_000_000)
    for client in (side.client(timeout=timeout), cache.wrap(side.client(timeout=timeout))):
        with pytest.raises(side.module.WriteTimeout):
            side.ask(client, deaf.url + PATH, json=large)
    assert cache.stats().errors == 1


def test_the_users_trace_sees_what_it_saw_before(side: Side, cache: cachelayer.Cache, simulator: Simulator) -> None:
    seen: list[str] = []

    def trace(name: str, info: Any) -> None:
        seen.append(name)

    async def trace_async(name: str, info: Any) -> None:
        seen.append(name)

    extensions = {"trace": trace_async if side.asynchronous else trace}
    side.ask(side.client(), simulator.url + PATH, json=body(), extensions=extensions)
    plain, seen = seen, []
    wrapped = cache.wrap(side.client())
    side.ask(wrapped, simulator.url + PATH, json=body(), extensions=extensions)
    assert seen == plain
    assert "http11.receive_response_headers.started" in seen
    seen = []
    side.ask(wrapped, simulator.url + PATH, json=body(), extensions=extensions)
    assert seen == []  # a hit opens no connection


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_connecting_through_a_proxy_is_no_read_timeout(module: Any, cache: cachelayer.Cache) -> None:
    """The proxy answers CONNECT at once, then TLS takes longer than the read timeout: connecting has its own."""
    proxy = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = proxy.accept()
        with connection:
            while b"\r\n\r\n" not in connection.recv(65_536):
                pass
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while connection.recv(65_536):  # the TLS greeting, never answered
                pass

    raised = []
    url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
    wraps: list[Callable[[Any], Any]] = [lambda client: client, cache.wrap]
    for wrap in wraps:
        thread = threading.Thread(target=serve)
        thread.start()
        timeout = module.Timeout(60, connect=0.4, read=0.1)
        client = wrap(module.Client(proxy=url, timeout=timeout))
        with pytest.raises(module.TransportError) as caught, client:
            client.post("https://provider.example" + PATH, json=body())
        raised.append(type(caught.value))
        thread.join()
    proxy.close()
    assert raised == [module.ConnectTimeout] * 2


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_another_event_loop_than_asyncios_only_forwards(module: Any, cache: cachelayer.Cache) -> None:
    """Any other loop, trio's too, steps a coroutine as is done here: asyncio's is not running."""
    asked = []

    def provider(request: Any) -> Any:
        asked.append(request)
        return module.Response(200, json={})

    async def main() -> list[Any]:
        async with cache.wrap(module.AsyncClient(transport=module.MockTransport(provider))) as client:
            return [await client.post("http://provider.example" + PATH, json=body()) for _ in range(2)]

    with pytest.raises(StopIteration) as ended:
        main().send(None)
    assert {answer.headers["x-cachelayer-reason"] for answer in ended.value.value} == {"not-asyncio"}
    assert len(asked) == 2
    assert cache.stats().bypassed == 2


def test_a_cancelled_passed_through_request_counts(cache: cachelayer.Cache, simulator: Simulator) -> None:
    async def main() -> None:
        simulator.hold()
        async with cache.wrap(httpx.AsyncClient()) as client:
            task = asyncio.create_task(client.post(simulator.url + PATH, json=body(stream=True)))
            await asyncio.to_thread(simulator.wait_for_calls, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert (cache.stats().requests, cache.stats().bypassed) == (1, 1)
