"""google.genai.Client, sync and .aio.

The SDK has no public way to copy a client or to replace its http clients, so this file knows its insides (tried with
google-genai 1.75 to 3.6). Two traps shape it: .aio goes through aiohttp when that is installed, past every httpx
transport; and from 3.x on the asynchronous client keeps one pool per event loop, so that a transport swapped into it is
never used. Hence .aio gets an httpx client whose transport sends through the given client's own `send`, which picks the
running loop's pool; hooks and auth run there, not twice.
"""

from __future__ import annotations

import copy
from typing import Any

from cachelayer.clients.httpx import module_of, transports, wrap_client
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
    api = copy.copy(given)
    api._cachelayer_engine = engine
    api._httpx_client = wrap_client(engine, given._httpx_client, asynchronous=False)
    api._async_httpx_client = _wrap_async(engine, given._async_httpx_client)
    api._use_aiohttp = lambda: False
    api._aiohttp_sessions = {}

    wrapped = copy.copy(client)
    wrapped._cachelayer_given = client
    wrapped._api_client = api
    _rebind(wrapped, client, given, api)
    wrapped._aio = copy.copy(client._aio)
    wrapped._aio._api_client = api
    _rebind(wrapped._aio, client._aio, given, api)
    return wrapped


def _rebind(wrapped: Any, client: Any, given: Any, api: Any) -> None:
    """Make the resources of a copied client (models, files, chats, ...) use the copied api client."""
    for name, member in vars(client).items():
        if getattr(member, "_api_client", None) is given:
            twin = copy.copy(member)
            twin._api_client = api
            setattr(wrapped, name, twin)
        elif name.startswith("_nextgen") or name in _LAZY:
            setattr(wrapped, name, None)  # made anew on first use, from the copied api client


_LAZY = (
    "_agents",
    "_interactions",
    "_webhooks",
    "_triggers",
    "_environments",
    "_credentials",
    "_voices",
    "_decisions",
)


def _wrap_async(engine: Engine, client: Any) -> Any:
    if not getattr(client, "_per_loop", False):
        return wrap_client(engine, client, asynchronous=True)
    module = module_of(client)

    class SendThrough(module.AsyncBaseTransport):  # type: ignore[name-defined, misc]
        async def handle_async_request(self, request: Any) -> Any:
            return await client.send(request, stream=True, auth=None, follow_redirects=False)

        async def aclose(self) -> None:
            await client.aclose()

    wrapped = wrap_client(engine, client, asynchronous=True)
    wrapped._per_loop = False
    wrapped._mounts = {}
    wrapped.event_hooks = {}
    wrapped._transport = transports(module).asynchronous(engine, SendThrough())
    return wrapped
