"""Gemini's wire format: :generateContent and :streamGenerateContent, on the Developer API's and on Vertex's
paths.

Shapes follow recorded answers of gemini-3-pro-image and gemini-2.5-flash-image (the recordings are named in
tests/data/wire). Known differences: text is four bytes a token, and thinking is always THOUGHT_TOKENS.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cachelayer.dialects.dialect import Recognised
from cachelayer.simulator import sizes
from cachelayer.simulator.behaviour import Behaviour, Call
from cachelayer.simulator.prices import Tokens, bill
from cachelayer.simulator.render import Format, Picture, render
from cachelayer.simulator.reply import BadRequest, Reply

THOUGHT_TOKENS = 200
"""Thinking tokens of every answer of gemini-3-pro-image: constant, so that a price can be worked out by
hand."""

_HEAD = 350_000
"""Characters of a reference image's base64 that are decoded to find its shape."""

_SAFETY = [
    {
        "category": f"HARM_CATEGORY_{name}",
        "probability": "HIGH" if name == "DANGEROUS_CONTENT" else "NEGLIGIBLE",
    }
    for name in ("SEXUALLY_EXPLICIT", "HATE_SPEECH", "HARASSMENT", "DANGEROUS_CONTENT")
]


@dataclass(frozen=True, slots=True)
class _Ask:
    model: str
    prompt: str
    text_in: int
    references: int
    like: tuple[int, int] | None
    count: int
    image: bool
    with_text: bool
    aspect: str | None
    size: str | None
    format: Format

    @property
    def thinks(self) -> bool:
        return self.model.startswith("gemini-3-pro-image")


def answer(seen: Recognised, content_type: str, body: bytes, call: Call) -> Reply:
    """The answer to one call."""
    if call.behaviour is Behaviour.RATE_LIMIT:
        return _error(call, 429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).")
    if call.behaviour is Behaviour.ERROR:
        return _error(call, 500, "INTERNAL", "An internal error has occurred. Please retry.")
    try:
        ask = _read(seen.model, body)
        parts, tokens = _produce(ask, call)
    except BadRequest as error:
        return _error(call, 400, "INVALID_ARGUMENT", str(error))
    return Reply(
        200,
        _headers(call, "text/event-stream" if seen.response == "stream" else "application/json; charset=UTF-8"),
        _chunks(seen, ask, call, parts, tokens),
        streamed=seen.response != "json",
        good=call.behaviour in (Behaviour.OK, Behaviour.URL),
        billed=bill(ask.model, tokens),
        cut=call.behaviour is Behaviour.DISCONNECT,
    )


def models() -> dict[str, Any]:
    """The body of GET models."""
    names = ("gemini-3-pro-image", "gemini-2.5-flash-image", "gemini-2.5-flash")
    return {
        "models": [
            {
                "name": f"models/{name}",
                "version": "001",
                "displayName": name,
                "inputTokenLimit": 65536,
                "outputTokenLimit": 32768,
                "supportedGenerationMethods": ["generateContent"],
            }
            for name in names
        ]
    }


def _field(node: Any, camel: str) -> Any:
    """A field under either of the two spellings that the API accepts; None when it is absent."""
    if not isinstance(node, dict):
        return None
    snake = re.sub(r"[A-Z]", lambda letter: "_" + letter[0].lower(), camel)
    return node.get(camel, node.get(snake))


def _parts(content: Any) -> Iterator[dict[str, Any]]:
    parts = content.get("parts") if isinstance(content, dict) else None
    for part in [parts] if isinstance(parts, dict) else parts if isinstance(parts, list) else []:
        if isinstance(part, dict):
            yield part


def _text(content: Any) -> list[str]:
    return [part["text"] for part in _parts(content) if isinstance(part.get("text"), str)]


def _read(model: str, body: bytes) -> _Ask:
    try:
        request = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"Invalid JSON payload received. {error}") from None
    contents = request.get("contents") if isinstance(request, dict) else None
    contents = [contents] if isinstance(contents, dict) else contents
    if not isinstance(contents, list) or not any(True for content in contents for _ in _parts(content)):
        raise BadRequest("* GenerateContentRequest.contents: contents is not specified")
    references, like = 0, None
    for part in (part for content in contents for part in _parts(content)):
        inline = _field(part, "inlineData")
        if inline is not None or _field(part, "fileData") is not None:
            references += 1
            like = like or _shape(_field(inline, "data"))
    texts = [text for content in contents for text in _text(content)]
    system = _text(_field(request, "systemInstruction"))
    config = _field(request, "generationConfig")
    image_config = _field(config, "imageConfig")
    modalities = _field(config, "responseModalities")
    asked = {str(name).upper() for name in modalities} if isinstance(modalities, list) else set()
    count = _field(config, "candidateCount")
    mime = _field(_field(image_config, "imageOutputOptions"), "mimeType")
    return _Ask(
        model=model,
        prompt="\n".join(_text(contents[-1]) or texts),
        text_in=sizes.text_tokens("".join(texts + system)),
        references=references,
        like=like,
        count=count if isinstance(count, int) and 1 <= count <= 8 else 1,
        image="IMAGE" in asked or ("image" in model and asked != {"TEXT"}),
        with_text="TEXT" in asked,
        aspect=_string(_field(image_config, "aspectRatio")),
        size=_string(_field(image_config, "imageSize")),
        format=_format(model, mime),
    )


def _no_constant(name: str) -> None:
    raise ValueError(f"Unexpected token {name}.")


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _format(model: str, mime: Any) -> Format:
    formats: dict[str, Format] = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}
    # The recordings without an asked type: gemini-3-pro-image sends JPEG, gemini-2.5-flash-image PNG.
    default: Format = "jpeg" if model.startswith("gemini-3") else "png"
    return formats.get(mime, default) if isinstance(mime, str) else default


def _shape(data: Any) -> tuple[int, int] | None:
    if not isinstance(data, str):
        return None
    try:
        # Both alphabets are met: the SDKs send the URL-safe one.
        return sizes.measure(base64.b64decode(data[:_HEAD].replace("-", "+").replace("_", "/") + "==="))
    except ValueError:
        return None


def _produce(ask: _Ask, call: Call) -> tuple[list[list[dict[str, Any]]], Tokens]:
    """The parts of every candidate, and what they cost."""
    references = ask.references * sizes.gemini_reference_tokens(ask.model)
    thoughts = THOUGHT_TOKENS if ask.thinks and ask.image else 0
    if call.behaviour is Behaviour.BLOCK:
        return [], Tokens(ask.text_in, references, thoughts if call.block_image else 0)
    if not ask.image or call.behaviour in (Behaviour.TEXT_ONLY, Behaviour.TRUNCATE):
        said = _said(ask, call)
        spoken = sizes.text_tokens(said) * ask.count
        return [[{"text": said}]] * ask.count, Tokens(ask.text_in, references, thoughts + spoken)
    pixels = sizes.gemini_pixels(ask.model, ask.aspect, ask.size, ask.like)
    if pixels is None:
        raise BadRequest(f"Unsupported image config: aspect ratio {ask.aspect}, image size {ask.size}.")
    candidates = []
    spoken = 0
    for index in range(ask.count):
        parts: list[dict[str, Any]] = []
        if ask.with_text:
            said = f"Here is your image: {ask.prompt[:80]}\n\n"
            spoken += sizes.text_tokens(said)
            parts.append({"text": said})
        picture = render(ask.prompt, *pixels, ask.format, seed=call.seed, index=index, references=ask.references)
        parts.append(_inline(picture))
        if ask.thinks:
            signed = call.random(f"signature {index}")
            for part, length in zip(parts, (600, 6000) if ask.with_text else (6000,), strict=True):
                part["thoughtSignature"] = base64.b64encode(signed.randbytes(length)).decode()
        candidates.append(parts)
    images = ask.count * sizes.gemini_image_tokens(ask.model, ask.size)
    return candidates, Tokens(ask.text_in, references, thoughts + spoken, images)


def _inline(picture: Picture) -> dict[str, Any]:
    return {"inlineData": {"mimeType": picture.mime, "data": base64.b64encode(picture.data).decode()}}


def _said(ask: _Ask, call: Call) -> str:
    if call.behaviour is Behaviour.TEXT_ONLY:
        return f"I'm happy to talk about it, but I cannot draw this: {ask.prompt[:80]}"
    return f"A simulated answer to: {ask.prompt[:200]}"


def _chunks(
    seen: Recognised, ask: _Ask, call: Call, candidates: list[list[dict[str, Any]]], tokens: Tokens
) -> tuple[bytes, ...]:
    whole = _tail(ask, call, tokens)
    if call.behaviour is Behaviour.BLOCK:
        if call.block_image:
            message = "Unable to show the generated image. The model did not generate it, it violates our policies."
            whole["candidates"] = [{"finishReason": "IMAGE_SAFETY", "finishMessage": message, "index": 0}]
        else:
            whole["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": _SAFETY}
    reason = "MAX_TOKENS" if call.behaviour is Behaviour.TRUNCATE else "STOP"
    if seen.response == "json":
        if candidates:
            whole["candidates"] = [_candidate(parts, index, reason) for index, parts in enumerate(candidates)]
        return (_dump(_ordered(whole)),)
    # A stream: a part an event, the finish reasons and the usage in the last one.
    events = [
        {
            "candidates": [_candidate([part], index, None)],
            **{name: whole[name] for name in ("modelVersion", "responseId")},
        }
        for index, parts in enumerate(candidates)
        for part in parts
    ]
    if candidates:
        last = [_candidate([{"text": ""}], index, reason) for index in range(len(candidates))]
        whole["candidates"] = last
    events.append(_ordered(whole))
    if seen.response == "stream":
        return tuple(b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events)
    lead = [b"[" + _dump(events[0]), *(b",\r\n" + _dump(event) for event in events[1:])]
    return (*lead, b"]")


def _candidate(parts: list[dict[str, Any]], index: int, reason: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if reason is not None:
        candidate["finishReason"] = reason
    candidate["index"] = index
    return candidate


def _tail(ask: _Ask, call: Call, tokens: Tokens) -> dict[str, Any]:
    thoughts = THOUGHT_TOKENS if ask.thinks and ask.image else 0
    thoughts = min(thoughts, tokens.text_out)
    prompt = tokens.text_in + tokens.image_in
    spoken = tokens.text_out - thoughts
    usage: dict[str, Any] = {"promptTokenCount": prompt}
    if spoken + tokens.image_out:
        usage["candidatesTokenCount"] = spoken + tokens.image_out
    usage["totalTokenCount"] = prompt + thoughts + spoken + tokens.image_out
    usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": tokens.text_in}]
    if tokens.image_in:
        usage["promptTokensDetails"].append({"modality": "IMAGE", "tokenCount": tokens.image_in})
    # As recorded: text beside an image is in the count but not in the details.
    if tokens.image_out:
        usage["candidatesTokensDetails"] = [{"modality": "IMAGE", "tokenCount": tokens.image_out}]
    elif spoken:
        usage["candidatesTokensDetails"] = [{"modality": "TEXT", "tokenCount": spoken}]
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    identity = base64.urlsafe_b64encode(call.random("response").randbytes(17)).decode().rstrip("=")
    return {"usageMetadata": usage, "modelVersion": ask.model, "responseId": identity}


def _ordered(whole: dict[str, Any]) -> dict[str, Any]:
    names = ("candidates", "promptFeedback", "usageMetadata", "modelVersion", "responseId")
    return {name: whole[name] for name in names if name in whole}


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode("utf-8", "replace")


def _headers(call: Call, content_type: str) -> tuple[tuple[str, str], ...]:
    headers = [
        ("Content-Type", content_type),
        ("Vary", "Origin"),
        ("Vary", "X-Origin"),
        ("Vary", "Referer"),
        ("Server", "scaffolding on HTTPServer2"),
        ("X-XSS-Protection", "0"),
        ("X-Frame-Options", "SAMEORIGIN"),
        ("X-Content-Type-Options", "nosniff"),
        ("Server-Timing", f"gfet4t7; dur={round(call.latency * 1000)}"),
        ("Alt-Svc", 'h3=":443"; ma=2592000,h3-29=":443"; ma=2592000'),
    ]
    return tuple(headers)


def _error(call: Call, code: int, status: str, message: str) -> Reply:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    headers = _headers(call, "application/json; charset=UTF-8")
    if call.behaviour is Behaviour.RATE_LIMIT:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{call.retry_after}s"}]
        headers += (("Retry-After", str(call.retry_after)),)
    return Reply(code, headers, (_dump({"error": error}),))
