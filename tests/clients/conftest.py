"""The four clients of httpx and httpx2 as one fixture, so that what holds for one is asked of all."""

from __future__ import annotations

import asyncio
import gc
import inspect
import ssl
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from tests.clients.canned import Canned

_TRUST = ssl.create_default_context()
"""One for all: to read the certificates again for each client takes longer than the tests."""


class Side:
    """One module's blocking or asynchronous clients. Asynchronous calls share one event loop."""

    def __init__(self, module: ModuleType, asynchronous: bool) -> None:
        self.module, self.asynchronous = module, asynchronous
        self._runner = asyncio.Runner()
        self._made: list[Any] = []

    def client(self, **settings: Any) -> Any:
        settings.setdefault("verify", _TRUST)
        made = (self.module.AsyncClient if self.asynchronous else self.module.Client)(**settings)
        self._made.append(made)
        return made

    def wait(self, result: Any) -> Any:
        """What a call gives, awaited where it has to be."""
        if not inspect.isawaitable(result):
            return result

        async def awaited() -> Any:
            return await result

        return self._runner.run(awaited())

    def ask(self, client: Any, url: str, method: str = "POST", **arguments: Any) -> Any:
        return self.wait(client.request(method, url, **arguments))

    def raw(self, client: Any, url: str, **arguments: Any) -> tuple[Any, list[bytes]]:
        """The response and its body as it came, chunk by chunk."""
        if not self.asynchronous:
            with client.stream("POST", url, **arguments) as response:
                return response, list(response.iter_raw())

        async def read() -> tuple[Any, list[bytes]]:
            async with client.stream("POST", url, **arguments) as response:
                return response, [chunk async for chunk in response.aiter_raw()]

        return self.wait(read())  # type: ignore[no-any-return]

    def together(self, client: Any, url: str, requests: list[dict[str, Any]]) -> list[Any]:
        """All at once; an exception stands where it was raised."""
        if self.asynchronous:

            async def gather() -> list[Any]:
                return await asyncio.gather(
                    *(client.post(url, **request) for request in requests), return_exceptions=True
                )

            return self.wait(gather())  # type: ignore[no-any-return]
        from concurrent.futures import ThreadPoolExecutor

        def one(request: dict[str, Any]) -> Any:
            try:
                return client.post(url, **request)
            except Exception as error:
                return error

        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(one, requests))

    def transport(self, handle: Any) -> Any:
        """A transport of the user's own, around a function from request to response."""
        module = self.module
        if not self.asynchronous:

            class Transport(module.BaseTransport):  # type: ignore[name-defined, misc]
                def handle_request(self, request: Any) -> Any:
                    return handle(request)

            return Transport()

        class AsyncTransport(module.AsyncBaseTransport):  # type: ignore[name-defined, misc]
            async def handle_async_request(self, request: Any) -> Any:
                return handle(request)

        return AsyncTransport()

    def close(self, client: Any) -> None:
        self.wait(client.aclose() if self.asynchronous else client.close())

    def end(self) -> None:
        for client in self._made:
            if not client.is_closed:
                self.close(client)
        self._runner.close()


@pytest.fixture(
    params=[(httpx, False), (httpx, True), (httpx2, False), (httpx2, True)],
    ids=["httpx", "httpx-async", "httpx2", "httpx2-async"],
)
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    side = Side(*request.param)
    yield side
    side.end()


@pytest.fixture
def canned() -> Iterator[Canned]:
    with Canned() as server:
        yield server


@pytest.fixture
def collected() -> Iterator[None]:
    """For tests that leave SDK clients unclosed, as most programs do: they close themselves in __del__. Whether that
    comes before the sockets' own finalizers is up to the collector, so such tests ignore ResourceWarning, and leave
    nothing to be collected in another test."""
    yield
    gc.collect()
