"""A few threads of our own, for what an event loop must not wait for.

asyncio's default executor was rejected: it has cpu + 4 threads that the user's own blocking jobs may fill, and it
refuses work once the interpreter is ending, which is just when a flight wants to store its answer. These threads are
daemons. What waits for the disk (an fsync may take a tenth of a second) has threads apart, and
no hit queues behind it.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_THREADS = 4
"""Of each kind. More only wait for the same disk, or for the GIL."""

_Job = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class Workers:
    """Two pools, readers and writers. Each starts with its first job, and anew in a forked child."""

    def __init__(self) -> None:
        self._readers, self._writers = _Pool("reader"), _Pool("writer")

    async def run(self, work: Callable[[], T], *, syncs: bool = False) -> T:
        """The result of work, done in a worker thread. Cancelling the wait does not stop the work.

        syncs: it waits until something is on the disk.
        """
        return await (self._writers if syncs else self._readers).run(work)

    def stop(self) -> None:
        """Let the threads end once they have done what is queued."""
        self._readers.stop()
        self._writers.stop()


class _Pool:
    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._pid: int | None = None
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        if self._pid != os.getpid():
            self._start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((work, loop, future))
        return await future

    def _start(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            self._jobs = queue.SimpleQueue()
            for number in range(_THREADS):
                threading.Thread(
                    target=_serve_jobs, args=(self._jobs,), name=f"cachelayer-{self._name}-{number}", daemon=True
                ).start()
            self._pid = os.getpid()

    def stop(self) -> None:
        if self._pid == os.getpid():
            for _ in range(_THREADS):
                self._jobs.put(None)
        self._pid = None


def _serve_jobs(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        work, loop, future = job
        try:
            result, error = work(), None
        except BaseException as raised:
            result, error = None, raised
        try:
            loop.call_soon_threadsafe(_settle, future, result, error)
        except RuntimeError:  # the loop is closed: nobody waits for this any more
            pass
        del job, work, loop, future, result, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
