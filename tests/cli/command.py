"""The console script as its users run it, and what the tests' stores hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cachelayer.ledger.reports import Stats

SCRIPT = Path(sys.executable).parent / "cachelayer"


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code in (0, 1), self.err
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The one sentence of an error."""
        assert self.err.startswith("cachelayer: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("cachelayer: ").rstrip("\n")


Run = Callable[..., Ended]


@dataclass(frozen=True)
class Stored:
    """A store with two paid calls and one hit, and what its callers know about it."""

    path: Path
    lighthouse: str
    """Key of a PNG of gpt-image-2, stored first, asked for twice."""
    harbour: str
    """Key of a JPEG of gemini-3-pro-image."""
    images: dict[str, bytes]
    """Key -> the image as the caller got it."""
    stats: Stats
    url: str
