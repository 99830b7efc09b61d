"""Failures of our own: counted, written down, and warned of once per kind. The call goes on without what failed."""

from __future__ import annotations

from contextlib import suppress

from cachelayer.ledger.ledger import Ledger
from cachelayer.machine.interrupts import let_through
from cachelayer.runtime.log import log_warning


class Faults:
    """The failures of one Cache."""

    def __init__(self, ledger: Ledger, *, silent: bool = False) -> None:
        self._ledger = ledger
        self._warned: set[str] = set()
        self.count = 0
        """Failures that a call went on without."""
        self.silent = silent
        """Nothing is written down: the Cache is disabled."""

    def fault(self, what: str, error: BaseException) -> None:
        """Count a failure and warn once per kind. Raises only what is no failure of ours but out of a signal handler of
        the program's."""
        let_through(error)
        self.count += 1
        if not self.silent:
            self.book(what, error)
        self.warn_once(f"{what} {type(error).__name__}", f"could not {what}: %s; the call goes on without it", error)

    def book(self, what: str, error: BaseException) -> None:
        """Have a failure in the ledger. Never raises: one of the ledger itself is written when it can be, and an
        outcome that it cannot take says so."""
        with suppress(Exception):  # an interrupt is lost here, in the one line after a failure that it must not hide
            self._ledger.record_fault(what, type(error).__name__)

    def warn_once(self, kind: str, message: str, error: BaseException) -> None:
        """Log a warning, the first of its kind. message: with one %s for the error."""
        if kind not in self._warned:
            self._warned.add(kind)
            log_warning(message % f"{type(error).__name__}: {error}")
