"""OpenAI, AsyncOpenAI, AzureOpenAI, AsyncAzureOpenAI: a shallow copy around a copy of the client's http client.

`with_options(http_client=...)` was rejected: it loses default headers, params and cookies, and fails on subclasses with
an __init__ of their own.
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

from cachelayer.clients.httpx_client import wrap_client
from cachelayer.runtime.engine import Engine


def wrap_openai(engine: Engine, client: Any, *, asynchronous: bool) -> Any:
    """The same type back; the given client is not changed, is kept alive, and shares its pool."""
    http = wrap_client(engine, client._client, asynchronous=asynchronous)
    if http is client._client:
        return client
    wrapped = copy.copy(client)
    # Resources (client.images, ...) are cached on first use and hold on to the client they were made for.
    for kind in type(client).__mro__:
        for name, member in vars(kind).items():
            if isinstance(member, cached_property) and _is_resource(client.__dict__.get(name), client):
                wrapped.__dict__.pop(name, None)
    wrapped._client = http
    wrapped._cachelayer_given = client
    return wrapped


def _is_resource(value: Any, client: Any) -> bool:
    return type(value).__module__.startswith("openai.") or getattr(value, "_client", None) is client
