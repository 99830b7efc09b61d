"""Outcomes and money for the flow: what a call cost, what an answer saves, and both written to ledger and log."""

from __future__ import annotations

import time

from cachelayer.core.ending import Ending, credit_of, event_of
from cachelayer.core.model import Asked, Bill, Cost, Event, Reading
from cachelayer.core.trip import Moment
from cachelayer.ledger import own_prices
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.prices import Prices
from cachelayer.runtime.faults import Faults
from cachelayer.runtime.log import log_disabled, log_estimate, log_outcome
from cachelayer.runtime.tier import Tier


class Booking:
    """The ledger and the prices of one Cache. Nothing here raises. namespace: the Cache's."""

    def __init__(self, ledger: Ledger, prices: Prices, tier: Tier, faults: Faults, *, namespace: str) -> None:
        self._ledger, self._prices, self._tier, self._faults = ledger, prices, tier, faults
        self._namespace = namespace
        self._hinted: set[str] = set()

    def price(self, asked: Asked, reading: Reading) -> Bill:
        try:
            bill = self._prices.bill(asked, reading, at=time.time())
            self._hint_at_price(asked, bill)
            return bill
        except Exception as error:
            self._faults.fault("price an answer", error)
            unknown = Cost(None, "unpriced", "internal error")
            return Bill(unknown, None, asked.scope, asked.host, reading.images, asked.size, asked.tier, asked.tier)

    def _hint_at_price(self, asked: Asked, bill: Bill) -> None:
        """At the first estimate of a host: what to paste, so that its figures become exact."""
        if bill.cost is None or bill.cost.pricing != "estimated" or asked.host in self._hinted:
            return
        self._hinted.add(asked.host)
        price = "0.05" if asked.operation == "image" else "list"
        log_estimate(asked.host, bill.cost.reason, own_prices.as_argument([asked.host], price))

    def _worth(self, asked: Asked, bill: Bill) -> Cost:
        try:
            return self._prices.saved(asked, bill)
        except Exception as error:
            self._faults.fault("price a saving", error)
            return Cost(None, "unpriced", "internal error")

    def book_evicted(self) -> None:
        """Write down what had to go for room."""
        try:
            gone = self._tier.take_evicted()
            if gone.entries:
                self._ledger.record_evicted(gone.entries, gone.usd)
        except Exception as error:
            self._faults.fault("write to the ledger", error)

    def book_kept(self, asked: Asked, reason: str | None, cost: Cost | None) -> None:
        """Write down that an answer was paid for and not kept (reason), and what had to go for room."""
        self.book_evicted()
        if reason is None:
            return
        try:
            self._ledger.record_not_kept(asked, reason, cost, time.time())
        except Exception as error:
            self._faults.fault("write to the ledger", error)

    def begin(self, asked: Asked) -> str | None:
        """Write down that a call is about to be sent; its id, None where that failed."""
        try:
            return self._ledger.begin(asked, time.time())
        except Exception as error:
            self._faults.fault("write to the ledger", error)
            return None

    def book(
        self, ending: Ending, *, at: Moment | None = None, sync: bool = False, wrote: list[int] | None = None
    ) -> Event:
        """Write an outcome to the log and to the ledger; the line. at: when it was, None: now. wrote: as of
        Ledger.record."""
        credit, asked = credit_of(ending), ending.of.asked
        saved = self._worth(asked, credit) if credit is not None and isinstance(asked, Asked) else None
        event = event_of(ending, now() if at is None else at, namespace=self._namespace, saved=saved)
        if self._faults.silent:
            log_disabled()
            return event
        log_outcome(event)
        try:
            self._ledger.record(event, sync=sync, wrote=wrote)
        except Exception as error:
            self._faults.fault("write to the ledger", error)
        return event


def now() -> Moment:
    """What time it is."""
    return Moment(time.time(), time.monotonic())
