"""Wrapping the Client and AsyncClient of httpx and httpx2: a copy whose transports stand behind ours."""

from __future__ import annotations

import copy
import sys
import weakref
from collections.abc import Awaitable
from types import FrameType, ModuleType
from typing import Any

from cachelayer.clients.httpx import transports
from cachelayer.runtime.engine import Engine


def wrap_client(engine: Engine, client: Any, *, asynchronous: bool, owner: Any = None) -> Any:
    """A copy of a client whose transports stand behind ours. Settings, hooks, cookies, auth and pool are shared.

    owner: the object that closes the pool when it is dropped, the client itself when None; it is kept alive.
    A fresh client around the given one was rejected: it loses default headers, params, cookies and subclasses' own
    attributes. A shallow copy keeps them all.
    """
    module = module_of(client)
    kind = transports(module).asynchronous if asynchronous else transports(module).sync
    if isinstance(client._transport, kind) and client._transport._engine is engine:
        return client  # wrapped by this cache before: a second layer would count every request twice
    owner = client if owner is None else owner
    wrapped = copy.copy(client)

    def is_closed() -> bool:
        return bool(client.is_closed)

    wrapped._transport = kind(engine, client._transport, owner, is_closed)
    wrapped._mounts = {
        pattern: None if inner is None else kind(engine, inner, owner, is_closed)
        for pattern, inner in client._mounts.items()
    }
    spare_from_finalizer(wrapped, "aclose" if asynchronous else "close")
    return wrapped


def spare_from_finalizer(wrapped: Any, *names: str) -> None:
    """Make the closing methods of a copy do nothing when a finalizer calls them.

    SDKs close their client in its __del__. Of a copy that would close the pool it shares with the given client, which
    may still be in use; the given client's own __del__ does it when its time comes.
    """
    for name in names:
        setattr(wrapped, name, _Closing(wrapped, name))


class _Closing:
    """A method of a copy, but for finalizers. It holds the copy weakly: a cycle would keep it past its last use."""

    def __init__(self, owner: Any, name: str) -> None:
        self._owner, self._name = weakref.ref(owner), name

    def __call__(self) -> Awaitable[None] | None:
        owner = self._owner()
        if owner is None or _in_finalizer(sys._getframe(1)):
            return None
        result: Awaitable[None] | None = getattr(type(owner), self._name)(owner)
        return result


def _in_finalizer(frame: FrameType | None) -> bool:
    # The whole stack: an SDK's __del__ gets here through the close of its outer client.
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def module_of(client: Any) -> ModuleType:
    """httpx or httpx2: the module whose client this is."""
    for base in type(client).__mro__:
        root = base.__module__.partition(".")[0]
        if root in ("httpx", "httpx2"):
            return sys.modules[root]
    raise TypeError(f"{type(client).__name__} is no client of httpx or httpx2")
