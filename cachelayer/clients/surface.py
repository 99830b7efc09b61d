"""What every client needs of the cache, whatever library it belongs to. Plain types only: Request, Answer, Reply.

The file of a client reads its library's request, forwards a copy of it (an exchange), makes its library's response, and
names the errors after which nothing was sent. All between is here:

    reply = ask(engine, prepare)                       # or await ask_async(...)
    if isinstance(reply, PassThrough):
        with Passing(engine, reply, was_sent) as passing:    # books it, whatever happens
            response = forward(request)                      # untouched
        watch = passing.arrived(status, read)                # told of each chunk, where there is something to price
    else:  # an answer; or Crashed or TimedOut, exceptions of the library's own
        served = served_by(reply)                            # status, headers and body
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from cachelayer.core.model import Answer, Asked, Headers, Outcome
from cachelayer.core.policy import answer_headers
from cachelayer.core.reasons import Reason
from cachelayer.core.trip import Original, PassThrough, Replay, Reply
from cachelayer.runtime.aio import serve_async
from cachelayer.runtime.engine import Engine
from cachelayer.runtime.exchange import AsyncExchange, SyncExchange
from cachelayer.runtime.sync import serve_sync, watch_pass

# --- asking -----------------------------------------------------------------------------------------------------------


OURS = "x-cachelayer-"
"""How the names of request headers begin that are said to cachelayer alone, in any case of letters. No provider may get
them, whatever becomes of the request."""


def ask(engine: Engine, prepare: Callable[[], SyncExchange | Reason]) -> Reply:
    """The cache's reply to one request of a blocking client. Raises only what interrupts the caller.

    prepare: brings the body into memory and gives the exchange, or the reason why the request cannot be repeated.
    """
    return serve_sync(engine, prepare)


async def ask_async(engine: Engine, prepare: Callable[[], AsyncExchange | Reason], *, large: bool) -> Reply:
    """The same for a client of asyncio; under any other event loop a request is passed through.

    large: to bring the body into memory and to work out its key takes so long that the loop must not wait for it.
    """
    return await serve_async(engine, prepare, large=large)


# --- answering --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Served:
    """An answer of the cache in plain types; the body as it goes over the wire, content-encoding and all."""

    status: int
    headers: Headers
    body: bytes


def served_by(reply: Replay | Original) -> Served:
    """What a client makes its own response of."""
    added = added_headers(reply)
    if isinstance(reply, Replay):
        answer = reply.answer
        return Served(answer.status, (*answer.headers, ("content-length", str(len(answer.body))), *added), answer.body)
    came = reply.received
    theirs = (pair for pair in came.headers if not pair[0].lower().startswith("x-cachelayer"))
    return Served(came.answer.status, (*theirs, *added), came.raw)


def added_headers(reply: Replay | Original) -> Headers:
    """What cachelayer says of an answer."""
    if isinstance(reply, Original):
        return answer_headers(Outcome.MISS, key=reply.key, reason=reply.reason)
    return answer_headers(reply.outcome, key=reply.key, age=reply.age, saved=reply.saved, reason=reply.reason)


def one_more(error: BaseException, again: Callable[[BaseException], BaseException] = copy.copy) -> BaseException:
    """A copy of another caller's exception, to be raised by this one.

    A copy, because an exception raised in many threads at once gathers all their tracebacks. again: makes it, as this
    caller's library would have raised it: the other may have used another library, and an SDK catches only its own.
    """
    try:
        twin = again(error)
    except Exception:  # an exception that cannot be copied is shared after all
        return error
    twin.__cause__ = error
    return twin


# --- passing through --------------------------------------------------------------------------------------------------

_WATCHED = 67_108_864
"""Bytes of a passed-through answer that are kept to price it; a longer answer stays unpriced."""


class Passing:
    """A request that is forwarded untouched, and booked once: when the forward raises, or when its answer is over.

    was_sent: whether the provider may have seen a request whose forward raised this. headers: what cachelayer says of
    its answer.
    """

    def __init__(self, engine: Engine, through: PassThrough, was_sent: Callable[[BaseException], bool]) -> None:
        self._engine, self._through, self._was_sent = engine, through, was_sent
        self._booked = False
        self.headers = answer_headers(Outcome.BYPASS, reason=through.reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:  # a cancelled request counts too
            self.book(None, sent=self._was_sent(error))

    def arrived(self, status: int, read: Callable[[bytes], Answer | None]) -> Watch | None:
        """The head of the answer has come. None: there is nothing to price in it, and it is booked.

        read: the whole answer, of a body as it came; None where that is not what the headers say.
        """
        if not isinstance(self._through.asked, Asked):
            self.book(status)
            return None
        return Watch(self, status, None if self._through.asked.stream else read)

    def book(self, status: int | None, answer: Answer | None = None, *, sent: bool = True) -> None:
        """Have it judged and booked, once. status: None where the forward raised. answer: None where its end was not
        seen. sent: the provider may have seen the request."""
        if not self._booked:
            self._booked = True
            watch_pass(self._engine, self._through, status, answer, sent=sent)


class Watch:
    """Sees an answer pass, and has it priced and booked when it is over. read: None: it cannot be priced (a stream)."""

    def __init__(self, passing: Passing, status: int, read: Callable[[bytes], Answer | None] | None) -> None:
        self._passing, self._status, self._read = passing, status, read
        self._seen: list[bytes] = []
        self._size = 0
        self._whole = False

    def chunk(self, data: bytes) -> None:
        """A piece of the body goes by."""
        self._size += len(data)
        if self._read is not None and self._size <= _WATCHED:
            self._seen.append(data)
        else:
            self._seen.clear()

    def end(self) -> None:
        """That was the last."""
        self._whole = True

    def close(self) -> None:
        """Nobody reads any further. Idempotent."""
        seen, self._seen = self._seen, []
        is_seen = self._whole and self._size <= _WATCHED
        self._passing.book(self._status, self._read(b"".join(seen)) if is_seen and self._read is not None else None)
