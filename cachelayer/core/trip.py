"""The nouns of one request's way through the cache: what effects bring to the flow, how flights land, what callers get.

Only data lives here. What is done with it is in flow.py, what is decided by it in tables.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from cachelayer.core.entry import Entry
from cachelayer.core.model import Answer, Asked, Bill, Cost, Headers, Outcome, Plan, Reading, Unkeyed
from cachelayer.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Moment:
    """Now: unix seconds for what is written down, monotonic seconds for durations."""

    unix: float
    monotonic: float


@dataclass(frozen=True, slots=True)
class Trip:
    """One request that is looked up, on its way: what everything that is done for it goes by."""

    asked: Asked
    plan: Plan
    began: Moment
    broken: int = 0
    """Damaged entries that were found on the way, the most at one look-up."""

    def past(self, found: Found | Absent) -> Trip:
        """The same request after a look-up."""
        return self if found.broken <= self.broken else replace(self, broken=found.broken)


# --- what is looked up ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """A whole, fresh entry and the body it rebuilds to. Its key and scope are those of the pool's member that made it.

    broken: damaged entries that were found before it."""

    entry: Entry
    body: bytes
    broken: int = 0


@dataclass(frozen=True, slots=True)
class Absent:
    """No entry that could be served. broken: how many were there but damaged."""

    broken: int = 0


# --- what is sent -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to forward: whether this call has it now. waited: another one has or had it, now or before."""

    held: bool
    waited: bool


class Clearance(Enum):
    """Whether a call of a flight may be sent."""

    GO = "go"
    WAIT = "wait"
    """Another process holds the lease."""
    END = "end"
    """Nobody here needs it any more: all have left, or another call of the flight has landed."""


@dataclass(frozen=True, slots=True)
class Received:
    """An answer of the provider, whole: as it came, and decoded."""

    headers: Headers
    raw: bytes
    """The body as it came, content-encoding and all."""
    answer: Answer
    """Status, headers and decoded body."""
    extensions: Any = None
    """What the client library wants back with it (http version, reason phrase); opaque to the flow."""
    sent: float = 0.0
    """Unix seconds at which the forward began; latency: seconds that it took. Set by the driver."""
    latency: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """The forward raised, or the answer was cut off. sent: the provider may have worked, and billed."""

    error: BaseException
    sent: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an answer is: good or why not, its images and usage; and what it cost."""

    reading: Reading
    bill: Bill


# --- how a flight lands -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    """With an answer of the provider, good or not. reason: None when it is stored, else why it is not."""

    received: Received
    judgement: Judgement
    reason: str | None

    @property
    def is_good(self) -> bool:
        """Whether it may serve others."""
        return self.judgement.reading.refusal is None


@dataclass(frozen=True, slots=True)
class Overtaken:
    """With an entry that another one had stored meanwhile. waited: for another process's flight."""

    found: Found
    waited: bool


@dataclass(frozen=True, slots=True)
class Crashed:
    """With an exception of the client library. shared: it is another caller's too, raise a copy."""

    error: BaseException
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Without an end (its loop was closed, or nobody wanted it): whoever waits starts anew.

    fault: it ended by a failure of our own; whoever waits forwards his request himself.
    """

    fault: bool = False


Landing = Answered | Overtaken | Crashed | Abandoned


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The caller's own read timeout ran out; the flight goes on."""


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing has come for hedge_after: this caller, still aboard, looks in the store, where another process may have
    put an answer meanwhile, and may make a call of his own in the same flight."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """How a caller's wait for his flight ended.

    own: by the call that he made. booked: his outcome is his call's business, whatever he got. shares: the call that
    landed shows the provider the same credentials as he.
    """

    landing: Landing | TimedOut | Silent
    own: bool = False
    booked: bool = False
    shares: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """How things stood, at one moment, when a call of a flight ended.

    first: no other call had landed the flight before. served: one had, and whoever made this call got its answer.
    left: how whoever made this call left without an answer; None: he is aboard, and where nothing was sent `serve`
    books his outcome.
    """

    first: bool
    served: bool
    left: Reason | None


# --- what a caller gets -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replay:
    """Answer from what is stored, or from somebody else's flight."""

    outcome: Outcome
    key: str
    answer: Answer
    age: float | None
    """Seconds since the answer was first made; only of a HIT."""
    saved: Cost | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Original:
    """Answer with what the provider sent, as it came."""

    key: str
    received: Received
    reason: str | None


@dataclass(frozen=True, slots=True)
class PassThrough:
    """Forward untouched, streaming untouched, and have `watch` book how it went. asked: None when nobody looked."""

    reason: str
    asked: Asked | Unkeyed | None
    began: Moment
    call: str | None = None
    """The id under which the ledger knows that it was begun; None when it does not."""


@dataclass(frozen=True, slots=True)
class Passed:
    """What is known of an answer that passed through. status: None when the forward raised. judgement: None when it was
    not seen whole."""

    status: int | None
    judgement: Judgement | None = None


Reply = Replay | Original | PassThrough | Crashed | TimedOut
