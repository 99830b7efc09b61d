"""How much is done at a stretch by whoever folds or reads the ledger, so that nobody beside him stands still. No I/O.

Two things can make others wait: a stay inside ``inside_sqlite``, for which a fork waits and whoever is behind that
fork, and the interpreter, which a thread that only computes gives up 5 ms after it is asked for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

GOAL: Final = 0.03
"""Seconds of one stay inside the gate, the commit with its syncs included."""
_LEAST: Final = 200
"""Rows. Fewer make no stay shorter where it is the disk that is slow, and the whole many times longer."""
_FIRST: Final = 250

AT_ONCE: Final = 128
"""Lines or rows after which another thread may have the interpreter."""
_BREATH: Final = 0.00005
"""Seconds for which it may. Not 0: this thread would have the interpreter back before the other is awake."""

AT_ONCE_GENTLY: Final = 32
_GENTLE_BREATH: Final = 0.001


def breathe() -> None:
    """Let another thread have the interpreter, if one wants it."""
    time.sleep(_BREATH)


class Pace:
    """How many rows one stay inside the gate handles: as many as take about GOAL.

    Not a fixed number: on a machine that is ten times slower, or as busy, those would hold up a fork ten times as long.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows = min(most, _FIRST)

    def took(self, seconds: float) -> None:
        """Tell how long the last stay was, for as many rows as it was allowed."""
        factor = min(2.0, GOAL / max(seconds, GOAL / 4))
        self.rows = min(self._most, max(_LEAST, int(self.rows * factor)))


class Breath:
    """Pauses of a thread that works through lines or rows."""

    def __init__(self, gently: Callable[[], bool] = lambda: False) -> None:
        """gently: whether nobody waits for the work. Then every other thread is to notice as little of it as can be."""
        self._gently = gently
        self._since = 0

    def after_one(self) -> None:
        """One line or row is done."""
        self._since += 1
        if self._since >= AT_ONCE:
            self._since = 0
            breathe()
        elif not self._since % AT_ONCE_GENTLY and self._gently():
            time.sleep(_GENTLE_BREATH)
