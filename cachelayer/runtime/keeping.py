"""Entries read and written for the flow: looked up under every key that may answer, verified, rebuilt; stored."""

from __future__ import annotations

import time
from dataclasses import replace

from cachelayer.core.canon import KEY_VERSION
from cachelayer.core.entry import Broken, Entry, Version, decode, encode, split
from cachelayer.core.model import Asked, Cost
from cachelayer.core.policy import is_fresh, is_servable, kept_headers
from cachelayer.core.reasons import Reason
from cachelayer.core.trip import Absent, Answered, Found, Trip
from cachelayer.runtime.body import body_of
from cachelayer.runtime.faults import Faults
from cachelayer.runtime.log import log_not_kept
from cachelayer.runtime.tier import Tier
from cachelayer.stores.base import Damaged, Given, Parcel


class Keeping:
    """What one Cache reads from its tier and writes to it. Nothing here raises."""

    def __init__(self, tier: Tier, faults: Faults) -> None:
        self._tier, self._faults = tier, faults
        self._damaged_elsewhere: set[str] = set()
        """Keys of other members of a pool under which damage was found, and counted."""

    def look_up(self, trip: Trip) -> Found | Absent:
        """A whole, fresh entry under his own key, or one at another member of the pool."""
        asked, broken = trip.asked, 0
        for key in (asked.key, *asked.elsewhere):
            found = self._look_under(key, asked, trip.plan.ttl)
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

    def _look_under(self, key: str, asked: Asked, ttl: float | None) -> Found | Absent:
        failures = self._tier.failures
        parcel = self._tier.fetch(key)
        for _ in range(3):
            if parcel is None:
                return Absent()
            try:
                found = _open(parcel, key, asked, ttl)
                return Absent() if found is None else found
            except Broken as damage:
                # A writer may have replaced the entry, and a collector taken the old blobs, since we read the record.
                newer = self._tier.fetch(key)
                if self._tier.failures != failures:
                    return Absent()  # the tier is not there; nothing is known to be damaged
                if newer is not None and newer.version == parcel.version:
                    fate = "will be replaced" if key == asked.key else "is passed over as another scope's"
                    self._faults.warn_once(f"damage {fate}", f"an entry was damaged and {fate}: %s", damage)
                    return Absent(broken=1)
                parcel = newer
            except Exception as error:
                self._faults.fault("read an entry", error)
                return Absent(broken=1)
        return Absent()

    def keep(self, trip: Trip, landing: Answered) -> str | None:
        """Store an answer; None when it was committed, else why not."""
        asked, answer, bill, ttl = trip.asked, landing.received.answer, landing.judgement.bill, trip.plan.ttl
        try:
            template, blobs = split(answer, landing.judgement.reading)
            now = time.time()
            expires = None if ttl is None else now + ttl
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
                latency=landing.received.latency,
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
            reason = self._put(asked, Parcel(asked.key, encode(entry), Given(blobs, asked.canonical)), expires, ttl)
            if reason is not None:
                log_not_kept(asked.key, reason)
            return reason
        except Exception as error:
            self._faults.fault("store an answer", error)
            return Reason.INTERNAL_ERROR

    def _put(self, asked: Asked, parcel: Parcel, expires: float | None, ttl: float | None) -> Reason | None:
        """Put an entry where there is none, or one that would not serve him: damaged, or too old. One that would stays:
        another process was faster, and ours is as good as stored."""
        version: Version | None = None
        for _ in range(3):
            outcome = self._tier.put(parcel, expires=expires, replace=version)
            if isinstance(outcome, Reason):
                return outcome
            there = None if outcome else self._tier.fetch(asked.key)
            if outcome or _serves(there, asked, ttl):
                return None
            version = None if there is None else there.version
        return Reason.TIER_DOWN


def _open(parcel: Parcel | Damaged, key: str, asked: Asked, ttl: float | None) -> Found | None:
    """What a parcel answers; None where it is too old. Raises Broken where it is not whole, or not his."""
    if isinstance(parcel, Damaged):
        raise Broken("what lies there is no entry")
    entry = decode(parcel.record)
    if not is_servable(entry, asked, key):
        raise Broken("entry is somebody else's")
    if not is_fresh(entry, time.time(), ttl):
        return None
    return Found(entry, body_of(entry, parcel.contents.pour))


def _serves(parcel: Parcel | Damaged | None, asked: Asked, ttl: float | None) -> bool:
    try:
        return parcel is not None and _open(parcel, asked.key, asked, ttl) is not None
    except Broken:
        return False
