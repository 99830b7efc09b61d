"""google.genai.Client, sync and .aio.

The SDK has no public way to copy a client or to replace its http clients, so this file knows its insides (tried with
google-genai 1.75 to 3.6). Two traps shape it: .aio goes through aiohttp when that is installed, past every httpx
transport; and connections belong to an event loop, so that one pool fails in the second asyncio.run of a program. Where
the SDK keeps a pool per loop (3.x: its own; 1.x: aiohttp's) so does the copy.
"""

from __future__ import annotations

import asyncio
import copy
import weakref
from collections.abc import Callable
from typing import Any

from cachelayer.clients.httpx import transports
from cachelayer.clients.httpx_client import module_of, spare_from_finalizer, wrap_client
from cachelayer.core.errors import ConfigError
from cachelayer.runtime.engine import Engine


def wrap_genai(engine: Engine, client: Any) -> Any:
    """The same type back; the given client is not changed, is kept alive, and shares its pools.

    Raises ConfigError for a client whose asynchronous half cannot be led through httpx.
    """
    given = client._api_client
    if getattr(given, "_cachelayer_engine", None) is engine:
        return client
    if given._async_httpx_client is None:
        raise ConfigError(
            "this genai.Client sends asynchronous requests through google-auth's own session, which cannot be cached; "
            "give it http_options with async_client_args={'transport': httpx.AsyncHTTPTransport()}"
        )
    if given._http_options.aiohttp_client is not None:
        raise ConfigError(
            "this genai.Client sends asynchronous requests through an aiohttp_client of yours, which cannot be cached; "
            "leave it out of http_options, or give httpx_async_client in its place"
        )
    api = copy.copy(given)
    api._cachelayer_engine = engine
    api._httpx_client = wrap_client(engine, given._httpx_client, asynchronous=False, owner=client)
    api._async_httpx_client = _wrap_async(engine, client, given)
    api._use_aiohttp = lambda: False
    api._aiohttp_sessions = {}
    spare_from_finalizer(api, "close", "aclose")

    wrapped = copy.copy(client)
    wrapped._cachelayer_given = client
    wrapped._api_client = api
    _rebind(wrapped, client, given, api)
    _rebind(wrapped._aio, client._aio, given, api)  # a copy by now: never make one to throw away, 1.x closes in __del__
    spare_from_finalizer(wrapped, "close")
    spare_from_finalizer(wrapped._aio, "aclose")
    return wrapped


def _rebind(wrapped: Any, client: Any, given: Any, api: Any) -> None:
    """Make the resources of a copied client (models, files, aio, ...) copies that use the copied api client."""
    for name, member in vars(client).items():
        if _is_generated(member):
            setattr(wrapped, name, None)  # made anew on first use, from the copied api client
        elif getattr(member, "_api_client", None) is given:
            twin = copy.copy(member)
            twin._api_client = api
            setattr(wrapped, name, twin)


def _is_generated(member: Any) -> bool:
    """Whether this is one of the lazily made resources (interactions, ...), which hold an http client of their own."""
    module = type(member).__module__
    return module.startswith(("google.genai._gaos", "google.genai._interactions"))


def _wrap_async(engine: Engine, client: Any, given: Any) -> Any:
    """A copy of the asynchronous http client; one that the SDK made for itself gets a pool per event loop."""
    http = given._async_httpx_client
    module = module_of(http)
    wrapped = wrap_client(engine, http, asynchronous=True, owner=client)
    arguments = given._async_httpx_client_args
    theirs = given._http_options.httpx_async_client is not None or "transport" in arguments or "mounts" in arguments
    if wrapped is http or theirs or isinstance(http._transport, transports(module).asynchronous):
        return wrapped
    pick = getattr(http, "_client_for_running_loop", None) or _client_per_loop(module, arguments)
    wrapped._per_loop = False
    wrapped._loop_clients = {}  # the given client's must not be closed with the copy
    wrapped._mounts = {}
    wrapped._transport = transports(module).asynchronous(
        engine, _per_loop(module, http, pick), client, lambda: bool(http.is_closed)
    )
    return wrapped


def _client_per_loop(module: Any, arguments: dict[str, Any]) -> Callable[[], Any]:
    """Gives the running loop's client, made with the arguments that the SDK made its own with."""
    clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()

    def pick() -> Any:
        loop = asyncio.get_running_loop()
        if loop not in clients:
            clients[loop] = module.AsyncClient(**arguments)
        return clients[loop]

    return pick


def _per_loop(module: Any, http: Any, pick: Callable[[], Any]) -> Any:
    """A transport that sends through the transports of the running loop's client.

    Through its transports, not through its send: hooks, auth, cookies and redirects are the copy's, once.
    """
    used: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()

    class PerLoopTransport(module.AsyncBaseTransport):  # type: ignore[misc]
        tells_when_it_waits = True

        def stands_for(self, request: Any) -> Any:
            if http.is_closed:
                raise RuntimeError("Cannot send a request, as the client has been closed.")
            client = used[asyncio.get_running_loop()] = pick()
            return client._transport_for_url(request.url)

        async def handle_async_request(self, request: Any) -> Any:
            return await self.stands_for(request).handle_async_request(request)

        async def aclose(self) -> None:
            """Close the running loop's connections; the given client stays open and makes new ones."""
            client = used.get(asyncio.get_running_loop())
            if client is not None:
                for transport in (client._transport, *client._mounts.values()):
                    if transport is not None:
                        await transport.aclose()

    return PerLoopTransport()
