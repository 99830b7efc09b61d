"""Which client room a given object belongs to. Types are told by name, so that no SDK is imported to ask."""

from __future__ import annotations

from typing import Any

from cachelayer.clients.genai import wrap_genai
from cachelayer.clients.httpx_client import wrap_client
from cachelayer.clients.openai import wrap_openai
from cachelayer.core.errors import ConfigError
from cachelayer.runtime.engine import Engine


def wrap(engine: Engine, client: Any) -> Any:
    """A cached twin of a client, of the same type. Raises ConfigError when the object is none that we know."""
    for kind in type(client).__mro__:
        match kind.__module__.partition(".")[0], kind.__name__:
            case ("openai", "OpenAI"):
                return wrap_openai(engine, client, asynchronous=False)
            case ("openai", "AsyncOpenAI"):
                return wrap_openai(engine, client, asynchronous=True)
            case ("google", "Client") if kind.__module__.startswith("google.genai"):
                return wrap_genai(engine, client)
            case ("httpx" | "httpx2", "Client"):
                return wrap_client(engine, client, asynchronous=False)
            case ("httpx" | "httpx2", "AsyncClient"):
                return wrap_client(engine, client, asynchronous=True)
    raise ConfigError(
        f"cannot wrap a {type(client).__module__}.{type(client).__qualname__}: cachelayer wraps OpenAI, AsyncOpenAI, "
        "AzureOpenAI and AsyncAzureOpenAI, google.genai.Client, and the Client and AsyncClient of httpx and httpx2"
    )
