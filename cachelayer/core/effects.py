"""What the flow asks of the world: typed effects, one per thing that is not pure.

The flow awaits them; a driver (runtime/) steps the coroutine by hand, performs each effect and sends its result back.
Awaiting keeps the result types without a cast (`found = await LookUp(asked)` is a Found or an Absent), and makes one
flow serve threads and event loops alike. No effect is performed here.

Effects whose class says `blocking` may touch the disk: the asynchronous driver performs those in threads of its own,
and those that say `syncs` as well, which wait until something is on the disk, apart from the others.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

from cachelayer.core.entry import Entry
from cachelayer.core.model import Answer, Asked, Bill, Cost, Event, Headers, Outcome, Reading, Request, Unkeyed
from cachelayer.core.reasons import Reason

T = TypeVar("T")


class Effect(Generic[T]):
    """Something to be done by a driver; awaiting it gives what came of it."""

    __slots__ = ()
    blocking: ClassVar[bool] = False
    syncs: ClassVar[bool] = False

    def __await__(self) -> Generator[Effect[T], T, T]:
        return (yield self)


# What comes back ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moment:
    """Now: unix seconds for what is written down, monotonic seconds for durations."""

    unix: float
    monotonic: float


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


@dataclass(frozen=True, slots=True)
class Failed:
    """The forward raised, or the answer was cut off. sent: the provider may have worked, and billed."""

    error: BaseException
    sent: bool


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
class Fresh:
    """A flight ended with an answer of the provider. reason: None when it is stored, else why it is not."""

    received: Received
    good: bool
    reason: str | None
    bill: Bill
    latency: float


@dataclass(frozen=True, slots=True)
class Stored:
    """A flight ended with an entry that another one had stored meanwhile. waited: for another process's flight."""

    found: Found
    waited: bool


@dataclass(frozen=True, slots=True)
class Crashed:
    """A flight ended with an exception of the client library. shared: it is another caller's too, raise a copy."""

    error: BaseException
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The flight is gone without an end (its loop was closed, or nobody wanted it): whoever waits starts anew.

    fault: it ended by a failure of our own; whoever waits forwards his request himself.
    """

    fault: bool = False


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The caller's own read timeout ran out; the flight goes on."""


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing has come for hedge_after: this caller, still aboard, looks in the store, where another process may have
    put an answer meanwhile, and may make a call of his own in the same flight."""


Landing = Fresh | Stored | Crashed | Abandoned


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


# What a caller gets ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replay:
    """Answer from what is stored, or from somebody else's flight."""

    outcome: Outcome
    key: str
    answer: Answer
    created: float | None
    """Unix seconds at which the answer was first made; None when it did not come from an entry."""
    now: float
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
    """Forward untouched, streaming untouched, and record how it went. asked: None when there is no key."""

    reason: str
    asked: Asked | Unkeyed | None
    began: Moment
    call: str | None = None
    """The id under which the ledger knows that it was begun; None when it does not."""


Reply = Replay | Original | PassThrough | Crashed | TimedOut


# What is asked --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Now(Effect[Moment]):
    """What time is it?"""


@dataclass(frozen=True, slots=True)
class Canonicalize(Effect[Asked | Unkeyed]):
    """Recognise the request and work out its key. Never raises."""

    blocking: ClassVar[bool] = True
    request: Request


@dataclass(frozen=True, slots=True)
class LookUp(Effect[Found | Absent]):
    """A whole, fresh entry under his own key, or one at another member of the pool. Never raises."""

    blocking: ClassVar[bool] = True
    asked: Asked


@dataclass(frozen=True, slots=True)
class Board(Effect[None]):
    """Join the key's flight, or start it, or make a call of his own in it: `fly` then runs apart from the caller."""

    asked: Asked
    request: Request
    began: Moment
    broken: int
    """Damaged entries the caller found on his way."""


@dataclass(frozen=True, slots=True)
class Arrival(Effect[Arrived]):
    """Wait for the flight boarded, no longer than the caller's read timeout allows. A cancelled wait raises."""


@dataclass(frozen=True, slots=True)
class Overtake(Effect[None]):
    """Another process has stored an answer while this flight is silent: it lands with that, for all who wait."""

    landing: Stored


@dataclass(frozen=True, slots=True)
class Leave(Effect[bool]):
    """The caller goes without an answer: cancelled, or interrupted. True: his outcome is his own to book."""


@dataclass(frozen=True, slots=True)
class TakeLease(Effect[Lease]):
    """Wait, a second at most, until no other process flies this key, and hold the right to. Never raises."""

    asked: Asked


@dataclass(frozen=True, slots=True)
class Depart(Effect[Clearance]):
    """May the call be sent now? With GO it counts as sent."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Begin(Effect[str | None]):
    """Write down that a call is about to be sent: should this process be killed, it is booked as `lost`.

    The call's id, which its Event carries; None where the ledger cannot be written. Not synced. Never raises.
    """

    asked: Asked
    now: Moment


@dataclass(frozen=True, slots=True)
class Send(Effect[Received | Failed]):
    """Forward a copy of the original request through the user's own transport."""


@dataclass(frozen=True, slots=True)
class Read(Effect[Reading]):
    """Have the dialect judge the answer. Never raises."""

    blocking: ClassVar[bool] = True
    asked: Asked
    answer: Answer


@dataclass(frozen=True, slots=True)
class Price(Effect[Bill]):
    """What the forward cost. Never raises."""

    blocking: ClassVar[bool] = True
    asked: Asked
    reading: Reading


@dataclass(frozen=True, slots=True)
class Worth(Effect[Cost]):
    """What an answer that was paid for saves this caller, by the user's prices of today. Never raises."""

    asked: Asked
    bill: Bill


@dataclass(frozen=True, slots=True)
class Announce(Effect[Told]):
    """The call has ended so. What lands the flight (the first good answer, or the failure of its last call) is handed
    over when `fly` ends, or in one second; a failure beside another call is its maker's alone."""

    landing: Landing


@dataclass(frozen=True, slots=True)
class Keep(Effect[str | None]):
    """Store blobs, then entry. None: committed. Else why not (`tier-down`, `no-room`). Never raises."""

    blocking: ClassVar[bool] = True
    syncs: ClassVar[bool] = True
    asked: Asked
    answer: Answer
    reading: Reading
    bill: Bill
    latency: float


@dataclass(frozen=True, slots=True)
class Record(Effect[None]):
    """Write the outcome to the ledger. Never raises."""

    event: Event


@dataclass(frozen=True, slots=True)
class RecordDurably(Effect[None]):
    """Write the outcome to the ledger and sync it to the disk. Never raises."""

    blocking: ClassVar[bool] = True
    syncs: ClassVar[bool] = True
    event: Event
