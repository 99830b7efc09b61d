"""Answers as the tests of this room write them down, and how they are judged. Only building, and one round trip."""

from __future__ import annotations

import json
import re
from typing import Any

from cachelayer.core.entry import join, split
from cachelayer.core.model import Answer, Asked, Reading
from cachelayer.dialects import read
from tests.dialects.asks import GEMINI, asked, b64, gemini, generate
from tests.dialects.samples import made

PNG = made("PNG", 80)
"""Over 16 KB, so that it becomes a blob."""
JPEG = made("JPEG", 24)
HALF = PNG[: len(PNG) // 2]
GEMINI_ASKED = asked(gemini())
TEXT_ASKED = asked(gemini(url=GEMINI.replace("-image", "")))
OPENAI_ASKED = asked(generate())
OPENAI_TWO = asked(generate({"prompt": "p", "n": 2}))


def judged(asking: Asked, body: Any) -> Reading:
    """The reading of an answer, whose template has been seen to give it back."""
    answer = Answer(200, (), body if isinstance(body, bytes) else json.dumps(body).encode())
    reading = read(asking, answer)
    template, blobs = split(answer, reading)
    assert join(template, blobs) == answer.body
    return reading


def verdict(asking: Asked, body: Any) -> tuple[str | None, int]:
    reading = judged(asking, body)
    return reading.refusal, reading.images


def openai(*values: Any, **fields: Any) -> dict[str, Any]:
    return {"created": 1, "data": [{"b64_json": value} for value in values], **fields}


def part(data: Any = None, mime: Any = "image/png", **fields: Any) -> dict[str, Any]:
    blob = {"data": b64(PNG) if data is None else data, **({} if mime is None else {"mimeType": mime})}
    return {"inlineData": blob, **fields}


def google(*parts: dict[str, Any], reason: Any = "STOP", **fields: Any) -> dict[str, Any]:
    finish = {} if reason is None else {"finishReason": reason}
    return {"candidates": [{"content": {"parts": [*parts]}, **finish, **fields}]}


def snake(value: Any) -> Any:
    """The same answer in snake_case."""
    if isinstance(value, dict):
        return {
            re.sub("[A-Z]", lambda hump: f"_{hump[0].lower()}", name): snake(below) for name, below in value.items()
        }
    return [snake(below) for below in value] if isinstance(value, list) else value


def lines(text: str, ending: str, width: int = 76) -> str:
    return ending.join(text[at : at + width] for at in range(0, len(text), width))
