"""Where output goes: a rich console for people, plain text for programs. rich is imported only when one is made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from cachelayer.cli.format import json_text

if TYPE_CHECKING:
    from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    """No markup: what is printed may be a stranger's prompt. NO_COLOR, COLUMNS and pipes are respected by rich."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json_text(value), flush=True)


def note(sentence: str) -> None:
    """One line on stderr."""
    print(f"cachelayer: {sentence}", file=sys.stderr)
