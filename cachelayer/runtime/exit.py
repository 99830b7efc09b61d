"""The end of the process: wait for flights that were already paid for, say so on stderr, then close the caches.

A first Ctrl-C ends the program and brings us here; a second one, here, abandons the flights. SIGTERM kills a program
at once unless it, or the setting drain_on_sigterm, says otherwise; docs/deploy.md says who else leaves without us.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

from cachelayer.runtime.log import logger


class Flying(Protocol):
    """The flights of a folder, as this file sees them."""

    def paid_for(self) -> int:
        """Flights whose request was sent, and that would be lost if the process ended now."""
        ...

    def wait_idle(self, timeout: float) -> int:
        """Wait for all flights, at most timeout seconds; the number of those that did not end."""
        ...


class Closable(Protocol):
    """A cache, as this file sees it."""

    drain_timeout: float

    @property
    def flights(self) -> Flying:
        """The flights of its folder; caches of one folder share them."""
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
    folders = {id(cache.flights): cache.flights for cache in caches}.values()
    limit = max((cache.drain_timeout for cache in caches), default=0.0)
    paid_for = sum(flights.paid_for() for flights in folders)
    try:
        if paid_for:
            answers = "1 answer that is" if paid_for == 1 else f"{paid_for} answers that are"
            _say(f"waiting up to {limit:g} s for {answers} already paid for (Ctrl-C abandons)")
        deadline = time.monotonic() + limit
        for flights in folders:
            flights.wait_idle(max(0.0, deadline - time.monotonic()))
    except KeyboardInterrupt:
        pass
    lost = sum(flights.paid_for() for flights in folders)
    if lost:
        logger.warning("gave up on %s already paid for", "1 answer" if lost == 1 else f"{lost} answers")
    for last in before_the_end:
        last()
    for cache in caches:
        cache.release()


def drain_on_sigterm() -> None:
    """Make SIGTERM an orderly end: flights are waited for, then the signal is sent again.

    Only where it would kill the process at once: a handler of the program's own stays, and decides. Only from the main
    thread, where alone Python lets handlers be set; elsewhere one warning. A second SIGTERM ends at once.
    """
    try:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _on_sigterm)
    except ValueError:
        logger.warning("drain_on_sigterm has no effect: the Cache was not made in the main thread")


def _on_sigterm(signum: int, frame: object) -> None:
    # Not here: the handler interrupts the very loop, or holder of a lock, that a flight may need to go on.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # No daemon: a program that ends meanwhile waits for it.
    threading.Thread(target=_drain_and_end, name="cachelayer-sigterm", daemon=False).start()


def _drain_and_end() -> None:
    drain()
    os.kill(os.getpid(), signal.SIGTERM)


def _say(sentence: str) -> None:
    try:
        print(f"cachelayer: {sentence}", file=sys.stderr, flush=True)
    except (OSError, ValueError):  # stderr is gone; there is nobody to tell
        return
