"""The request bodies of images/generations and images/edits: their fields, and how one in JSON is folded.

Field tables: openai-python 3.57.0, openai/types/image_generate_params.py and image_edit_params.py; docs/key-spec.md
names the page of each folded default.
"""

from __future__ import annotations

from typing import Final

from cachelayer.core.canon import escape, is_reference
from cachelayer.core.model import Json
from cachelayer.dialects.wire import media
from cachelayer.dialects.wire.folding import fold, known, plain

BODY: Final = known(
    "prompt",
    "background",
    "complexity",
    "frame_count",
    "frame_duration_ms",
    "input_fidelity",
    "model",
    "moderation",
    "n",
    "output_compression",
    "output_format",
    "partial_images",
    "quality",
    "response_format",
    "size",
    "stream",
    "style",
    "user",
    "safety_identifier",
    "metadata",
    "service_tier",
    svg=known("model", config=True, reasoning=known("effort", config=True)),
)
_IMAGES: Final = ("images", "image", "mask", "markup")
"""Fields that hold images: data: URLs in JSON, files in a form."""
IMAGES_OF_A_FORM: Final = (*_IMAGES, "image[]")
_IMAGE_FIELDS: Final = ("type", "image_url", "url", "b64_json", "file_id")
_HOLDERS: Final = ("image_url", "url", "b64_json")
"""Fields of an image in JSON that hold it, or point at it."""
REPEATED: Final = "$form"
"""Marks several parts of one name, which only a form can say; no text of a request can spell it."""
FIELD: Final = "$field"
"""Marks a part of a form that is no file, where JSON has no such thing: an image that came as a field, say."""


def fold_body(raw: dict[str, Json]) -> dict[str, Json]:
    """A body in its one spelling, its images as typed references."""
    body: dict[str, Json] = fold(BODY, {name: value for name, value in raw.items() if name not in _IMAGES})
    for name in _IMAGES:
        if raw.get(name) is not None:
            body[name] = _image(raw[name])
    return body


def _image(value: Json) -> Json:
    """An image or a list of them. A data: URL becomes {"mime", "data"}; base64 of a known image is replaced where it
    stands, since what else is said of it may count."""
    if isinstance(value, list):
        return [_image(item) for item in value]
    if isinstance(value, media.Formed):
        return value.form
    if isinstance(value, dict):
        there = {name: item for name, item in value.items() if item is not None or name not in _IMAGE_FIELDS}
        for name in ("image_url", "url"):
            # {"image_url": U} is OpenAI's way, {"type": "image_url", "url": U} xAI's. With anything more it is kept.
            if there.keys() - {"type"} == {name} and there.get("type", "image_url") == "image_url":
                found = media.data_url(there[name])
                if found is not None:
                    return {"mime": found[0], "data": found[1]}
        return {escape(name): _image(item) if name in _HOLDERS else plain(item) for name, item in there.items()}
    found = media.data_url(value)
    if found is not None:
        return {"mime": found[0], "data": found[1]}
    return media.image(value) or plain(value)


def holds_content(image: Json) -> bool:
    """Whether a folded image is there with its bytes; an address, an id or anything unknown only points at them."""
    if is_reference(image):
        return True
    if isinstance(image, dict):
        if REPEATED in image:
            return all(holds_content(one) for one in image[REPEATED])
        if FIELD in image:
            # Bytes that are no text are no id either.
            return "data" in image[FIELD] or holds_content(image[FIELD]["text"])
        holders = [image[name] for name in _HOLDERS if name in image]
        return is_reference(image.get("data")) or (bool(holders) and all(map(holds_content, holders)))
    # A bare string may be base64, but so may an id ("asset-17" decodes); only a known image is told from one.
    return isinstance(image, str) and (image.startswith("data:") or media.image(image) is not None)


def as_list(value: Json) -> list[Json]:
    """The images in a field that may hold one, or several."""
    if isinstance(value, dict) and REPEATED in value:
        return as_list(value[REPEATED])
    return value if isinstance(value, list) else [] if value is None else [value]
