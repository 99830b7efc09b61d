"""What a Cache is made of, and the effects that need no waiting: clock, keys, look-up, judging, prices, storing,
the ledger. The drivers (sync, aio) add what waits: flights, leases, the forward."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cachelayer import dialects
from cachelayer.core.canon import KEY_VERSION
from cachelayer.core.effects import (
    Absent,
    Begin,
    Canonicalize,
    Effect,
    Found,
    Keep,
    LookUp,
    Moment,
    Now,
    PassThrough,
    Price,
    Read,
    Record,
    RecordDurably,
    Worth,
)
from cachelayer.core.entry import Broken, Entry, decode, encode, split
from cachelayer.core.model import (
    Answer,
    Asked,
    Bill,
    Cost,
    Event,
    KeyRules,
    Operation,
    Outcome,
    Reading,
    Request,
    Unkeyed,
)
from cachelayer.core.policy import is_fresh, is_servable, kept_headers
from cachelayer.core.reasons import Reason
from cachelayer.ledger import own_prices
from cachelayer.ledger.events import Ledger
from cachelayer.ledger.prices import Prices
from cachelayer.runtime.body import body_of
from cachelayer.runtime.flights import Flights
from cachelayer.runtime.log import log_estimate, log_not_kept, log_outcome, log_warning
from cachelayer.runtime.memo import memo_of
from cachelayer.runtime.tier import Tier
from cachelayer.runtime.workers import Workers


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that the runtime goes by."""

    keys: KeyRules
    operations: tuple[Operation, ...]
    ttl: float | None
    finish_timeout: float
    hedge_after: float
    drain_timeout: float


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
    ) -> None:
        self.folder, self.rules = folder, rules
        self.tier, self.ledger, self.prices, self.flights = tier, ledger, prices, flights
        tier.on_failure = partial(_book_fault, ledger)
        self.workers, self.memo = workers, memo_of(rules.keys)
        self.closed = False
        self.late = [False]
        """Whether anything was asked after closing, which opens the ledger once more. A list, to outlive the engine."""
        self.disabled = False
        self.faults = 0
        """Failures of our own that a call went on without."""
        self._warned: set[str] = set()
        self._damaged_elsewhere: set[str] = set()
        """Keys of other members of a pool under which damage was found, and counted."""

    def perform(self, effect: Effect[Any]) -> Any:
        """The result of an effect that does not wait for others. Never raises for what the effect says never raises."""
        match effect:
            case Now():
                return Moment(time.time(), time.monotonic())
            case Canonicalize(request):
                return self._canonicalize(request)
            case LookUp(asked):
                return self._look_up(asked)
            case Begin(asked, now):
                return self.begin(asked, now)
            case Read(asked, answer):
                return self._read(asked, answer)
            case Price(asked, reading):
                return self._price(asked, reading)
            case Worth(asked, bill):
                return self._worth(asked, bill)
            case Keep(asked, answer, reading, bill, latency):
                reason = self._keep(asked, answer, reading, bill, latency)
                if reason is not None:
                    self._book_not_kept(asked, reason, bill.cost)
                return reason
            case Record(event):
                return self.record(event)
            case RecordDurably(event):
                return self.record(event, sync=True)
        raise TypeError(f"no hand performs {effect!r}")

    def _canonicalize(self, request: Request) -> Asked | Unkeyed:
        if self.closed:
            self.late[0] = True
            return Unkeyed(Reason.CLOSED)
        try:
            return self.memo.ask(request)
        except Exception as error:
            self.fault("work out a key", error)
            return Unkeyed(Reason.INTERNAL_ERROR)

    def _look_up(self, asked: Asked) -> Found | Absent:
        broken = 0
        for key in (asked.key, *asked.elsewhere):
            found = self._look_under(key, asked)
            # His own damaged entry is replaced by his flight. Another member's stays, and would count at every ask.
            if key == asked.key or (found.broken and self._is_first_damage_of(key)):
                broken += found.broken
            if isinstance(found, Found):
                return replace(found, broken=broken) if broken else found
        return Absent(broken)

    def _is_first_damage_of(self, key: str) -> bool:
        known = key in self._damaged_elsewhere
        self._damaged_elsewhere.add(key)
        return not known

    def _look_under(self, key: str, asked: Asked) -> Found | Absent:
        failures = self.tier.failures
        record = self.tier.get(key)
        for _ in range(3):
            if record is None:
                return Absent()
            try:
                entry = decode(record)
                if not is_servable(entry, asked, key):
                    raise Broken("entry is somebody else's")
                if not is_fresh(entry, time.time(), self.rules.ttl):
                    return Absent()
                return Found(entry, body_of(entry, self.tier.read_blob))
            except Broken as damage:
                # A writer may have replaced the entry, and a collector taken the old blobs, since we read the record.
                newer = self.tier.get(key)
                if self.tier.failures != failures:
                    return Absent()  # the tier is not there; nothing is known to be damaged
                if newer == record:
                    fate = "will be replaced" if key == asked.key else "is passed over as another scope's"
                    self._warn_once(f"damage {fate}", f"an entry was damaged and {fate}: %s", damage)
                    return Absent(broken=1)
                record = newer
            except Exception as error:
                self.fault("read an entry", error)
                return Absent(broken=1)
        return Absent()

    def _read(self, asked: Asked, answer: Answer) -> Reading:
        try:
            return dialects.read(asked, answer)
        except Exception as error:
            self.fault("judge an answer", error)
            return Reading(Reason.INTERNAL_ERROR)

    def _price(self, asked: Asked, reading: Reading) -> Bill:
        try:
            bill = self.prices.bill(asked, reading, at=time.time())
            self._hint_at_price(asked, bill)
            return bill
        except Exception as error:
            self.fault("price an answer", error)
            unknown = Cost(None, "unpriced", "internal error")
            return Bill(unknown, None, asked.scope, asked.host, reading.images, asked.size, asked.tier, asked.tier)

    def _hint_at_price(self, asked: Asked, bill: Bill) -> None:
        """At the first estimate of a host: what to paste, so that its figures become exact."""
        if bill.cost is None or bill.cost.pricing != "estimated" or f"price {asked.host}" in self._warned:
            return
        self._warned.add(f"price {asked.host}")
        price = "0.05" if asked.operation == "image" else "list"
        log_estimate(asked.host, bill.cost.reason, own_prices.as_argument([asked.host], price))

    def _worth(self, asked: Asked, bill: Bill) -> Cost:
        try:
            return self.prices.saved(asked, bill)
        except Exception as error:
            self.fault("price a saving", error)
            return Cost(None, "unpriced", "internal error")

    def _keep(self, asked: Asked, answer: Answer, reading: Reading, bill: Bill, latency: float) -> str | None:
        try:
            template, blobs = split(answer, reading)
            now = time.time()
            expires = None if self.rules.ttl is None else now + self.rules.ttl
            entry = Entry(
                key=asked.key,
                spec=KEY_VERSION,
                namespace=asked.namespace,
                created=now,
                expires=expires,
                status=answer.status,
                headers=kept_headers(answer.headers),
                template=template,
                cost=bill.cost or Cost(None, "unpriced", "nothing was billed"),
                latency=latency,
                operation=asked.operation,
                model=asked.model,
                host=bill.host,
                images=bill.images,
                scope=bill.scope,
                dialect=asked.dialect,
                count=asked.count,
                size=bill.size,
                tier=bill.tier,
                asked_tier=bill.asked_tier,
                listed=bill.listed,
            )
            reason = self.tier.put(asked.key, encode(entry), blobs, canonical=asked.canonical, expires=expires)
            if reason is not None:
                log_not_kept(asked.key, reason)
            return reason
        except Exception as error:
            self.fault("store an answer", error)
            return Reason.INTERNAL_ERROR
        finally:
            self.book_evicted()

    def book_evicted(self) -> None:
        """Write down what had to go for room. Never raises."""
        try:
            gone = self.tier.take_evicted()
            if gone.entries:
                self.ledger.record_evicted(gone.entries, gone.usd)
        except Exception as error:
            self.fault("write to the ledger", error)

    def _book_not_kept(self, asked: Asked, reason: str, cost: Cost | None) -> None:
        try:
            self.ledger.record_not_kept(asked, reason, cost, time.time())
        except Exception as error:
            self.fault("write to the ledger", error)

    def begin(self, asked: Asked, now: Moment) -> str | None:
        """Write down that a call is about to be sent; its id, None where that failed. Never raises."""
        try:
            return self.ledger.begin(asked, now.unix)
        except Exception as error:
            self.fault("write to the ledger", error)
            return None

    def begin_pass(self, through: PassThrough) -> PassThrough:
        """The same for a request that is passed through: an image call by its id, any other as it is. Never raises."""
        if self.disabled or not isinstance(through.asked, Asked) or through.asked.operation != "image":
            return through
        return replace(through, call=self.begin(through.asked, self.perform(Now())))

    def record(self, event: Event, *, sync: bool = False) -> None:
        """Write an outcome to the log and to the ledger. Never raises."""
        log_outcome(event)
        try:
            self.ledger.record(event, sync=sync)
        except Exception as error:
            self.fault("write to the ledger", error)

    def record_pass(
        self, through: PassThrough, *, status: int | None, answer: Answer | None, sent: bool = True
    ) -> None:
        """Record a request that was passed through, once its answer is over. Never raises.

        status: None when the forward raised. answer: the whole one where it was watched, to price it; else None.
        sent: whether it was forwarded at all.
        """
        asked, now = through.asked, self.perform(Now())
        spent: Cost | None = None
        images = 0
        if isinstance(asked, Asked) and status is not None:
            spent = Cost(None, "unpriced", "the answer was passed through unread")
            if answer is not None:
                reading = self._read(asked, answer)
                spent, images = self._price(asked, reading).cost, reading.images
        self.record(
            Event(
                outcome=Outcome.BYPASS,
                at=now.unix,
                namespace=self.rules.keys.namespace,
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
                wait=now.monotonic - through.began.monotonic,
                call=through.call,
            )
        )

    def fault(self, what: str, error: BaseException) -> None:
        """Count a failure of our own and warn once per kind: the call goes on without it."""
        self.faults += 1
        if not self.disabled:
            _book_fault(self.ledger, what, error)
        self._warn_once(f"{what} {type(error).__name__}", f"could not {what}: %s; the call goes on without it", error)

    def _warn_once(self, kind: str, message: str, error: BaseException) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            log_warning(message % f"{type(error).__name__}: {error}")


def _book_fault(ledger: Ledger, what: str, error: BaseException) -> None:
    """Have a failure of our own in the ledger. Never raises: one of the ledger itself is written when it can be, and an
    outcome that it cannot take says so."""
    with suppress(Exception):
        ledger.record_fault(what, type(error).__name__)
