"""Cache: the object a user makes. It opens the rooms, hands them to the runtime, wraps clients, and closes.

The rooms are imported when a Cache is made: a program that imports cachelayer and makes none does not wait for them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Unpack

from cachelayer import questions
from cachelayer.core.errors import ConfigError
from cachelayer.core.model import Request
from cachelayer.questions import Difference, Explanation
from cachelayer.runtime.log import logger

if TYPE_CHECKING:
    from cachelayer.ledger.reports import Stats
    from cachelayer.runtime.engine import Engine
    from cachelayer.runtime.flights import Flights
    from cachelayer.runtime.tier import Tier
    from cachelayer.settings import Settings
    from cachelayer.settings.given import Given
    from cachelayer.stores.base import Store

C = TypeVar("C")


class Cache:
    """A cache in a folder of this machine, safe for threads, tasks and processes at once.

    Every argument may also come from a CACHELAYER_<NAME> variable or from cachelayer.toml, in this order.
    Raises ConfigError for a wrong setting. A folder that cannot be used, or had, is no error: requests are forwarded,
    with one warning on the logger `cachelayer`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        **settings: Unpack[Given],
    ) -> None:
        """path: folder of store and ledger; by default the user's cache folder. settings: docs/settings.md."""
        from cachelayer.runtime import exit as program_end
        from cachelayer.settings import load_settings
        from cachelayer.settings.sources import source_of
        from cachelayer.stores.place import Place

        self.settings: Settings = load_settings(path=path, **settings)
        self._place = Place(self.settings.path)
        self.path = self._place.path
        self.drain_timeout = self.settings.drain_timeout
        try:
            self._engine = self._open()
        except ConfigError as error:  # of a price; whoever reads prices does not know where they come from
            source = source_of("prices", () if settings.get("prices") is None else ("prices",))
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
        return questions.stats(self._engine, self.path)

    def explain(self, request: Request) -> Explanation:
        """What the cache makes of a request, without sending it."""
        return questions.explain(request, self._engine.rules)

    def diff(self, a: Request, b: Request) -> list[Difference]:
        """The fields in which two requests differ, as far as their keys go; empty when they share a key.

        Raises ValueError when one of them gets no key.
        """
        return questions.diff(a, b, self._engine.rules)

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
