"""Outcomes and money for the flow: what a call cost, what an answer saves, and both written to ledger and log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from cachelayer.core.effects import Moment, PassThrough
from cachelayer.core.model import Answer, Asked, Bill, Cost, Event, Outcome, Reading
from cachelayer.ledger import own_prices
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.prices import Prices
from cachelayer.runtime.faults import Faults
from cachelayer.runtime.log import log_estimate, log_outcome
from cachelayer.runtime.tier import Tier


class Booking:
    """The ledger and the prices of one Cache. Nothing here raises.

    read: has the dialect judge an answer. namespace: of requests that have no key.
    """

    def __init__(
        self,
        ledger: Ledger,
        prices: Prices,
        tier: Tier,
        faults: Faults,
        *,
        read: Callable[[Asked, Answer], Reading],
        namespace: str,
    ) -> None:
        self._ledger, self._prices, self._tier, self._faults = ledger, prices, tier, faults
        self._read, self._namespace = read, namespace
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

    def worth(self, asked: Asked, bill: Bill) -> Cost:
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

    def begin(self, asked: Asked, at: Moment) -> str | None:
        """Write down that a call is about to be sent; its id, None where that failed."""
        try:
            return self._ledger.begin(asked, at.unix)
        except Exception as error:
            self._faults.fault("write to the ledger", error)
            return None

    def begin_pass(self, through: PassThrough) -> PassThrough:
        """The same for a request that is passed through: an image call by its id, any other as it is."""
        if self._faults.silent or not isinstance(through.asked, Asked) or through.asked.operation != "image":
            return through
        return replace(through, call=self.begin(through.asked, now()))

    def record(self, event: Event, *, sync: bool = False) -> None:
        """Write an outcome to the log and to the ledger."""
        log_outcome(event)
        try:
            self._ledger.record(event, sync=sync)
        except Exception as error:
            self._faults.fault("write to the ledger", error)

    def record_pass(
        self, through: PassThrough, *, status: int | None, answer: Answer | None, sent: bool = True
    ) -> None:
        """Record a request that was passed through, once its answer is over.

        status: None when the forward raised. answer: the whole one where it was watched, to price it; else None.
        sent: whether it was forwarded at all.
        """
        asked, at = through.asked, now()
        spent: Cost | None = None
        images = 0
        if isinstance(asked, Asked) and status is not None:
            spent = Cost(None, "unpriced", "the answer was passed through unread")
            if answer is not None:
                reading = self._read(asked, answer)
                spent, images = self.price(asked, reading).cost, reading.images
        self.record(
            Event(
                outcome=Outcome.BYPASS,
                at=at.unix,
                namespace=self._namespace,
                operation=asked.operation if isinstance(asked, Asked) else "",
                model="" if asked is None else asked.model,
                size=asked.size if isinstance(asked, Asked) else None,
                host="" if asked is None else asked.host,
                key=None,
                reason=through.reason,
                status=status,
                upstream=int(sent),
                spent=spent,
                images=images,
                wait=at.monotonic - through.began.monotonic,
                call=through.call,
            )
        )


def now() -> Moment:
    """What time it is."""
    return Moment(time.time(), time.monotonic())
