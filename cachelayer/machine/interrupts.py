"""Exceptions out of signal handlers: what none may cut in two, work as a whole or one acquisition, and which exception
is one. Nothing else lives here.

Ctrl-C, an alarm or Celery's soft limit raises between any two bytecodes of the MAIN thread, also between taking a lock
and the `try` that lets it go, or in a context manager's first line. What a hit does is built to stand that. What takes
several locks, opens files or writes a transaction is done in another thread, where Python runs no signal handler, or
acquires within a call (`keep`).

Such an exception is the caller's business, and no failure of ours that his call goes on without: `except Exception`
asks `came_from_a_handler`. Where a narrower one is expected (an OSError while a file is read) and named anew, that is
its cause and is found. Where it is answered on the spot, one of that kind out of a handler is still taken for it:
asking there too would cost every such place a look at all handlers.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import CodeType
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
        start_thread(thread)
    except RuntimeError as error:  # the interpreter is ending, or there are no more threads
        if came_from_a_handler(error):
            raise
        return work()
    thread.join()
    if raised:
        try:
            raise raised[0]
        finally:
            raised.clear()  # the traceback holds this frame, and this frame the error
    result: T = came[0]
    return result


def start_thread(thread: threading.Thread) -> None:
    """Start a thread. Raises what Thread.start does, and what a signal handler raises meanwhile."""
    try:
        thread.start()
    except (KeyError, RuntimeError) as error:
        # While it waits for the new thread, an Exception of a handler's makes it clean up what that has cleaned up, or
        # let go of a lock that it has not taken again.
        if error.__context__ is not None and came_from_a_handler(error.__context__):
            raise error.__context__ from None
        raise


def came_from_a_handler(error: BaseException) -> bool:
    """Whether an exception was raised by a signal handler of the program's: Celery's SoftTimeLimitExceeded, say, which
    is an Exception like any other. Also where it was taken for a failure (an alarm that raises TimeoutError is an
    OSError) and raised again by another name, as its cause.

    By its traceback, which has the handler's frame. Not seen: a handler written in C, and one that was taken off again
    by the time it raises.
    """
    return raised_by_a_handler(error) is not None


def raised_by_a_handler(error: BaseException) -> BaseException | None:
    """What a signal handler raised: an exception itself, or the one that caused it; else None."""
    if threading.current_thread() is not threading.main_thread():
        return None
    codes = set(_handlers())
    cause: BaseException | None = error
    while cause is not None and codes:
        trace = cause.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code in codes:
                return cause
            trace = trace.tb_next
        cause = cause.__cause__
    return None


def let_through(error: BaseException) -> None:
    """Raise what a signal handler raised, under its own name; return where none did."""
    theirs = raised_by_a_handler(error)
    if theirs is not None:
        raise theirs from theirs.__cause__


def _handlers() -> Iterator[CodeType]:
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        for candidate in (handler, vars(type(handler)).get("__call__")):
            code = getattr(getattr(candidate, "__func__", candidate), "__code__", None)
            if isinstance(code, CodeType):
                yield code


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
