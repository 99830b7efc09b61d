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
from typing import Any, ClassVar, Generic, TypeVar

from cachelayer.core.entry import Entry
from cachelayer.core.model import Answer, Asked, Cost, Event, Headers, Outcome, Reading, Request, Unkeyed

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
    """A whole, fresh entry and the body it rebuilds to."""

    entry: Entry
    body: bytes
    broken: int = 0


@dataclass(frozen=True, slots=True)
class Absent:
    """No entry that could be served. broken: how many were there but damaged (0 or 1)."""

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
    """The right to forward. waited: another process had it. wanted: a caller is still there to be served."""

    waited: bool
    wanted: bool


@dataclass(frozen=True, slots=True)
class Fresh:
    """A flight ended with an answer of the provider. reason: None when it is stored, else why it is not."""

    received: Received
    good: bool
    reason: str | None
    cost: Cost | None
    latency: float
    images: int


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


Landing = Fresh | Stored | Crashed | Abandoned


@dataclass(frozen=True, slots=True)
class Boarding:
    """A flight that this caller started or joined. The flight itself is the driver's; the flow only hands it on."""

    flight: Any
    started: bool
    same_credential: bool
    """Whether the flight's starter shows the provider the same credentials as this caller."""


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
    """A whole, fresh entry under the key, read through the tiers. Never raises."""

    blocking: ClassVar[bool] = True
    asked: Asked


@dataclass(frozen=True, slots=True)
class Board(Effect[Boarding]):
    """Join the key's flight, or start it: `fly` then runs apart from the caller."""

    asked: Asked
    request: Request
    began: Moment
    broken: int
    """Damaged entries the caller found on his way."""


@dataclass(frozen=True, slots=True)
class Arrival(Effect[Landing | TimedOut]):
    """Wait for the flight, no longer than the caller's read timeout allows. A cancelled wait raises."""

    flight: Any


@dataclass(frozen=True, slots=True)
class TakeLease(Effect[Lease]):
    """Wait until no other process flies this key, and hold the right to. Never raises."""

    asked: Asked


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
class Price(Effect[Cost | None]):
    """What the forward cost; None: nothing was billed. Never raises."""

    blocking: ClassVar[bool] = True
    asked: Asked
    reading: Reading


@dataclass(frozen=True, slots=True)
class Announce(Effect[None]):
    """The answer is there; it is handed over when the flight ends, or in one second."""

    landing: Landing


@dataclass(frozen=True, slots=True)
class Keep(Effect[str | None]):
    """Store blobs, then entry. None: committed. Else why not (`tier-down`, `no-room`). Never raises."""

    blocking: ClassVar[bool] = True
    syncs: ClassVar[bool] = True
    asked: Asked
    answer: Answer
    reading: Reading
    cost: Cost | None
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
