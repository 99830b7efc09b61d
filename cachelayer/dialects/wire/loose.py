"""Fields of parsed JSON that may be anything, read as what they should be. Only that lives here; no format's names."""

from __future__ import annotations

import re
from typing import Final

from cachelayer.core.model import Json

_HUMP: Final = re.compile("[A-Z]")


def either(fields: dict[str, Json], camel: str) -> Json:
    """A field of a protocol-buffer message in JSON, in its own spelling or snake_case, whichever says something: null,
    absent and empty are one."""
    value = fields.get(camel)
    if value is not None and value not in ("", [], {}):
        return value
    other = fields.get(_HUMP.sub(_snake, camel))
    return value if other is None else other


def _snake(hump: re.Match[str]) -> str:
    return f"_{hump[0].lower()}"


def mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def listing(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
