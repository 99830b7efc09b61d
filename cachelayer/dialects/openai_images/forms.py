"""A form (multipart/form-data) as the JSON body that asks the same. Only that lives here."""

from __future__ import annotations

import re
from typing import Final

from cachelayer.core.canon import digest_of, reference
from cachelayer.core.jsonspan import Malformed
from cachelayer.core.model import Json
from cachelayer.dialects.openai_images.body import FIELD, IMAGES_OF_A_FORM, REPEATED
from cachelayer.dialects.wire import media, multipart
from cachelayer.dialects.wire.folding import plain

_INTEGERS: Final = ("n", "output_compression", "partial_images", "frame_count", "frame_duration_ms")
"""Known fields that a form spells as text."""


def form_body(body: bytes, boundary: str) -> dict[str, Json]:
    """A form as the JSON body that asks the same."""
    fields: dict[str, list[Json]] = {}
    for part in multipart.parts(body, boundary):
        fields.setdefault(part.name, []).append(_field(part.name, part))
    raw: dict[str, Json] = {}
    single, several = len(fields.get("image", ())), "image[]" in fields
    for name, values in fields.items():
        files = all(isinstance(value, media.Formed) and FIELD not in value.form for value in values)
        if files and ((name == "image" and single == 1 and not several) or (name == "image[]" and not single)):
            raw["images"] = values
        elif name == "images":
            # Not a field of the form: kept, but never taken for the images of a JSON body.
            raw.setdefault("images", media.Formed({REPEATED: [plain(value) for value in values]}))
        else:
            # Which of several fields of one name counts is the server's secret: of two called "image" one takes the
            # last, another all, OpenAI neither.
            raw[name] = values[0] if len(values) == 1 else media.Formed({REPEATED: [plain(value) for value in values]})
    if "images" in fields and (single or several):
        raise Malformed("images in two ways")
    return raw


def _part(part: multipart.Part, text: str | None) -> Json:
    """A file, which is what a data: URL says in JSON; or a field for which JSON has no word."""
    form: dict[str, Json] = {} if part.mime is None or part.is_text else {"mime": part.mime}
    if text is None:
        form["data"] = reference(digest_of(part.data), len(part.data))
    else:
        form["text"] = text
    if part.is_file:
        return form
    return {FIELD: form if part.is_file is False else {**form, "filename": ""}}


def _field(name: str, part: multipart.Part) -> Json:
    text = None if part.is_file else part.text()
    if text is None or not part.is_text or name in IMAGES_OF_A_FORM:
        return media.Formed(_part(part, text))
    if name in _INTEGERS and re.fullmatch(r"(0|[1-9][0-9]{0,8})", text):
        return int(text)
    if name == "stream" and text in ("true", "false"):
        return text == "true"
    return text
