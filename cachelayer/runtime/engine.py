"""What a Cache is made of, and who performs which effect that needs no waiting. The drivers (sync, aio) add what waits:
flights, leases, the forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cachelayer import dialects
from cachelayer.core.effects import Begin, Book, BookDurably, Effect, Judge, Keep, LookUp
from cachelayer.core.model import Answer, Asked, Reading, Request, Rules, Unkeyed
from cachelayer.core.reasons import Reason
from cachelayer.core.trip import Judgement
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.prices import Prices
from cachelayer.runtime.booking import Booking
from cachelayer.runtime.faults import Faults
from cachelayer.runtime.flights import Flights
from cachelayer.runtime.keeping import Keeping
from cachelayer.runtime.memo import memo_of
from cachelayer.runtime.tier import Tier
from cachelayer.runtime.workers import Workers


class Engine:
    """The parts of one Cache, and the effects that do not wait."""

    def __init__(
        self,
        folder: Path,
        rules: Rules,
        tier: Tier,
        ledger: Ledger,
        prices: Prices,
        flights: Flights,
        workers: Workers,
        *,
        disabled: bool = False,
    ) -> None:
        self.folder, self.rules = folder, rules
        self.tier, self.ledger, self.flights, self.workers = tier, ledger, flights, workers
        self.closed = False
        self.late = [False]
        """Whether anything was asked after closing, which opens the ledger once more. A list, to outlive the engine."""
        self.disabled = disabled
        self.faults = Faults(ledger, silent=disabled)
        tier.on_failure = self.faults.book
        self.keeping = Keeping(tier, self.faults)
        self.booking = Booking(ledger, prices, tier, self.faults, namespace=rules.keys.namespace)
        self._memo = memo_of(rules.keys)

    def perform(self, effect: Effect[Any]) -> Any:
        """The result of an effect that does not wait for others. Never raises for what the effect says never raises."""
        match effect:
            case LookUp(trip):
                return self.keeping.look_up(trip)
            case Begin(asked):
                return self.booking.begin(asked)
            case Judge(asked, answer):
                reading = self._read(asked, answer)
                return Judgement(reading, self.booking.price(asked, reading))
            case Keep(trip, landing):
                reason = self.keeping.keep(trip, landing)
                self.booking.book_kept(trip.asked, reason, landing.judgement.bill.cost)
                return reason
            case Book(ending):
                return self.booking.book(ending)
            case BookDurably(ending):
                return self.booking.book(ending, sync=True)
        raise TypeError(f"no hand performs {effect!r}")

    def canonicalize(self, read: Callable[[], Request | Reason]) -> Asked | Unkeyed:
        """Read a request and work out its key; read may say why not. Never raises."""
        self.late[0] |= self.closed
        try:
            request = read()
            return Unkeyed(request) if isinstance(request, Reason) else self._memo.ask(request)
        except Exception as error:
            self.fault("work out a key", error)
            return Unkeyed(Reason.INTERNAL_ERROR)

    def _read(self, asked: Asked, answer: Answer) -> Reading:
        try:
            return dialects.read(asked, answer)
        except Exception as error:
            self.fault("judge an answer", error)
            return Reading(Reason.INTERNAL_ERROR)

    def fault(self, what: str, error: BaseException) -> None:
        """Count a failure of our own and warn once per kind: the call goes on without it. Never raises."""
        self.faults.fault(what, error)
