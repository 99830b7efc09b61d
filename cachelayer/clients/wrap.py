"""Which client room a given object belongs to, and what to wrap in place of what cannot be. Types are told by name, so
that no SDK is imported to ask.
"""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

from cachelayer.clients.genai import wrap_genai
from cachelayer.clients.httpx_client import wrap_client
from cachelayer.clients.openai import wrap_openai
from cachelayer.core.errors import ConfigError
from cachelayer.runtime.engine import Engine

_KINDS = (
    "cachelayer wraps OpenAI, AsyncOpenAI, AzureOpenAI and AsyncAzureOpenAI, google.genai.Client, and the Client and "
    "AsyncClient of httpx and httpx2"
)
_EXAMPLES = {
    "openai": "OpenAI()",
    "google.genai": "genai.Client()",
    "google": "genai.Client()",
    "httpx": "httpx.Client()",
    "httpx2": "httpx2.Client()",
}


def wrap(engine: Engine, client: Any) -> Any:
    """A cached twin of a client, of the same type. Raises ConfigError when the object is none that we know."""
    for kind in type(client).__mro__:
        match _package(kind), kind.__name__:
            case ("openai", "OpenAI"):
                return wrap_openai(engine, client, asynchronous=False)
            case ("openai", "AsyncOpenAI"):
                return wrap_openai(engine, client, asynchronous=True)
            case ("google.genai", "Client"):
                return wrap_genai(engine, client)
            case ("httpx" | "httpx2", "Client"):
                return wrap_client(engine, client, asynchronous=False)
            case ("httpx" | "httpx2", "AsyncClient"):
                return wrap_client(engine, client, asynchronous=True)
    raise ConfigError(_refusal(client))


def _package(kind: Any) -> str:
    """The package that a class or function comes from: ``openai``, ``google.genai``."""
    parts = str(getattr(kind, "__module__", "")).split(".")
    return ".".join(parts[: 2 if parts[0] == "google" else 1])


def _refusal(given: Any) -> str:
    """What was given, what to do instead, and what can be wrapped: one sentence."""
    what, instead = _instead(given)
    return f"cannot wrap a {what}: " + (f"{instead}; {_KINDS}" if instead else _KINDS)


def _instead(given: Any) -> tuple[str, str]:
    kind = type(given)
    if isinstance(given, ModuleType):
        return f"{kind.__qualname__} ({given.__name__})", _of_a_module(given.__name__)
    if isinstance(given, type):
        return f"{kind.__qualname__} (the class {given.__qualname__})", _of_a_class(given)
    if inspect.isroutine(given):
        name = f"{kind.__qualname__} ({getattr(given, '__qualname__', '?')})"
        if _package(type(getattr(given, "__self__", None))) in _EXAMPLES:
            return name, "wrap the client that it belongs to, and call the method of the twin"
        return name, "wrap the client that it uses"
    name = f"{kind.__module__}.{kind.__qualname__}"
    for base in kind.__mro__:
        instead = _of_an_object(_package(base), base.__name__)
        if instead is not None:
            return name, instead
    return name, ""


def _of_an_object(package: str, name: str) -> str | None:
    match package, name:
        case ("requests", "Session"):
            return _LATER.format("requests", "httpx.Client")
        case ("aiohttp", "ClientSession"):
            return _LATER.format("aiohttp", "httpx.AsyncClient")
        case ("google.genai", "AsyncClient"):
            return "wrap the genai.Client that it belongs to, cache.wrap(client), and use the .aio of the twin"
        case ("httpx" | "httpx2", _) if name.endswith("Transport"):
            client = f"{package}.{'AsyncClient' if name.startswith('Async') else 'Client'}"
            return f"wrap the client that sends through it, cache.wrap({client}(transport=...))"
        case ("openai" | "google.genai", _):
            return f"it is a part of a client: wrap the client, cache.wrap({_EXAMPLES[package]}), and use the twin's"
    return None


_LATER = (
    "what goes through {0} is not cached yet; until then make the call with {1}, which takes the same "
    "post(url, headers=..., json=...), and wrap that"
)


def _of_a_module(name: str) -> str:
    if name in ("requests", "aiohttp"):
        return _LATER.format(name, "httpx.Client" if name == "requests" else "httpx.AsyncClient")
    return f"wrap a client that was made from it, cache.wrap({_EXAMPLES.get(name, 'client')})"


def _of_a_class(kind: type) -> str:
    return f"wrap an object, not its class: cache.wrap({kind.__name__}(...))"
