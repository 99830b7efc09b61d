"""What the flow asks of the world: typed effects, one per thing that is not pure.

The flow awaits them; a driver (runtime/) steps the coroutine by hand, performs each effect and sends its result back.
Awaiting keeps the result types without a cast (`found = await LookUp(trip)` is a Found or an Absent), and makes one
flow serve threads and event loops alike. No effect is performed here. None has the time: whoever performs it reads the
clock.

Effects whose class says `blocking` may touch the disk: the asynchronous driver performs those in threads of its own,
and those that say `syncs` as well, which wait until something is on the disk, apart from the others.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from cachelayer.core.ending import Ending
from cachelayer.core.model import Answer, Asked, Event, Unkeyed
from cachelayer.core.trip import (
    Absent,
    Answered,
    Arrived,
    Clearance,
    Failed,
    Found,
    Judgement,
    Landing,
    Lease,
    Overtaken,
    Received,
    Told,
    Trip,
)

T = TypeVar("T")


class Effect(Generic[T]):
    """Something to be done by a driver; awaiting it gives what came of it."""

    __slots__ = ()
    blocking: ClassVar[bool] = False
    syncs: ClassVar[bool] = False

    def __await__(self) -> Generator[Effect[T], T, T]:
        return (yield self)


# --- of the caller ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Canonicalize(Effect[Asked | Unkeyed]):
    """Read the request, recognise it and work out its key. Never raises."""

    blocking: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Board(Effect[None]):
    """Join the key's flight, or start it, or make a call of his own in it: `fly` then runs apart from the caller."""

    trip: Trip


@dataclass(frozen=True, slots=True)
class Arrival(Effect[Arrived]):
    """Wait for the flight boarded, no longer than the caller's read timeout allows. A cancelled wait raises."""


@dataclass(frozen=True, slots=True)
class Overtake(Effect[None]):
    """Another process has stored an answer while this flight is silent: it lands with that, for all who wait."""

    landing: Overtaken


@dataclass(frozen=True, slots=True)
class Disembark(Effect[bool]):
    """The caller goes without an answer: by what cancelled or interrupted him, or by a failure of ours. True: his
    outcome is his own to book, and not written yet. False after a failure of ours: he forwards his request himself."""

    error: BaseException


# --- of a call --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TakeLease(Effect[Lease]):
    """Wait, a second at most, until no other process flies this key, and hold the right to. Never raises."""


@dataclass(frozen=True, slots=True)
class Depart(Effect[Clearance]):
    """May the call be sent now? With GO it counts as sent."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Send(Effect[Received | Failed]):
    """Forward a copy of the original request through the user's own transport."""


@dataclass(frozen=True, slots=True)
class Announce(Effect[Told]):
    """The call has ended so. What lands the flight (the first good answer, or the failure of its last call) is handed
    over when `fly` ends, or in one second; a failure beside another call is its maker's alone."""

    landing: Landing


# --- of both ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LookUp(Effect[Found | Absent]):
    """A whole, fresh entry under his own key, or one at another member of the pool. Never raises."""

    blocking: ClassVar[bool] = True
    trip: Trip


@dataclass(frozen=True, slots=True)
class Begin(Effect[str | None]):
    """Write down that a call is about to be sent: should this process be killed, it is booked as `lost`.

    The call's id, which its Ending carries; None where the ledger cannot be written. Not synced. Never raises.
    """

    asked: Asked


@dataclass(frozen=True, slots=True)
class Judge(Effect[Judgement]):
    """Have the dialect read an answer, and price it. Never raises."""

    blocking: ClassVar[bool] = True
    asked: Asked
    answer: Answer


@dataclass(frozen=True, slots=True)
class Keep(Effect[str | None]):
    """Store blobs, then entry. None: committed. Else why not (`tier-down`, `no-room`). Never raises."""

    blocking: ClassVar[bool] = True
    syncs: ClassVar[bool] = True
    trip: Trip
    landing: Answered


@dataclass(frozen=True, slots=True)
class Book(Effect[Event]):
    """Write the outcome to the ledger, with what it saved; the line as it was written. Never raises."""

    ending: Ending


@dataclass(frozen=True, slots=True)
class BookDurably(Effect[Event]):
    """The same, and sync it to the disk. Never raises."""

    blocking: ClassVar[bool] = True
    syncs: ClassVar[bool] = True
    ending: Ending
