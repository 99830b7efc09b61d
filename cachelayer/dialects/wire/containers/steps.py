"""The bound on a walk. Only that lives here."""

from __future__ import annotations

from typing import Final

MOST_STEPS: Final = 500_000
"""Chunks, segments, blocks or table rows of one image that are looked at: under a second. A real image of 100 MB has
400,000 (GIF) or far fewer; more are a trap, and no image."""


class TooMany(Exception):
    """A walk came to its bound."""


class Steps:
    """The steps that are left of one walk."""

    def __init__(self) -> None:
        self._left = MOST_STEPS

    def take(self, count: int = 1) -> None:
        """Raises TooMany."""
        self._left -= count
        if self._left < 0:
            raise TooMany
