"""What an answer of images/generations or images/edits means: good or not, what was billed, where its images lie."""

from __future__ import annotations

from typing import Final

from cachelayer.core.model import Answer, Asked, Reading
from cachelayer.core.reasons import Reason, status_reason
from cachelayer.dialects.answer import is_image_data, listing, mapping, open_body
from cachelayer.dialects.media import Piece
from cachelayer.dialects.openai_usage import usage_of
from cachelayer.dialects.usage import cost_of, name_of

_MIMES: Final = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "svg": "image/svg+xml",
}
_UNNAMED: Final = "application/octet-stream"


def read(asked: Asked, answer: Answer) -> Reading:
    """Judge an answer. Takes one parse; never raises."""
    opened = open_body(answer)
    if opened is None:
        return Reading(status_reason(answer.status) if answer.status != 200 else Reason.INCOMPLETE)
    document = opened.document
    named = document.get("output_format")
    mime = _MIMES.get(named, _UNNAMED) if isinstance(named, str) else _UNNAMED
    images: dict[int, str] = {}
    whole = by_url = 0
    data = listing(document.get("data"))
    for item in map(mapping, data):
        encoded = item.get("b64_json")
        if is_image_data(encoded):
            whole += 1
            if isinstance(encoded, Piece):
                media_type = item.get("media_type")
                images[encoded.start] = media_type if isinstance(media_type, str) else mime
        elif not encoded and isinstance(item.get("url"), str):
            by_url += 1
    size, quality = document.get("size"), document.get("quality")
    refusal: str | None = None
    if answer.status != 200:
        refusal = status_reason(answer.status)
    elif document.get("error"):
        refusal = Reason.INCOMPLETE
    elif by_url:
        refusal = Reason.IMAGE_URL
    elif not data:
        refusal = Reason.NO_IMAGE
    elif whole < len(data) or whole < asked.count:
        refusal = Reason.INCOMPLETE
    return Reading(
        refusal=refusal,
        images=whole,
        usage=usage_of(document),
        spans=opened.spans(images),
        size=size if isinstance(size, str) else None,
        quality=quality if isinstance(quality, str) else None,
        model=name_of(document.get("model")),
        cost=cost_of(answer, document.get("usage")),
    )
