"""Where settings come from: which of argument, variable and file a value was taken from, and names that are none."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path

from cachelayer.core.errors import ConfigError

FILE = "cachelayer.toml"
"""In the working folder."""
PREFIX = "CACHELAYER_"


def source_of(name: str, given: Collection[str]) -> str | None:
    """Where a setting in force comes from, for people; None when it is the default.

    given: the names of the arguments that were given. Asked in the order in which they win.
    """
    if name in given:
        return "an argument"
    variable = f"{PREFIX}{name.upper()}"
    if any(there.upper() == variable and value for there, value in os.environ.items()):
        return f"the variable {variable}"
    try:
        in_file = tomllib.loads(file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(file()) if name in in_file else None


def unknown_variables(names: Iterable[str]) -> dict[str, str | None]:
    """Variables that look like ours and are none of the settings of these names -> the one that was probably meant."""
    known = {f"{PREFIX}{name.upper()}": name.upper() for name in names}
    found: dict[str, str | None] = {}
    for name in sorted(os.environ):
        spelled = name.upper()
        if spelled in known:
            continue
        if spelled.startswith(PREFIX):
            meant = nearest(spelled.removeprefix(PREFIX), known.values())
            found[name] = None if meant is None else PREFIX + meant
        elif difflib.get_close_matches(spelled, known, n=1, cutoff=0.9):  # CACHE_LAYER_PATH
            found[name] = nearest(spelled, known)
    return found


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name that was probably meant."""
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.7)), None)


def file() -> Path:
    """Where cachelayer.toml is looked for."""
    try:
        return Path(FILE).absolute()
    except OSError:  # the working folder is gone
        return Path(FILE)


def said_from(name: str, given: Collection[str]) -> str:
    """Where a value came from, at the end of a sentence."""
    source = source_of(name, given)
    return "" if source is None else f" (from {source})"


def wrong(name: str, what: str, given: Collection[str]) -> ConfigError:
    """The sentence about a wrong value."""
    return ConfigError(f"setting {name!r} is wrong: {what}{said_from(name, given)}")
