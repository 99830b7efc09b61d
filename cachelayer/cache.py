"""Cache: the object a user makes. It opens the rooms, hands them to the runtime, and answers questions about them.

The rooms are imported when a Cache is made: a program that imports cachelayer and makes none does not wait for them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cachelayer.core.errors import ConfigError
from cachelayer.core.model import Asked, Request, Unkeyed
from cachelayer.runtime.log import logger

if TYPE_CHECKING:
    from cachelayer.ledger.reports import Stats
    from cachelayer.runtime.engine import Engine
    from cachelayer.runtime.flights import Flights
    from cachelayer.runtime.tier import Tier
    from cachelayer.settings import Settings
    from cachelayer.stores.base import Store

C = TypeVar("C")


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


class Cache:
    """A cache in a folder of this machine, safe for threads, tasks and processes at once.

    Every argument may also come from a CACHELAYER_<NAME> variable or from cachelayer.toml, in this order.
    Raises ConfigError for a wrong setting. A folder that cannot be used, or had, is no error: requests are forwarded,
    with one warning on the logger `cachelayer`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        size_limit: int | str | None = None,
        ttl: float | str | None = None,
        namespace: str | None = None,
        operations: Iterable[str] | None = None,
        normalize: str | None = None,
        prices: Mapping[str, str | int | Decimal | Mapping[str, Any]] | None = None,
        pools: Iterable[Iterable[str]] | None = None,
        ignore: Iterable[str] | None = None,
        max_body: int | str | None = None,
        finish_timeout: float | str | None = None,
        hedge_after: float | str | None = None,
        drain_timeout: float | str | None = None,
        drain_on_sigterm: bool | None = None,
        disabled: bool | None = None,
    ) -> None:
        """
        path: folder of store and ledger; default: the user's cache folder.
        size_limit: what the folder may take on disk besides the ledger ("10GB", "500MiB", or bytes); docs/storage.md.
        ttl: how long an entry is served (seconds, or "1h", "30d"); default: until it is evicted.
        namespace: a wall; entries of one are invisible to another.
        operations: what is cached, of "image", "text", "embedding".
        normalize: "prompt", "exact" or "loose" (docs/key-spec.md).
        prices: your own prices per image in USD, by host (docs/savings.md).
        pools: groups of scopes whose entries answer each other's requests; a first "name:NAME" names the group.
        ignore: fields that do not count: "header:x-job-id", "query:NAME", "body:trace.id".
        max_body: a larger request body is forwarded unread.
        finish_timeout: how long a flight goes on after its last caller has left.
        hedge_after: how long a provider may be silent before one of those who wait makes a call of his own.
        drain_timeout: how long close() and the end of the program wait for flights.
        drain_on_sigterm: wait for flights at SIGTERM too, unless the program has a handler of its own.
        disabled: everything passes through, nothing is opened.
        """
        from cachelayer.runtime import exit as program_end
        from cachelayer.settings import load_settings, source_of
        from cachelayer.stores.place import Place

        self.settings: Settings = load_settings(
            path=path,
            size_limit=size_limit,
            ttl=ttl,
            namespace=namespace,
            operations=operations,
            normalize=normalize,
            prices=prices,
            pools=pools,
            ignore=ignore,
            max_body=max_body,
            finish_timeout=finish_timeout,
            hedge_after=hedge_after,
            drain_timeout=drain_timeout,
            drain_on_sigterm=drain_on_sigterm,
            disabled=disabled,
        )
        self._place = Place(self.settings.path)
        self.path = self._place.path
        self.drain_timeout = self.settings.drain_timeout
        try:
            self._engine = self._open()
        except ConfigError as error:  # of a price; whoever reads prices does not know where they come from
            source = source_of("prices", () if prices is None else ("prices",))
            raise ConfigError(f"{error} (from {source})") from None
        self._closed = False
        if self.settings.drain_on_sigterm and not self.settings.disabled:
            program_end.drain_on_sigterm()

    def _open(self) -> Engine:
        from cachelayer.ledger.prices import Prices
        from cachelayer.machine import locks
        from cachelayer.runtime.commons import Commons, share_of
        from cachelayer.runtime.engine import Engine
        from cachelayer.runtime.tier import Tier

        prices = Prices(self.settings.prices)  # raises ConfigError, disabled or not
        if self.settings.disabled:
            self._share = Commons(self.path, Tier("local", None), disabled=True).share(0.0)
        else:
            limit = self.settings.size_limit
            self._share = share_of(self.path, limit, self._open_tier, drain_timeout=self.drain_timeout)
            if not locks.are_had():
                logger.warning("this platform has no record locks: one flight per key holds within one process only")
        commons = self._share.commons
        engine = Engine(
            commons.folder,
            self.settings.rules(),
            commons.tier,
            commons.ledger,
            prices,
            commons.flights,
            commons.workers,
            disabled=self.settings.disabled,
        )
        self._share.serve(engine)
        engine.booking.book_evicted()  # what went because the limit was lowered
        return engine

    def _open_tier(self) -> tuple[Tier, Path]:
        """The local tier, and the folder for the ledger and the leases."""
        from cachelayer.core.errors import NewerFormat, NotAStore
        from cachelayer.machine.interrupts import undisturbed
        from cachelayer.runtime.tier import Tier
        from cachelayer.stores.local import open_local
        from cachelayer.stores.place import NOWHERE

        def open_store() -> Store:
            self._place.check()
            return open_local(self.path, size_limit=self.settings.size_limit)

        fault: Exception | None = None
        try:
            tier = Tier("local", undisturbed(open_store))
        except Exception as error:  # whatever a store may raise, the calls go on without it
            # What is somebody else's stays so; what is not there yet may come.
            fault, foreign = error, isinstance(error, NewerFormat | NotAStore)
            tier = Tier("local", None, reopen=None if foreign else open_store)
        folder = self._place.for_outcomes(fault)
        if fault is not None or folder != self.path:
            store = "the store" if self.path == NOWHERE else f"the store in {self.path}"
            logger.warning(
                "%s%s",
                f"the ledger in {self.path} cannot be written"
                if fault is None
                else f"{store} is not there: {fault}; requests are forwarded without it",
                "" if folder == self.path else "; this program's own outcomes are kept only until it ends",
            )
        return tier, folder

    def wrap(self, client: C) -> C:
        """A cached twin of a client, of the same type; the given one is not changed, is kept alive, shares its pool.

        client: OpenAI, AsyncOpenAI, AzureOpenAI, AsyncAzureOpenAI, google.genai.Client, or a Client or AsyncClient of
        httpx or httpx2. Raises ConfigError for anything else.
        """
        from cachelayer.clients.wrap import wrap

        twin: C = wrap(self._engine, client)
        return twin

    def stats(self) -> Stats:
        """The totals of the whole store, by its ledger: every process that ever used the folder counts. Of this process
        alone where the folder cannot be written.

        Raises CachelayerError when ledger or store cannot be read, and when outcomes can be kept nowhere: there are no
        totals then, and zeros would be a lie.
        """
        from cachelayer.core.errors import LedgerError
        from cachelayer.machine.interrupts import undisturbed
        from cachelayer.stores.place import NOWHERE

        self._engine.flights.sweep()
        if self._engine.folder == NOWHERE and not self.settings.disabled:
            raise LedgerError("this program's outcomes are lost: neither its cache folder nor a temporary one is there")

        def read() -> Stats:
            from cachelayer.ledger.reports import totals  # here: an interrupted import leaves Python's own lock held

            sizes = self._sizes()  # first: a store of a newer version is not to be touched, its ledger neither
            return totals(self._engine.ledger, store_sizes=sizes)

        try:
            return undisturbed(read)
        except LedgerError:
            # Damage found by reading has been moved aside; what is left can be read.
            return undisturbed(read)

    def _sizes(self) -> tuple[int, int, int]:
        from cachelayer.stores.local import sizes_in

        store = self._engine.tier.store
        if store is not None and not self._closed:
            return store.sizes()
        if store is None and self._engine.folder != self.path:
            return 0, 0, 0  # not there, and the outcomes are this process's own
        return sizes_in(self.path)

    def explain(self, request: Request) -> Explanation:
        """What the cache makes of a request, without sending it."""
        from cachelayer import dialects
        from cachelayer.core import canon
        from cachelayer.core.policy import bypass_reason

        rules = self._engine.rules
        asked = dialects.ask(request, rules.keys)
        reason = bypass_reason(asked, rules.operations)
        if isinstance(asked, Unkeyed):
            return Explanation(None, None, asked.model, {}, b"", reason)
        return Explanation(asked.key, asked.operation, asked.model, canon.fields(asked), asked.canonical, reason)

    def diff(self, a: Request, b: Request) -> list[Difference]:
        """The fields in which two requests differ, as far as their keys go; empty when they share a key.

        Raises ValueError when one of them gets no key.
        """
        from cachelayer import dialects
        from cachelayer.core import canon

        asked = [dialects.ask(request, self._engine.rules.keys) for request in (a, b)]
        for name, one in zip("ab", asked, strict=True):
            if isinstance(one, Unkeyed):
                raise ValueError(f"request {name} gets no key: {one.reason}")
        first, second = (one for one in asked if isinstance(one, Asked))
        return [Difference(*difference) for difference in canon.differences(first, second)]

    def close(self) -> None:
        """Wait drain_timeout for flights, then let go of files. Later calls are BYPASS. Idempotent.

        Never waits for flights of the event loop it is called in: use aclose there. Files are let go of when the last
        flight has stored its answer, also where that takes longer than drain_timeout.
        """
        self._engine.closed = True
        if not self._closed:
            self._say_what_goes_on(self.wait_idle(self.drain_timeout))
            self.release()

    async def aclose(self) -> None:
        """Like close, in a task: flights of this loop go on meanwhile and are waited for."""
        self._engine.closed = True
        if not self._closed:
            self._say_what_goes_on(await self._engine.flights.wait_idle_async(self.drain_timeout))
            self.release()

    def _say_what_goes_on(self, flights: int) -> None:
        if flights:
            logger.warning(
                "close() has waited drain_timeout (%g s) in vain for %s; what comes while the program lives is stored",
                self.drain_timeout,
                "1 answer" if flights == 1 else f"{flights} answers",
            )

    @property
    def flights(self) -> Flights:
        """The flights of the folder; those of other Caches of this process in the same folder among them."""
        return self._engine.flights

    def wait_idle(self, timeout: float) -> int:
        """Wait at most timeout seconds for flights; the number of those that did not end."""
        return self._engine.flights.wait_idle(timeout)

    def release(self) -> None:
        """Let go of this Cache's share without waiting; what close does last.

        The files go with the last share, and when the last flight has stored its answer.
        """
        self._engine.closed = True
        if self._closed:
            return
        self._closed = True
        from cachelayer.machine.interrupts import undisturbed

        undisturbed(self._share.leave)

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def __aenter__(self) -> Cache:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"Cache(path={json.dumps(str(self.path))}, namespace={self.settings.namespace!r})"


_default: Cache | None = None


def wrap(client: C) -> C:
    """A cached twin of a client, with a default Cache that all calls of this function share."""
    global _default
    if _default is None or _default._closed:
        _default = Cache()
    return _default.wrap(client)
