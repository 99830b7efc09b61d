"""The OpenAI-compatible wire format: images/generations and images/edits, plain and as a stream, also on
Azure's paths.

Shapes follow recorded answers of gpt-image-1 and gpt-image-2. Known differences: text is four bytes a
token, a size may be anything from 16x16 to 8192x8192, and ``response_format: url`` is understood (resellers
do, OpenAI refuses it).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cachelayer.dialects.dialect import Recognised
from cachelayer.simulator import sizes
from cachelayer.simulator.behaviour import Behaviour, Call
from cachelayer.simulator.prices import Tokens, bill
from cachelayer.simulator.render import Format, Picture, render
from cachelayer.simulator.reply import BadRequest, Reply

EPOCH = 1_780_000_000
"""Unix seconds. ``created`` of an answer is this plus the ordinal of its call: no clock, yet two answers
differ."""

_HEAD = 350_000
"""Bytes or characters of a reference image that are looked at to find its shape."""

_FORMATS: dict[str, Format] = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}


@dataclass(slots=True)
class _Form:
    """The fields of a request, whatever it is encoded as."""

    fields: dict[str, Any] = field(default_factory=dict)
    images: list[tuple[int, int] | None] = field(default_factory=list)
    """Pixels of every reference image, masks included; None where they cannot be told."""


@dataclass(frozen=True, slots=True)
class _Ask:
    model: str
    prompt: str
    count: int
    width: int
    height: int
    quality: str
    format: Format
    background: str
    stream: bool
    partials: int
    url: bool
    images: tuple[tuple[int, int] | None, ...]


def answer(seen: Recognised, content_type: str, body: bytes, call: Call) -> Reply:
    """The answer to one call."""
    if call.behaviour is Behaviour.RATE_LIMIT:
        message = f"Rate limit reached for images per minute. Please try again in {call.retry_after}s."
        return _error(call, 429, message, kind="requests", code="rate_limit_exceeded")
    if call.behaviour is Behaviour.ERROR:
        message = "The server had an error while processing your request. Sorry about that!"
        return _error(call, 500, message, kind="server_error", code=None)
    try:
        ask = _read(seen, content_type, body)
    except BadRequest as error:
        kind = "invalid_request_error"
        return _error(call, 400, str(error), kind=kind, code="invalid_value", param=error.param)
    if call.behaviour is Behaviour.BLOCK:
        message = "Your request was rejected by the safety system. safety_violations=[violence]."
        return _error(call, 400, message, kind="image_generation_user_error", code="moderation_blocked")
    pictures = _pictures(ask, call)
    tokens = _tokens(ask, len(pictures))
    by_url = ask.url or call.behaviour is Behaviour.URL
    files = tuple(
        (f"{call.random('file').randbytes(8).hex()}-{index}.{picture.format}", picture)
        for index, picture in enumerate(pictures if by_url else ())
    )
    common = _common(ask, call, tokens, pictures)
    if ask.stream:
        chunks = _events(seen, ask, call, pictures, common)
    else:
        data: list[dict[str, Any]] = [{"b64_json": _base64(picture)} for picture in pictures]
        if by_url:
            data = [{"url": f"{call.base_url}/files/{name}"} for name, _ in files]
        if call.behaviour is Behaviour.TEXT_ONLY:
            data = [{"revised_prompt": ask.prompt}]
        document = {"created": EPOCH + call.ordinal, "background": common["background"], "data": data}
        names = ("output_format", "quality", "size", "usage")
        document |= {name: common[name] for name in names}
        chunks = (json.dumps(document, indent=2).encode(),)
    return Reply(
        200,
        _headers(call, "text/event-stream; charset=utf-8" if ask.stream else "application/json"),
        chunks,
        streamed=ask.stream,
        good=call.behaviour is Behaviour.OK and not by_url,
        billed=bill(ask.model, tokens),
        cut=call.behaviour is Behaviour.DISCONNECT,
        files=files,
    )


def models() -> dict[str, Any]:
    """The body of GET models."""
    names = ("gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2")
    rows = [{"id": name, "object": "model", "created": EPOCH, "owned_by": "system"} for name in names]
    return {"object": "list", "data": rows}


def _edits(seen: Recognised) -> bool:
    return seen.endpoint.startswith("images/edits")


def _read(seen: Recognised, content_type: str, body: bytes) -> _Ask:
    if content_type.lower().startswith("multipart/form-data"):
        form = _read_multipart(content_type, body)
    else:
        form = _read_json(body)
    fields = form.fields
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise BadRequest("Missing required parameter: 'prompt'.", "prompt")
    if _edits(seen) and not form.images:
        raise BadRequest("Missing required parameter: 'image'.", "image")
    model = fields.get("model") or seen.model or "gpt-image-1"
    count = _integer(fields, "n", 1)
    if not 1 <= count <= 10:
        raise BadRequest(f"Invalid 'n': {count}. Expected 1 to 10.", "n")
    width, height = _size(fields.get("size"))
    quality = fields.get("quality") or "auto"
    quality = {"auto": "high", "standard": "medium", "hd": "high"}.get(str(quality), str(quality))
    if quality not in ("low", "medium", "high"):
        raise BadRequest(f"Invalid value: {quality!r}.", "quality")
    wanted = str(fields.get("output_format") or "png")
    if wanted not in _FORMATS:
        raise BadRequest(f"Invalid value: {wanted!r}.", "output_format")
    return _Ask(
        model=str(model),
        prompt=prompt,
        count=count,
        width=width,
        height=height,
        quality=quality,
        format=_FORMATS[wanted],
        background="transparent" if fields.get("background") == "transparent" else "opaque",
        stream=fields.get("stream") in (True, "true", "True", "1"),
        partials=min(3, max(0, _integer(fields, "partial_images", 0))),
        url=fields.get("response_format") == "url",
        images=tuple(form.images),
    )


def _integer(fields: dict[str, Any], name: str, default: int) -> int:
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 9:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise BadRequest(f"Invalid type for '{name}': expected an integer.", name)


def _size(value: Any) -> tuple[int, int]:
    if value in (None, "", "auto"):
        return 1024, 1024
    found = re.fullmatch(r"(\d{2,4})x(\d{2,4})", value) if isinstance(value, str) else None
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (16 <= width <= 8192 and 16 <= height <= 8192):
        raise BadRequest(f"Invalid value: {value!r}. Supported values are 'WIDTHxHEIGHT' and 'auto'.", "size")
    return width, height


def _read_json(body: bytes) -> _Form:
    try:
        fields = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"We could not parse the JSON body of your request. ({error})") from None
    if not isinstance(fields, dict):
        raise BadRequest("The JSON body of your request must be an object.")
    form = _Form(fields)
    listed = [fields.get("images"), fields.get("image"), fields.get("mask")]
    for item in (item for value in listed for item in (value if isinstance(value, list) else [value])):
        if item is not None:
            url = item.get("image_url") if isinstance(item, dict) else item
            form.images.append(_measure_url(url))
    return form


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _measure_url(url: Any) -> tuple[int, int] | None:
    if not isinstance(url, str):
        return None
    _, comma, data = url.partition(",")
    try:
        return sizes.measure(base64.b64decode((data if comma else url)[:_HEAD] + "==="))
    except ValueError:
        return None


def _read_multipart(content_type: str, body: bytes) -> _Form:
    found = re.search(r'boundary="?([^";]+)', content_type, re.IGNORECASE)
    if not found:
        raise BadRequest("The multipart body of your request has no boundary.")
    form = _Form()
    for disposition, start, end in _sections(body, b"--" + found[1].encode("latin-1", "replace")):
        name = re.search(r'\bname="([^"]*)"', disposition)
        if not name:
            continue
        plain = name[1].removesuffix("[]")
        if "filename=" in disposition or plain in ("image", "mask"):
            form.images.append(sizes.measure(body[start : min(end, start + _HEAD)]))
        else:
            form.fields[plain] = body[start:end].decode("utf-8", "replace")
    return form


def _sections(body: bytes, delimiter: bytes) -> Iterator[tuple[str, int, int]]:
    """(content-disposition, start, end) of every part. Offsets, so that no image is copied."""
    position = body.find(delimiter)
    while position >= 0:
        head = position + len(delimiter) + 2
        following = body.find(b"\r\n" + delimiter, head)
        blank = body.find(b"\r\n\r\n", head, following)
        if body[head - 2 : head] == b"--" or following < 0 or blank < 0:
            return
        for line in body[head:blank].decode("utf-8", "replace").split("\r\n"):
            if line.lower().startswith("content-disposition:"):
                yield line, blank + 4, following
        position = following + 2


def _pictures(ask: _Ask, call: Call) -> list[Picture]:
    if call.behaviour is Behaviour.TEXT_ONLY:
        return []
    count = ask.count - 1 if call.behaviour is Behaviour.TRUNCATE else ask.count
    return [_picture(ask, call, index) for index in range(count)]


def _picture(ask: _Ask, call: Call, index: int) -> Picture:
    return render(
        ask.prompt,
        ask.width,
        ask.height,
        ask.format,
        seed=call.seed,
        index=index,
        references=len(ask.images),
        transparent=ask.background == "transparent",
    )


def _tokens(ask: _Ask, images: int) -> Tokens:
    each = sizes.openai_image_tokens(ask.model, ask.width, ask.height, ask.quality)
    return Tokens(
        text_in=sizes.text_tokens(ask.prompt),
        image_in=sum(sizes.openai_reference_tokens(ask.model, pixels) for pixels in ask.images),
        image_out=images * (each + (ask.partials * sizes.PARTIAL_TOKENS if ask.stream else 0)),
    )


def _common(ask: _Ask, call: Call, tokens: Tokens, pictures: list[Picture]) -> dict[str, Any]:
    incoming, outgoing = tokens.text_in + tokens.image_in, tokens.image_out
    return {
        "size": f"{ask.width}x{ask.height}",
        "quality": ask.quality,
        "background": ask.background,
        # What was really made: without Pillow it may be another format than was asked for.
        "output_format": pictures[0].format if pictures else ask.format,
        "usage": {
            "input_tokens": incoming,
            "input_tokens_details": {"image_tokens": tokens.image_in, "text_tokens": tokens.text_in},
            "output_tokens": outgoing,
            "output_tokens_details": {"image_tokens": outgoing, "text_tokens": 0},
            "total_tokens": incoming + outgoing,
        },
    }


def _events(
    seen: Recognised, ask: _Ask, call: Call, pictures: list[Picture], common: dict[str, Any]
) -> tuple[bytes, ...]:
    kind = "image_edit" if _edits(seen) else "image_generation"
    created = {"created_at": EPOCH + call.ordinal}
    shape = {name: common[name] for name in ("size", "quality", "background", "output_format")}
    events: list[dict[str, Any]] = []
    for number in range(ask.partials if pictures else 0):
        # A draft is a picture of its own, so that a cache which kept it for the image would be found out.
        draft = {"b64_json": _base64(_picture(ask, call, 100 + number)), "partial_image_index": number}
        events.append({"type": f"{kind}.partial_image", **draft, **created, **shape})
    for number, picture in enumerate(pictures):
        event = {"type": f"{kind}.completed", "b64_json": _base64(picture), **created, **shape}
        if number == len(pictures) - 1:
            event["usage"] = common["usage"]
        events.append(event)
    if not events:
        message = "The model did not generate an image."
        error = {"type": "image_generation_error", "message": message, "code": None, "param": None}
        events.append({"type": "error", "error": error})
    return tuple(b"event: %s\ndata: %s\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events)


def _base64(picture: Picture) -> str:
    return base64.b64encode(picture.data).decode()


def _headers(call: Call, content_type: str) -> tuple[tuple[str, str], ...]:
    random = call.random("headers")
    stamp = EPOCH + call.ordinal
    return (
        ("Content-Type", content_type),
        ("Server", "cloudflare"),
        ("OpenAI-Version", "2020-10-01"),
        ("OpenAI-Organization", "simulated-organization"),
        ("OpenAI-Project", "proj_simulated"),
        ("OpenAI-Processing-Ms", str(round(call.latency * 1000))),
        ("X-Request-Id", f"req_{random.randbytes(16).hex()}"),
        ("X-RateLimit-Limit-Requests", "250"),
        ("X-RateLimit-Remaining-Requests", str(random.randrange(250))),
        ("X-RateLimit-Reset-Requests", "240ms"),
        ("Set-Cookie", f"__cf_bm={random.randbytes(24).hex()}-{stamp}; path=/; HttpOnly"),
        ("Set-Cookie", f"_cfuvid={random.randbytes(16).hex()}-{stamp}; path=/; HttpOnly"),
        ("CF-Cache-Status", "DYNAMIC"),
        ("CF-RAY", f"{random.randbytes(8).hex()}-SIM"),
        ("X-Content-Type-Options", "nosniff"),
        ("Alt-Svc", 'h3=":443"; ma=86400'),
    )


def _error(call: Call, status: int, message: str, *, kind: str, code: str | None, param: str | None = None) -> Reply:
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    headers = _headers(call, "application/json")
    if call.behaviour is Behaviour.RATE_LIMIT:
        headers += (("Retry-After", str(call.retry_after)),)
    return Reply(status, headers, (json.dumps(body, indent=2).encode(),))
