"""What a Cache is made of, and the effects that need no waiting: clock, keys, look-up, judging, prices, storing,
the ledger. The drivers (sync, aio) add what waits: flights, leases, the forward."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cachelayer import dialects
from cachelayer.core.canon import KEY_VERSION
from cachelayer.core.effects import (
    Absent,
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
)
from cachelayer.core.entry import Broken, Entry, decode, encode, split
from cachelayer.core.model import (
    Answer,
    Asked,
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
from cachelayer.ledger.events import Ledger
from cachelayer.ledger.prices import Prices
from cachelayer.runtime.body import body_of
from cachelayer.runtime.flights import Flights
from cachelayer.runtime.memo import memo_of
from cachelayer.runtime.tier import Tier
from cachelayer.runtime.workers import Workers

_log = logging.getLogger("cachelayer")


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that the runtime goes by."""

    keys: KeyRules
    operations: tuple[Operation, ...]
    ttl: float | None
    finish_timeout: float
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
        self.workers, self.memo = workers, memo_of(rules.keys)
        self.closed = False
        self.late = [False]
        """Whether anything was asked after closing, which opens the ledger once more. A list, to outlive the engine."""
        self.disabled = False
        self.faults = 0
        """Failures of our own that a call went on without."""
        self._warned: set[str] = set()

    def perform(self, effect: Effect[Any]) -> Any:
        """The result of an effect that does not wait for others. Never raises for what the effect says never raises."""
        match effect:
            case Now():
                return Moment(time.time(), time.monotonic())
            case Canonicalize(request):
                return self._canonicalize(request)
            case LookUp(asked):
                return self._look_up(asked)
            case Read(asked, answer):
                return self._read(asked, answer)
            case Price(asked, reading):
                return self._price(asked, reading)
            case Keep(asked, answer, reading, cost, latency):
                return self._keep(asked, answer, reading, cost, latency)
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
        failures = self.tier.failures
        record = self.tier.get(asked.key)
        for _ in range(3):
            if record is None:
                return Absent()
            try:
                entry = decode(record)
                if not is_servable(entry, asked):
                    raise Broken("entry is somebody else's")
                if not is_fresh(entry, time.time(), self.rules.ttl):
                    return Absent()
                return Found(entry, body_of(entry, self.tier.read_blob))
            except Broken as damage:
                # A writer may have replaced the entry, and a collector taken the old blobs, since we read the record.
                newer = self.tier.get(asked.key)
                if self.tier.failures != failures:
                    return Absent()  # the tier is not there; nothing is known to be damaged
                if newer == record:
                    self._warn_once("damage", "an entry was damaged and will be replaced: %s", damage)
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

    def _price(self, asked: Asked, reading: Reading) -> Cost | None:
        try:
            return self.prices.cost(asked, reading, at=time.time())
        except Exception as error:
            self.fault("price an answer", error)
            return Cost(None, "unpriced", "internal error")

    def _keep(self, asked: Asked, answer: Answer, reading: Reading, cost: Cost | None, latency: float) -> str | None:
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
                cost=cost or Cost(None, "unpriced", "nothing was billed"),
                latency=latency,
                operation=asked.operation,
                model=asked.model,
                host=asked.host,
                images=reading.images,
            )
            return self.tier.put(asked.key, encode(entry), blobs, canonical=asked.canonical, expires=expires)
        except Exception as error:
            self.fault("store an answer", error)
            return Reason.INTERNAL_ERROR

    def record(self, event: Event, *, sync: bool = False) -> None:
        """Write an outcome to the ledger, and a line to the log when it saved something. Never raises."""
        if event.outcome in (Outcome.HIT, Outcome.COALESCED):
            self._log_saving(event)
        try:
            self.ledger.record(event, sync=sync)
        except Exception as error:
            self.fault("write to the ledger", error)

    def _log_saving(self, event: Event) -> None:
        usd = None if event.saved is None else event.saved.usd
        _log.info(
            "%s %s%s: saved %s and %.1f s",
            event.outcome.value,
            event.model,
            f" {event.size}" if event.size else "",
            "an unknown amount" if usd is None else f"${usd:f}",
            round((event.latency or 0.0) - event.wait, 1) + 0.0,  # not "-0.0 s"
        )

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
                spent, images = self._price(asked, reading), reading.images
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
            )
        )

    def fault(self, what: str, error: BaseException) -> None:
        """Count a failure of our own and warn once per kind: the call goes on without it."""
        self.faults += 1
        self._warn_once(f"{what} {type(error).__name__}", f"could not {what}: %s; the call goes on without it", error)

    def _warn_once(self, kind: str, message: str, error: BaseException) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            _log.warning(message, f"{type(error).__name__}: {error}")
