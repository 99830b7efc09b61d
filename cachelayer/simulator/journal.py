"""What reached the simulator and what it answered: the counts that tests hold the cache's ledger against."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from decimal import Decimal

from cachelayer.simulator.behaviour import Behaviour, Call, Director

KEEP_BYTES = 512_000_000
"""Bytes of request bodies kept at most (the newest body always), so that 400 MB requests do not fill the memory."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it arrived."""

    method: str
    path: str
    """With its query, as on the request line."""
    headers: tuple[tuple[str, str], ...]
    """In wire order, names as they were spelled."""
    body: bytes
    """Transfer coding undone, nothing else."""


class Journal:
    """Thread-safe record of a simulator's life."""

    def __init__(self, director: Director, keep_requests: int) -> None:
        self._changed = threading.Condition()
        self._director = director
        self._keep = keep_requests
        self._requests: deque[Recorded] = deque()
        self._kept_bytes = 0
        self.calls = 0
        self.answered = 0
        self.billed = Decimal(0)

    def record(self, request: Recorded) -> None:
        """Keep a request; the oldest ones make room."""
        with self._changed:
            self._requests.append(request)
            self._kept_bytes += len(request.body)
            while len(self._requests) > self._keep or (self._kept_bytes > KEEP_BYTES and len(self._requests) > 1):
                self._kept_bytes -= len(self._requests.popleft().body)

    def requests(self) -> list[Recorded]:
        """A copy of what is kept, oldest first."""
        with self._changed:
            return list(self._requests)

    def script(self, behaviours: list[Behaviour]) -> None:
        """Tell the director what comes next."""
        with self._changed:
            self._director.script(behaviours)

    def arrive(self, base_url: str) -> Call:
        """Count a generation call and draw its behaviour."""
        with self._changed:
            self.calls += 1
            self._changed.notify_all()
            return self._director.next(base_url)

    def book(self, *, good: bool, billed: Decimal) -> None:
        """Book an answer, just before its last bytes leave: who has read it all then sees it in the
        counts."""
        with self._changed:
            self.answered += good
            self.billed += billed

    def unbook(self, *, good: bool, billed: Decimal) -> None:
        """Take a booking back: the last bytes could not be sent."""
        with self._changed:
            self.answered -= good
            self.billed -= billed

    def wait_for_calls(self, number: int, timeout: float) -> None:
        """Block until that many calls have arrived. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.calls >= number, timeout):
                raise TimeoutError(f"{self.calls} calls arrived within {timeout} s, not {number}")
