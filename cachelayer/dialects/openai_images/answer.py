"""What an answer of images/generations or images/edits means: good or not, what was billed, where its images lie."""

from __future__ import annotations

import re
from typing import Final

from cachelayer.core.model import Asked, Json
from cachelayer.core.reasons import Reason
from cachelayer.dialects.dialect import Said
from cachelayer.dialects.openai_images.usage import usage_of
from cachelayer.dialects.wire import verdict
from cachelayer.dialects.wire.loose import listing, mapping
from cachelayer.dialects.wire.pictures import Delivered, container_in

_CONTENT: Final = frozenset({"data", "usage", "b64_json", "url", "revised_prompt"})
_ADDRESS: Final = re.compile(r"\s*[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def read(asked: Asked, document: dict[str, Json], delivered: Delivered) -> Said:
    """What a document says; its images are added to what is delivered."""
    items = [mapping(item) for item in listing(document.get("data"))]
    for item in items:
        _add(item, delivered)
    return Said(
        against=_against(asked, document, items, delivered),
        usage=usage_of(document),
        block=document.get("usage"),
        size=document.get("size"),
        quality=document.get("quality"),
        model=document.get("model"),
    )


def _add(item: dict[str, Json], delivered: Delivered) -> None:
    """An item's image: its bytes, under either name, go before a link to it."""
    held = [value for name in ("b64_json", "url") if (value := item.get(name)) and not _is_link(name, value)]
    if held:
        delivered.add(held[0])
    elif item.get("b64_json") or item.get("url"):
        delivered.links += 1
    else:
        delivered.unreadable += 1


def _is_link(name: str, value: Json) -> bool:
    if not isinstance(value, str) or value.lstrip()[:5].lower() == "data:":
        return False
    # Short bytes in place of an address are told from one by what they are; longer ones are no text here any more.
    return _ADDRESS.match(value) is not None or (name == "url" and container_in(value)[1] is None)


def _against(asked: Asked, document: dict[str, Json], items: list[dict[str, Json]], delivered: Delivered) -> str | None:
    against = verdict.worst(
        reason for fields in (document, *items) for reason in verdict.of_fields(fields, without=_CONTENT)
    )
    if against is not None:
        return against
    if delivered.not_whole:
        return Reason.NOT_AN_IMAGE
    if delivered.links:
        return Reason.IMAGE_URL
    if not items:
        return Reason.NO_IMAGE
    return None if delivered.whole == len(items) >= asked.count else Reason.INCOMPLETE
