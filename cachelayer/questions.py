"""Questions about a cache, answered alike for Cache and for the command line: what it makes of a request, in what two
requests differ, what it has saved. Nothing is changed here.

The rooms are imported when a question is asked: a program that asks none does not wait for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachelayer.core.model import Asked, Request, Rules, Unkeyed

if TYPE_CHECKING:
    from cachelayer.ledger.reports import Stats
    from cachelayer.runtime.engine import Engine


@dataclass(frozen=True, slots=True)
class Explanation:
    """What cachelayer makes of a request."""

    key: str | None
    """None when the request gets none; `reason` says why."""
    operation: str | None
    model: str
    fields: dict[str, Any]
    """The canonical request, readable."""
    canonical: bytes
    """The bytes that are hashed."""
    reason: str | None
    """Why this request is not cached, None when it is."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which two canonical requests differ; None where one has no such field."""

    field: str
    a: Any
    b: Any


def explain(request: Request, rules: Rules) -> Explanation:
    """What the cache makes of a request under these settings."""
    from cachelayer import dialects

    return explanation(dialects.ask(request, rules.keys), rules)


def explanation(asked: Asked | Unkeyed, rules: Rules) -> Explanation:
    """The same, of a request that was recognised already."""
    from cachelayer.core import canon
    from cachelayer.core.policy import bypass_reason

    reason = bypass_reason(asked, rules.operations)
    if isinstance(asked, Unkeyed):
        return Explanation(None, None, asked.model, {}, b"", reason)
    return Explanation(asked.key, asked.operation, asked.model, canon.fields(asked), asked.canonical, reason)


def diff(a: Request, b: Request, rules: Rules) -> list[Difference]:
    """The fields in which two requests differ, as far as keys go. Raises ValueError when one of them gets none."""
    from cachelayer import dialects

    asked = [dialects.ask(request, rules.keys) for request in (a, b)]
    for name, one in zip("ab", asked, strict=True):
        if isinstance(one, Unkeyed):
            raise ValueError(f"request {name} gets no key: {one.reason}")
    first, second = (one for one in asked if isinstance(one, Asked))
    return differences(first, second)


def differences(a: Asked, b: Asked) -> list[Difference]:
    """The same, of requests that have keys."""
    from cachelayer.core import canon

    return [Difference(*difference) for difference in canon.differences(a, b)]


def stats(engine: Engine, path: Path) -> Stats:
    """The totals of a folder. path: where the store lies, whether it is there or not.

    Raises CachelayerError when ledger or store cannot be read, and when outcomes can be kept nowhere.
    """
    from cachelayer.core.errors import LedgerError
    from cachelayer.machine.interrupts import undisturbed
    from cachelayer.stores.place import NOWHERE

    engine.flights.sweep()
    if engine.folder == NOWHERE and not engine.disabled:
        raise LedgerError("this program's outcomes are lost: neither its cache folder nor a temporary one is there")

    def read() -> Stats:
        from cachelayer.ledger.reports import totals  # here: an interrupted import leaves Python's own lock held

        sizes = _sizes(engine, path)  # first: a store of a newer version is not to be touched, its ledger neither
        return totals(engine.ledger, store_sizes=sizes)

    try:
        return undisturbed(read)
    except LedgerError:
        # Damage found by reading has been moved aside; what is left can be read.
        return undisturbed(read)


def _sizes(engine: Engine, path: Path) -> tuple[int, int, int]:
    from cachelayer.stores.local import sizes_in

    store = engine.tier.store
    if store is not None and not engine.closed:
        return store.sizes()
    if store is None and engine.folder != path:
        return 0, 0, 0  # not there, and the outcomes are this process's own
    return sizes_in(path)
