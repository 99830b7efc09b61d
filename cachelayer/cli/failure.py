"""How a command fails: one sentence and an exit code."""

from __future__ import annotations

FOUND = 1
"""Exit code: something is wrong, or is not there."""
USAGE = 2
"""Exit code: the command cannot be carried out as it was given."""


class Failure(Exception):
    """Ends a command; main prints the sentence on stderr, without a traceback."""

    def __init__(self, sentence: str, code: int = FOUND) -> None:
        super().__init__(sentence)
        self.code = code
