"""The kinds of values that settings have: how each may be written, and what it should be, in words. Nothing else.

pydantic.ByteSize was rejected for sizes: it takes True and 1.5 for 1 byte, and "10 Mbit" for a size.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, get_args

from platformdirs import user_cache_path
from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode

from cachelayer.core.model import Normalize, Operation


@dataclass(frozen=True, slots=True)
class Right:
    """What a value of a kind should be. Said in place of a library's own words, which name its types."""

    words: str


def right(field: FieldInfo) -> str:
    """What a setting should be."""
    return next((found.words for found in _metadata(field) if isinstance(found, Right)), "another value")


def _metadata(field: FieldInfo) -> list[Any]:
    # Of an optional one they are those of the kind inside.
    inside = (found for kind in get_args(field.annotation) for found in getattr(kind, "__metadata__", ()))
    return [*field.metadata, *inside]


_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b", re.IGNORECASE)
_BYTES = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}

_LONGEST_WAIT = 20 * 86_400
"""Seconds. finish_timeout becomes the timeout of a socket, which the system counts in milliseconds in 31 bits: from
24.8 days on every call would raise OverflowError."""
_LARGEST = 2**63 - 1
"""Bytes. What SQLite can count to."""


def _seconds(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f'{value!r} is no duration: write seconds, or "30s", "10m", "1h", "30d"')
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is not None:
            return float(match[1]) * _SECONDS[match[2]]
        try:
            return float(value)
        except ValueError:
            raise ValueError(f'{value!r} is no duration: write seconds, or "30s", "10m", "1h", "30d"') from None
    return value


def _bytes(value: Any) -> Any:
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is not None:
            return int(Decimal(match[1]) * _BYTES[(match[2] or "").lower()])
    if isinstance(value, bool) or (isinstance(value, str) and not value.strip().isdecimal()):
        raise ValueError(f'{value!r} is no size: write bytes, or "50MB", "50MiB", "10GB"')
    return value


def _words(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip().startswith("["):
        # A variable of pools has to be JSON, so that one of words may be too. No word begins with a bracket.
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


def _folder(value: Any) -> Any:
    # An empty path is the working folder to pathlib, and an unset variable to whoever wrote it.
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise ValueError(f"{value!r} is no path")
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    # Before pathlib has seen it, which makes "./~a" and "~a" one. This is the only place where anything in a path is
    # expanded: a $ is a $.
    return expanded(text) if isinstance(text, str) else value


def expanded(text: str) -> Path | None:
    """The path with its ~ replaced; None where this user has no home folder. Raises ValueError for a user whom nobody
    knows."""
    user, _, rest = text.partition("/")
    if not user.startswith("~"):
        return Path(text)
    # Not os.path.expanduser, for which an empty HOME makes "~/x" to "/x".
    home = os.environ.get("HOME", "") if user == "~" else ""
    if not os.path.isabs(home):
        home = _home_by_the_books(user[1:])
    if os.path.isabs(home):
        return Path(home, rest)
    if user == "~":
        return None  # not wrong in itself: under `docker run -u 12345` it is the rule
    raise ValueError(f"there is no user {user[1:]!r} with a home folder")


def _home_by_the_books(user: str) -> str:
    import pwd  # not everywhere, and nobody but a ~ needs it

    try:
        return pwd.getpwnam(user).pw_dir if user else pwd.getpwuid(os.getuid()).pw_dir
    except (KeyError, ValueError):  # no such user; a name that cannot be one
        return ""


def default_folder() -> Path | None:
    """The user's cache folder; None where he has no home folder."""
    try:
        folder = user_cache_path("cachelayer", appauthor=False)
    except RuntimeError:  # neither HOME nor XDG_CACHE_HOME nor an entry in the list of users
        return None
    return folder if folder.is_absolute() else None


_A_DURATION = '"30s", "10m", "1h"'

Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(gt=0, allow_inf_nan=False),
    Right(f'seconds above 0, or {_A_DURATION}, "30d"'),
]
Wait = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(gt=0, le=_LONGEST_WAIT, allow_inf_nan=False),
    Right(f"seconds above 0 and up to 20 days, or {_A_DURATION}"),
]
Size = Annotated[
    int, BeforeValidator(_bytes), Field(gt=0, le=_LARGEST), Right('bytes above 0, or "50MB", "50MiB", "10GB"')
]
Folder = Annotated[Path | None, BeforeValidator(_folder), Right("the name of a folder")]
Name = Annotated[str, Field(min_length=1, max_length=200), Right("a text of 1 to 200 characters")]
Operations = Annotated[
    tuple[Operation, ...],
    NoDecode,
    BeforeValidator(_words),
    Right('a list of "image", "text" and "embedding"'),
]
Folding = Annotated[Normalize, Right('"prompt", "exact" or "loose"')]
Prices = Annotated[dict[str, Any], Right('a table of hosts, such as {"api.reseller.example": "0.05"}')]
Pools = Annotated[
    tuple[tuple[str, ...], ...],
    Right('a list of lists of hosts, such as [["api.official.example", "api.reseller.example"]]'),
]
Fields = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_words),
    Right("a list of header:NAME, query:NAME and body:dotted.path"),
]
Flag = Annotated[bool, Right("true or false")]
