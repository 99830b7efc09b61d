"""What the flow decides, as pure tables: whether a request is looked up, where a caller waits, what he takes.

One row per case, and no effect, so that a new case (a hedge, a note, a live stream, a variant) is a row here and the
flow stays as short as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from cachelayer.core.model import Asked, Pass, Plan, Rules
from cachelayer.core.policy import bypass_reason
from cachelayer.core.reasons import Reason
from cachelayer.core.trip import Abandoned, Answered, Arrived, Crashed, Overtaken, Silent, TimedOut

# --- before the look-up -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Situation:
    """What a request finds, whatever it asks."""

    disabled: bool = False
    closed: bool = False
    foreign_loop: bool = False
    """It is asked in an event loop that is not asyncio's: nothing can be waited for."""


def gate(situation: Situation) -> Pass | None:
    """Why the request is not even read; None when it is."""
    if situation.disabled:
        return Pass(Reason.DISABLED)
    return Pass(Reason.NOT_ASYNCIO) if situation.foreign_loop else None


def plan_of(asked: Asked, rules: Rules, situation: Situation) -> Pass | Plan:
    """What becomes of a request that has a key: settings (and one day the wishes of one call) resolved, once.

    The key of one that comes after closing is worked out all the same: it says what the call costs.
    """
    reason = Reason.CLOSED if situation.closed else bypass_reason(asked, rules.operations)
    if reason is not None:
        return Pass(reason)
    return Plan(ttl=rules.ttl, hedge_after=rules.hedge_after, finish_timeout=rules.finish_timeout)


# --- boarding ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InAir:
    """A key's flight as one caller finds it, at one moment."""

    landed: bool
    stands_still: bool
    """None of its calls goes on: their event loops were closed or stopped."""
    silent: bool
    """Nothing has come for so long that another call is due."""
    full: bool
    """It has as many calls as a flight may have."""
    his_call: bool
    """He has made a call in it, or has his answer."""
    needs_him: bool
    """He blocks the one event loop that all of its calls need."""


class Berth(Enum):
    """Where a caller waits for his answer."""

    START = "start"
    """In a flight of his own."""
    HEDGE = "hedge"
    """In the key's flight, with a call of his own beside those that are under way."""
    WAIT = "wait"
    """In the key's flight."""


def berth(in_air: InAir | None) -> Berth:
    """in_air: the flight that he is aboard of, or the key's; None: there is none."""
    if in_air is None:
        return Berth.START
    if in_air.landed:
        return Berth.WAIT
    if in_air.stands_still:
        return Berth.START
    if in_air.his_call or in_air.full:
        return Berth.WAIT
    return Berth.HEDGE if in_air.needs_him or in_air.silent else Berth.WAIT


# --- arriving ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Take:
    """What his own call brought, as it came."""

    landing: Answered | Crashed


@dataclass(frozen=True, slots=True)
class Share:
    """What another one brought: an entry, an answer, a failure."""

    landing: Overtaken | Answered | Crashed


@dataclass(frozen=True, slots=True)
class Again:
    """Board again. look: in the store first."""

    look: bool = False


@dataclass(frozen=True, slots=True)
class Alone:
    """Forward it himself: the flight ended by a failure of our own."""


@dataclass(frozen=True, slots=True)
class Leave:
    """With nothing: his time is over."""


def verdict(arrived: Arrived) -> Take | Share | Again | Alone | Leave:
    """What becomes of a caller whose wait has ended.

    A failure is shared only with callers who show the provider the same credentials: another key may have quota left,
    or be the one that is allowed. Of the others one starts the next flight.
    """
    landing = arrived.landing
    match landing:
        case Overtaken():
            return Share(landing)
        case Answered() | Crashed() if arrived.own:
            return Take(landing)
        case Answered() if landing.is_good:
            return Share(landing)
        case Answered() | Crashed():
            return Share(landing) if arrived.shares else Again()
        case Abandoned(fault):
            return Alone() if fault else Again()
        case Silent():
            return Again(look=True)
        case TimedOut():
            return Leave()
    assert_never(landing)
