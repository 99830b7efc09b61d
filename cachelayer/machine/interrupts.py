"""What no signal handler's exception may cut in two: work as a whole, or one acquisition. Nothing else lives here.

Ctrl-C, an alarm or Celery's soft limit raises between any two bytecodes of the MAIN thread, also between taking a lock
and the `try` that lets it go, or in a context manager's first line. What a hit does is built to stand that. What takes
several locks, opens files or writes a transaction is done in another thread, where Python runs no signal handler, or
acquires within a call (`keep`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def undisturbed(work: Callable[[], T]) -> T:
    """The result of work, or what it raises. Whoever is interrupted meanwhile leaves; the work goes on to its end.

    Costs the main thread the start of a thread (0.1 ms), others nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    came: list[Any] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            came.append(work())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="cachelayer-undisturbed", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending, or there are no more threads
        return work()
    thread.join()
    if raised:
        try:
            raise raised[0]
        finally:
            raised.clear()  # the traceback holds this frame, and this frame the error
    result: T = came[0]
    return result


def keep(held: list[T], call: Callable[..., T], *arguments: Any) -> None:
    """Call, and put what comes back into a list, with no moment between in which an exception out of a signal handler
    would lose it."""
    held.extend(map(call, *((argument,) for argument in arguments)))


def close_all(held: list[int]) -> None:
    """Close descriptors that `keep` has put into a list, each once."""
    while held:
        descriptor = held[-1]
        del held[-1]
        os.close(descriptor)
