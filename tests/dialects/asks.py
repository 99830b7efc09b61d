"""Requests as the tests of this room write them down. Only building; no assertion."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from cachelayer.core.model import Asked, KeyRules, Request, Unkeyed
from cachelayer.dialects import ask

GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-image:generateContent"
GENERATE = "https://api.openai.com/v1/images/generations"
EDIT = "https://api.openai.com/v1/images/edits"
JSON = {"content-type": "application/json"}
RULES = KeyRules()

Part = tuple[str, bytes | str, str | None, str | None]
"""A part of a form: name, data, filename, content type."""


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{b64(data)}"


def contents(*parts: Any) -> list[dict[str, Any]]:
    """One user message; a str is a text part, bytes a PNG."""
    return [
        {
            "role": "user",
            "parts": [
                {"text": part}
                if isinstance(part, str)
                else {"inlineData": {"mimeType": "image/png", "data": b64(part)}}
                if isinstance(part, bytes)
                else part
                for part in parts
            ],
        }
    ]


def gemini(body: Any = None, url: str = GEMINI, headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> Request:
    return request(url, {"contents": contents("a cat")} if body is None else body, headers)


def generate(
    body: Any = None, url: str = GENERATE, headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()
) -> Request:
    return request(url, {"model": "gpt-image-1.5", "prompt": "a cat"} if body is None else body, headers)


def request(url: str, body: Any, headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> Request:
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request("POST", url, [*JSON.items(), *pairs], data)


def form(
    *parts: Part, boundary: str = "b0undary", url: str = EDIT, headers: Mapping[str, str] | None = None
) -> Request:
    return Request(
        "POST",
        url,
        {"content-type": f"multipart/form-data; boundary={boundary}", **(headers or {})},
        form_body(*parts, boundary=boundary),
    )


def form_body(*parts: Part, boundary: str = "b0undary") -> bytes:
    out = []
    for name, data, filename, mime in parts:
        head = f'Content-Disposition: form-data; name="{name}"'
        head += "" if filename is None else f'; filename="{filename}"'
        head += "" if mime is None else f"\r\nContent-Type: {mime}"
        payload = data.encode() if isinstance(data, str) else data
        out.append(f"--{boundary}\r\n{head}\r\n\r\n".encode() + payload + b"\r\n")
    return b"".join(out) + f"--{boundary}--\r\n".encode()


def field(name: str, value: str) -> Part:
    return name, value, None, None


def file(name: str, data: bytes, mime: str | None = "image/png", filename: str = "upload") -> Part:
    return name, data, filename, mime


def asked(request: Request, rules: KeyRules = RULES) -> Asked:
    got = ask(request, rules)
    assert isinstance(got, Asked), got
    return got


def unkeyed(request: Request, rules: KeyRules = RULES) -> Unkeyed:
    got = ask(request, rules)
    assert isinstance(got, Unkeyed), got
    return got


def key(request: Request, rules: KeyRules = RULES) -> str:
    return asked(request, rules).key
