"""How a request ended, and what the ledger says of it: here an outcome becomes money. Pure.

The flow books an `Ending`. Whoever performs that has what `credit_of` names priced, reads the clock, and writes down
`event_of`.
"""

from __future__ import annotations

from dataclasses import dataclass

from cachelayer.core.model import Asked, Bill, Cost, Event, Outcome, Unkeyed
from cachelayer.core.reasons import Reason
from cachelayer.core.trip import Answered, Found, Moment, Passed, PassThrough, Trip

_CUT_OFF = Cost(None, "unpriced", "cut off before its usage was known")
_UNREAD = Cost(None, "unpriced", "the answer was passed through unread")

_Came = Found | Answered | Passed | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How one request ended.

    came: what was handed over, or was seen as it passed. sent: a call was made for it, so the provider may have worked.
    call: its id in the ledger, where it was begun.
    """

    outcome: Outcome
    of: Trip | PassThrough
    came: _Came = None
    reason: str | None = None
    sent: bool = False
    call: str | None = None


def no_answer(trip: Trip, *, reason: Reason, sent: bool, served: bool, call: str | None) -> Ending:
    """Of a request whose call brought no answer. served: another call of the flight answered it, so it is a MISS."""
    outcome, why = (Outcome.MISS, Reason.LATE) if served else (Outcome.ERROR, reason)
    return Ending(outcome, trip, None, why, sent, call)


def credit_of(ending: Ending) -> Bill | None:
    """What somebody else paid for what this caller got; None where he got nothing, or paid himself."""
    return _bill_of(ending.came) if ending.outcome in (Outcome.HIT, Outcome.COALESCED) else None


def event_of(ending: Ending, at: Moment, *, namespace: str, saved: Cost | None = None) -> Event:
    """The line of the ledger.

    at: now. namespace: of the Cache. saved: what `credit_of` is worth to this caller.
    """
    of, came = ending.of, ending.came
    asked = of.asked if isinstance(of.asked, Asked) else None
    named = of.asked if of.asked is not None else Unkeyed("")
    trip = of if isinstance(of, Trip) else None
    bill = _bill_of(came) if ending.outcome is not Outcome.ERROR else None
    entry = came.entry if isinstance(came, Found) else None
    return Event(
        outcome=ending.outcome,
        at=at.unix,
        namespace=namespace,
        operation="" if asked is None else asked.operation,
        model=named.model,
        size=None if asked is None else asked.size,
        host=named.host,
        key=entry.key if entry is not None else None if trip is None else trip.asked.key,
        reason=ending.reason,
        status=_status_of(came),
        upstream=int(ending.sent),
        spent=_spent(ending) if ending.sent else None,
        saved=saved,
        images=0 if bill is None else bill.images,
        wait=at.monotonic - of.began.monotonic,
        latency=_latency_of(came) if bill is not None else None,
        broken=0 if trip is None else trip.broken,
        normalized=() if trip is None else trip.asked.normalized,
        call=ending.call,
    )


def _spent(ending: Ending) -> Cost | None:
    """What a request that was sent cost; None where nothing was billed."""
    match ending.came:
        case Passed(status, None):
            # Of an error nobody sends a bill; and of what no dialect knows, nobody can say that it costs anything.
            if ending.of.asked is None or ending.of.asked.dialect is None:
                return None
            return _CUT_OFF if status is None else _UNREAD if status < 300 else None
        case None:
            return _CUT_OFF
    bill = _bill_of(ending.came)
    return None if bill is None else bill.cost


def _bill_of(came: _Came) -> Bill | None:
    match came:
        case Found(entry):
            return entry.bill
        case Answered():
            return came.judgement.bill
        case Passed(_, judgement):
            return None if judgement is None else judgement.bill
        case None:
            return None


def _status_of(came: _Came) -> int | None:
    match came:
        case Found(entry):
            return entry.status
        case Answered(received):
            return received.answer.status
        case Passed(status):
            return status
        case None:
            return None


def _latency_of(came: _Came) -> float | None:
    match came:
        case Found(entry):
            return entry.latency
        case Answered(received):
            return received.latency
        case _:
            return None
