"""Keeps a transport open until the last flight through it has ended: closing it would kill them, and with them images
that were paid for. Only that lives here.

A twin shares the given client's transports, so either of them may be closed under a flight of the other: `with
httpx.Client() as given` ends, while a flight of its twin goes on. While flights use a transport, its closing methods
are replaced on the object itself by ones that note "later"; the last flight takes them off again and closes. What has
a pool of connections (httpx's own transports) is held there too, since `with transport` passes its own methods by.
Who closes gets his answer at once, and the client reads as closed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from cachelayer.machine import forks
from cachelayer.runtime.log import logger

_SYNC = ("close", "__exit__")
_ASYNC = ("aclose", "__aexit__")


class Hold:
    """What one twin knows of the transports it stands before.

    owner: kept alive while flights go through them (SDKs close their pool when their client is dropped). is_closed:
    whether the given client was closed; it may have been before the flight's own use began.
    """

    def __init__(self, owner: object, is_closed: Callable[[], bool], *, asynchronous: bool) -> None:
        self._owner, self._is_closed = owner, is_closed
        self._names = _ASYNC if asynchronous else _SYNC
        self._twin_closed = False

    def using(self, transport: Any) -> Use:
        """While a flight goes through a transport: `with`, or `async with` for an asynchronous one."""
        return Use(self, transport)

    def enter(self, transport: Any, flight: object) -> None:
        """A flight begins to use a transport."""
        with _lock:
            held = _held.get(id(transport))
            if held is None:
                held = _held[id(transport)] = _Held(transport, self._names)
                held.postpone()
            held.flights.add(flight)

    def leave(self, transport: Any, flight: object) -> list[Callable[[], Any]]:
        """It has ended; what the leaver has to call now (and await, of an asynchronous transport)."""
        with _lock:
            held = _held.get(id(transport))
            if held is None:
                return []
            held.flights.discard(flight)
            if held.flights:
                return []
            del _held[id(transport)]
            held.restore()
        if self._twin_closed or self._reads_closed():  # before the flight had begun to use the transport, maybe
            held.note(transport)
        return [getattr(one, self._names[0]) for one in held.closing]

    def may_close(self, transport: Any) -> bool:
        """The twin is being closed. True: no flight uses the transport, close it now. False: the last flight will."""
        self._twin_closed = True
        with _lock:
            held = _held.get(id(transport))
            if held is None:
                return True
            held.note(transport)
            return False

    def _reads_closed(self) -> bool:
        try:
            return bool(self._is_closed())
        except Exception:  # a client of the user's own making
            return False


class Use:
    """One flight's use of a transport. A class: asyncio closes what generators it knows of when its loop ends, the
    flight goes on."""

    def __init__(self, hold: Hold, transport: Any) -> None:
        self._hold, self._transport = hold, transport

    def __enter__(self) -> None:
        self._hold.enter(self._transport, self)

    def __exit__(self, *exception: object) -> None:
        for close in self._hold.leave(self._transport, self):
            try:
                close()
            except Exception as error:
                self._say(error)

    async def __aenter__(self) -> None:
        self._hold.enter(self._transport, self)

    async def __aexit__(self, *exception: object) -> None:
        for close in self._hold.leave(self._transport, self):
            try:
                await close()
            except Exception as error:
                self._say(error)

    def _say(self, error: Exception) -> None:
        # The answer is there; the transport's own trouble must not cost it.
        logger.debug("a transport could not be closed: %s", error)


class _Held:
    """One transport in use."""

    def __init__(self, transport: Any, names: tuple[str, str]) -> None:
        self.flights: set[object] = set()
        self.closing: list[Any] = []
        pool = getattr(transport, "_pool", None)
        self._targets = [transport, pool] if callable(getattr(pool, names[0], None)) else [transport]
        self._names = names
        self._put: list[tuple[Any, str, Any]] = []

    def note(self, target: Any) -> None:
        if not any(one is target for one in self.closing):
            self.closing.append(target)

    def postpone(self) -> None:
        for target in self._targets:
            later = _later_async(self, target) if self._names is _ASYNC else _later(self, target)
            for name in self._names:
                try:
                    before = vars(target).get(name, _NOTHING)
                    setattr(target, name, later)
                except (AttributeError, TypeError):  # an object without attributes of its own: its close stays as it is
                    continue
                self._put.append((target, name, before))

    def restore(self) -> None:
        for target, name, before in self._put:
            if before is _NOTHING:
                vars(target).pop(name, None)
            else:
                setattr(target, name, before)
        self._put.clear()


def _later(held: _Held, target: Any) -> Callable[..., None]:
    def close(*exception: object) -> None:
        held.note(target)

    return close


def _later_async(held: _Held, target: Any) -> Callable[..., Any]:
    async def aclose(*exception: object) -> None:
        held.note(target)

    return aclose


_NOTHING = object()
# Reentrant: a signal handler or the garbage collector may close a client while this thread is in here.
_lock = threading.RLock()
_held: dict[int, _Held] = {}
"""By the transport's id; each holds its transport, so that no other object can have that id meanwhile."""


def _begin_anew() -> None:
    # A forked child has none of its parent's flights.
    global _lock
    _lock = threading.RLock()
    for held in list(_held.values()):
        held.restore()
    _held.clear()


forks.in_child(_begin_anew)
