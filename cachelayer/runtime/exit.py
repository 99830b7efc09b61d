"""The end of the process: wait for flights that were already paid for, say so on stderr, then close the caches.

A first Ctrl-C ends the program and brings us here; a second one, here, abandons the flights.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import Protocol


class Closable(Protocol):
    """A cache, as this file sees it."""

    drain_timeout: float

    def flights_under_way(self) -> int:
        """Flights that would be lost if the process ended now."""
        ...

    def wait_idle(self, timeout: float) -> int:
        """Wait for them, at most timeout seconds; the number of those that did not end."""
        ...

    def release(self) -> None:
        """Let go of files."""
        ...


before_the_end: list[Callable[[], None]] = []
"""Called at the end of the process, when nothing is waited for any more and the caches are still open."""
_open: dict[int, Closable] = {}
_watching_pid: int | None = None
_lock = threading.Lock()


def register(cache: Closable) -> None:
    """Have a cache drained and closed when the process ends."""
    watch_exit()
    _open[id(cache)] = cache


def unregister(cache: Closable) -> None:
    """The cache was closed already."""
    _open.pop(id(cache), None)


def watch_exit() -> None:
    """Make sure that this process drains at its end. Cheap; called at every launch, since a fork may lie between."""
    global _watching_pid
    if _watching_pid == os.getpid():
        return
    with _lock:
        if _watching_pid == os.getpid():
            return
        first = _watching_pid is None
        _watching_pid = os.getpid()
    if first:
        atexit.register(drain)
    # A forked multiprocessing child leaves by os._exit, without atexit; its own finalizers do run.
    multiprocessing_util = sys.modules.get("multiprocessing.util")
    if multiprocessing_util is not None:
        multiprocessing_util.Finalize(None, drain, exitpriority=10)


def drain() -> None:
    """Wait for all flights, no longer than the caches' drain_timeout; then let go of their files."""
    caches = list(_open.values())
    _open.clear()
    under_way = sum(cache.flights_under_way() for cache in caches)
    if under_way:
        limit = max(cache.drain_timeout for cache in caches)
        answers = "1 answer that is" if under_way == 1 else f"{under_way} answers that are"
        try:
            _say(f"waiting up to {limit:g} s for {answers} already paid for (Ctrl-C abandons)")
            lost = sum(cache.wait_idle(limit) for cache in caches)
        except KeyboardInterrupt:
            lost = sum(cache.flights_under_way() for cache in caches)
        if lost:
            _say(f"gave up on {lost} of them")
    for last in before_the_end:
        last()
    for cache in caches:
        cache.release()


def _say(sentence: str) -> None:
    try:
        print(f"cachelayer: {sentence}", file=sys.stderr, flush=True)
    except (OSError, ValueError):  # stderr is gone; there is nobody to tell
        return
