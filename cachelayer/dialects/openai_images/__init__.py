"""OpenAI-compatible images/generations and images/edits: which requests are recognised and what they ask for.

What an answer means is in answer.py. Field tables: openai-python 3.57.0, openai/types/image_generate_params.py
and image_edit_params.py; docs/key-spec.md names the page of each folded default.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from cachelayer.core.canon import digest_of, escape, is_reference, reference
from cachelayer.core.jsonspan import Malformed
from cachelayer.core.model import Json, KeyRules, Request
from cachelayer.core.prompt import normalize
from cachelayer.core.reasons import Reason
from cachelayer.core.scope import Target, scope_of
from cachelayer.dialects.form import Narrowed, NotKeyed, Recognised, Understood, count_of, narrowed, parse_json
from cachelayer.dialects.wire import media, multipart
from cachelayer.dialects.wire.envelope import content_type, is_form, is_json
from cachelayer.dialects.wire.folding import fold, is_url, known, plain, strings

NAME: Final = "openai-images"
_HOMES: Final = {
    "api.openai.com": "openai",
    "generativelanguage.googleapis.com": "google",  # ai.google.dev/gemini-api/docs/openai
    "*aiplatform.googleapis.com": "google",
}
_ENDPOINTS: Final = ("generations", "edits")

_BODY: Final = known(
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
_AUTO: Final = {
    "generations": ("quality", "background", "moderation"),
    "edits": ("quality", "background"),
}
"""Fields whose documented default is ``auto``, so that saying it and leaving it out are the same."""
_AUTO_HOST: Final = "api.openai.com"
"""Where that is documented, whatever the model. Behind the same path other hosts have defaults of their own (Azure's
quality is high), and then ``auto`` would answer for them."""
_BOOKKEEPING: Final = ("user", "safety_identifier", "metadata", "service_tier")
_IMAGES: Final = ("images", "image", "mask", "markup")
"""Fields that hold images: data: URLs in JSON, files in a form."""
_IMAGES_OF_A_FORM: Final = (*_IMAGES, "image[]")
_IMAGE_FIELDS: Final = ("type", "image_url", "url", "b64_json", "file_id")
_HOLDERS: Final = ("image_url", "url", "b64_json")
"""Fields of an image in JSON that hold it, or point at it."""
_INTEGERS: Final = ("n", "output_compression", "partial_images", "frame_count", "frame_duration_ms")
"""Known fields that a form spells as text."""
_STATEFUL: Final = frozenset({"tools", "previousresponseid", "previousinteractionid", "conversation"})
_REFERENCE_BY_ID: Final = ("fileid", "fileids")
_REPEATED: Final = "$form"
"""Marks several parts of one name, which only a form can say; no text of a request can spell it."""
_FIELD: Final = "$field"
"""Marks a part of a form that is no file, where JSON has no such thing: an image that came as a field, say."""


def recognise(target: Target) -> Recognised | None:
    """``[/prefix][/version]/images/generations`` or ``/images/edits``, else None."""
    segments = target.path.split("/")[1:]
    slash = segments[-1:] == [""]
    if slash:
        segments.pop()
    if len(segments) < 2 or segments[-2] != "images" or segments[-1] not in _ENDPOINTS:
        return None
    before = segments[:-2]
    # Azure names the model by its deployment.
    deployment = before[-1] if before[-3:-1] == ["openai", "deployments"] else ""
    return Recognised(
        dialect=NAME,
        scope=scope_of(target.host, before),
        endpoint=f"images/{segments[-1]}" + "/" * slash,
        model=deployment,
        response="json",
        query=target.query,
        homes=_HOMES,
    )


def understand(seen: Recognised, request: Request, rules: KeyRules) -> Understood:
    """What a recognised request asks for. Raises NotKeyed or Malformed."""
    edits = seen.endpoint.startswith("images/edits")
    kind = content_type(request.headers)
    if is_json(kind):
        raw = parse_json(request.body)
    elif edits and kind is not None and is_form(kind):
        raw = _form(request.body, kind[1].get("boundary", ""))
    else:
        raise NotKeyed(Reason.CONTENT_TYPE)
    body = _fold(raw)
    model = body["model"] if isinstance(body.get("model"), str) else seen.model or None
    stream = body.get("stream") is True
    tier = body.get("service_tier")
    size, quality = body.get("size"), body.get("quality")
    count = count_of(body.get("n"))
    refusal = _refusal(body)
    references = sum(len(_as_list(body.get(name))) for name in _IMAGES_OF_A_FORM)
    prompt = body.get("prompt")
    parts, normalized = normalize([prompt] if isinstance(prompt, str) else [], rules.normalize)

    # What is refused, and how many are asked for, goes by the whole body; the form by what the user lets count.
    @cache
    def counting(auto: tuple[str, ...]) -> Narrowed:
        got = narrowed(raw, rules, _BODY, lambda raw: _counting(_fold(raw), auto, counted=count is not None))
        if parts and "prompt" in got.body:
            got.body["prompt"] = parts[0]
        return got

    auto = _AUTO["edits" if edits else "generations"]
    return Understood(
        operation="image",
        model=model,
        body_at=lambda host: counting(auto if host == _AUTO_HOST else ()),
        count=count or 1,
        response="stream" if stream else "json",
        refusal=refusal,
        size=size if isinstance(size, str) and size != "auto" else None,
        quality=quality if isinstance(quality, str) and quality != "auto" else None,
        tier=tier.lower() if isinstance(tier, str) else None,
        references=references,
        normalized=normalized,
    )


def _counting(body: dict[str, Json], auto: tuple[str, ...], *, counted: bool) -> dict[str, Json]:
    """A folded body freed of bookkeeping, of the fields in `auto` that say just that, and of its count."""
    for name in _BOOKKEEPING:
        body.pop(name, None)
    for name in auto:
        if body.get(name) == "auto":
            del body[name]
    if counted:
        body.pop("n", None)
    if isinstance(body.get("stream"), bool):
        del body["stream"]
    if isinstance(body.get("model"), str):
        del body["model"]
    return body


def _fold(raw: dict[str, Json]) -> dict[str, Json]:
    body: dict[str, Json] = fold(_BODY, {name: value for name, value in raw.items() if name not in _IMAGES})
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


def _refusal(body: dict[str, Json]) -> str | None:
    if any(_bare(name) in _STATEFUL for name in body):
        return Reason.STATEFUL
    if not all(_holds_content(one) for name in _IMAGES_OF_A_FORM for one in _as_list(body.get(name))):
        return Reason.REFERENCE_UNKNOWN
    # A form may say it in several parts, or in one that is no plain text.
    if any(_bare(name) in _REFERENCE_BY_ID and value is not None for name, value in body.items()):
        return Reason.REFERENCE_UNKNOWN
    rest = {name: value for name, value in body.items() if name not in ("prompt", *_BOOKKEEPING)}
    if any(is_url(text) or _bare(name) in _REFERENCE_BY_ID for name, text in strings(rest)):
        return Reason.REFERENCE_UNKNOWN
    return None


def _bare(name: str) -> str:
    return name.replace("_", "").lower()


def _holds_content(image: Json) -> bool:
    """Whether a folded image is there with its bytes; an address, an id or anything unknown only points at them."""
    if is_reference(image):
        return True
    if isinstance(image, dict):
        if _REPEATED in image:
            return all(_holds_content(one) for one in image[_REPEATED])
        if _FIELD in image:
            # Bytes that are no text are no id either.
            return "data" in image[_FIELD] or _holds_content(image[_FIELD]["text"])
        holders = [image[name] for name in _HOLDERS if name in image]
        return is_reference(image.get("data")) or (bool(holders) and all(map(_holds_content, holders)))
    # A bare string may be base64, but so may an id ("asset-17" decodes); only a known image is told from one.
    return isinstance(image, str) and (image.startswith("data:") or media.image(image) is not None)


def _as_list(value: Json) -> list[Json]:
    if isinstance(value, dict) and _REPEATED in value:
        return _as_list(value[_REPEATED])
    return value if isinstance(value, list) else [] if value is None else [value]


def _form(body: bytes, boundary: str) -> dict[str, Json]:
    """A form as the JSON body that asks the same."""
    fields: dict[str, list[Json]] = {}
    for part in multipart.parts(body, boundary):
        fields.setdefault(part.name, []).append(_field(part.name, part))
    raw: dict[str, Json] = {}
    single, several = len(fields.get("image", ())), "image[]" in fields
    for name, values in fields.items():
        files = all(isinstance(value, media.Formed) and _FIELD not in value.form for value in values)
        if files and ((name == "image" and single == 1 and not several) or (name == "image[]" and not single)):
            raw["images"] = values
        elif name == "images":
            # Not a field of the form: kept, but never taken for the images of a JSON body.
            raw.setdefault("images", media.Formed({_REPEATED: [plain(value) for value in values]}))
        else:
            # Which of several fields of one name counts is the server's secret: of two called "image" one takes the
            # last, another all, OpenAI neither.
            raw[name] = values[0] if len(values) == 1 else media.Formed({_REPEATED: [plain(value) for value in values]})
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
    return {_FIELD: form if part.is_file is False else {**form, "filename": ""}}


def _field(name: str, part: multipart.Part) -> Json:
    text = None if part.is_file else part.text()
    if text is None or not part.is_text or name in _IMAGES_OF_A_FORM:
        return media.Formed(_part(part, text))
    if name in _INTEGERS and re.fullmatch(r"(0|[1-9][0-9]{0,8})", text):
        return int(text)
    if name == "stream" and text in ("true", "false"):
        return text == "true"
    return text
