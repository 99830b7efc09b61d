"""Writes the golden vectors of key spec v1: a request as ``cachelayer explain`` reads it, its canonical form, its key.

They were written once. A vector that no longer comes out the same means that stored images can no longer be found, or
that wrong ones are: it needs KEY_VERSION 2, new vectors beside these, and a chapter in docs/key-spec.md. So this script
adds vectors that are missing and refuses to change one.

    python -m tests.vectors.regenerate
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cachelayer.core.canon import KEY_VERSION
from cachelayer.core.model import Asked, KeyRules, Request
from cachelayer.dialects import ask

HERE = Path(__file__).parent
GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-image:generateContent"
GENERATE = "https://api.openai.com/v1/images/generations"
EDIT = "https://api.openai.com/v1/images/edits"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
DOT = "R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs="
CAT = [{"role": "user", "parts": [{"text": "a cat in a hat"}]}]


def _json(url: str, body: Any, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return {
        "method": "POST",
        "url": url,
        "headers": {"content-type": "application/json", **(headers or {})},
        "body": text,
    }


def _form(*parts: tuple[str, bytes, str | None, str | None], boundary: str = "frontier") -> dict[str, Any]:
    body = b""
    for name, data, filename, mime in parts:
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if filename is not None:
            extended = filename.startswith("UTF-8''")
            body += f"; filename*={filename}".encode() if extended else f'; filename="{filename}"'.encode()
        body += f"\r\nContent-Type: {mime}".encode() if mime is not None else b""
        body += b"\r\n\r\n" + data + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return {
        "method": "POST",
        "url": EDIT,
        "headers": {"content-type": f"multipart/form-data; boundary={boundary}"},
        "body_base64": base64.b64encode(body).decode(),
    }


def _gemini(config: Any = None, **fields: Any) -> dict[str, Any]:
    body = {"contents": CAT, **fields}
    return _json(GEMINI, body if config is None else {**body, "generationConfig": config})


def _parts(*parts: Any) -> dict[str, Any]:
    return _json(GEMINI, {"contents": [{"role": "user", "parts": list(parts)}]})


def _picture(**fields: Any) -> dict[str, Any]:
    return _json(GENERATE, {"model": "gpt-image-1.5", "prompt": "a cat in a hat", **fields})


def _inline(data: str, mime: str = "image/png") -> dict[str, Any]:
    return {"inlineData": {"mimeType": mime, "data": data}}


_PIXEL, _DOT = base64.b64decode(PIXEL), base64.b64decode(DOT)
_GATEWAY = "https://gw.example/v1/models/"
_VERTEX = "https://aiplatform.googleapis.com/v1beta1/projects/p/locations/global/publishers/google/models/"

VECTORS: dict[str, tuple[dict[str, Any], KeyRules]] = {
    name: entry if isinstance(entry, tuple) else (entry, KeyRules())
    for name, entry in {
        "gemini-text-prompt": _gemini(),
        "gemini-key-order-whitespace-escapes": _json(
            GEMINI, '{ "contents" : [ {"parts":[{"text":"a c\\u0061t in a hat"}], "role":"user"} ] }'
        ),
        "gemini-snake-case": _json(
            GEMINI,
            {
                "contents": [{"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": PIXEL}}]}],
                "generation_config": {"image_config": {"aspect_ratio": "16:9", "image_size": "4K"}},
                "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
            },
        ),
        "gemini-null-and-empty-config": _gemini({"imageConfig": {}, "seed": None}, tools=None),
        "gemini-config-4k": _gemini({"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": "4K"}}),
        "gemini-config-1k": _gemini({"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": "1K"}}),
        "gemini-config-aspect": _gemini({"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "1:1"}}),
        "gemini-numbers": _json(
            GEMINI,
            '{"contents":[],"generationConfig":{"temperature":0.70,"topP":1.0,"topK":4e1,"seed":-0.0},"big":1e22,'
            '"exact":123456789012345678901234567890,"true":true}',
        ),
        "gemini-seed-0": _gemini({"seed": 0}),
        "gemini-count-2": _gemini({"candidateCount": 2}),
        "gemini-count-that-is-none": _gemini({"candidateCount": 0}),
        "gemini-one-image": _parts({"text": "a hat for "}, _inline(PIXEL)),
        "gemini-two-images": _parts(_inline(PIXEL), _inline(DOT, "image/gif"), {"text": "swap"}),
        "gemini-two-images-swapped": _parts(_inline(DOT, "image/gif"), _inline(PIXEL), {"text": "swap"}),
        "gemini-base64-url-safe-unpadded": _parts(_inline("-_-_QQ")),
        "gemini-base64-standard-padded": _parts(_inline("+/+/QQ==")),
        "gemini-base64-that-is-none": _parts(_inline("+/+/\nQQ==")),
        "gemini-history-with-signature": _json(
            GEMINI,
            {
                "contents": [
                    *CAT,
                    {"role": "model", "parts": [{**_inline(PIXEL), "thoughtSignature": "c2lnbmVk"}]},
                    {"role": "user", "parts": [{"text": "now a dog"}]},
                ]
            },
        ),
        "gemini-system-instruction": _gemini(systemInstruction={"parts": [{"text": "be brief\r\n"}]}),
        "gemini-schema-is-opaque": _gemini(
            {"responseSchema": {"any_of": None, "anyOf": {}}},
            tools=[{"function_declarations": [{"name": "f", "parameters": {"mime_type": None}}]}],
        ),
        "gemini-unknown-fields": _gemini({"imageConfig": {"new": {"$blob": [None, {}]}}}, **{"$": {"user": 1.50}}),
        "gemini-bookkeeping": _gemini(labels={"team": "x"}, serviceTier="flex"),
        "gemini-model-in-body": _gemini(model="models/gemini-3-pro-image"),
        "gemini-prompt-normalised": _parts({"text": "\u3000 cafe\u0301\r\n"}, {"text": "in Paris \n"}),
        "gemini-prompt-exact": (
            _parts({"text": "\u3000 cafe\u0301\r\n"}, {"text": "in Paris \n"}),
            KeyRules(normalize="exact"),
        ),
        "gemini-prompt-loose": (
            _parts({"text": 'a  sign   "OPEN  NOW"\n\n at night'}),
            KeyRules(normalize="loose"),
        ),
        "gemini-prompt-loose-in-doubt": (
            _parts({"text": "a  sign"}, {"text": 'he  is "6\'2"  tall"'}),
            KeyRules(normalize="loose"),
        ),
        "gemini-prompt-with-singletons": _parts(
            {"text": "\ufa10 cafe\u0301 \u212b\u0323\u0301 \u1112\u1161\u11ab \u0958"}
        ),
        "gemini-text-operation-is-exact": _json(
            GEMINI.replace("-image", ""), {"contents": [{"parts": [{"text": " a "}]}]}
        ),
        "gemini-stream": _json(GEMINI.replace(":generate", ":streamGenerate") + "?alt=sse", {"contents": CAT}),
        "gemini-stream-array": _json(GEMINI.replace(":generate", ":streamGenerate"), {"contents": CAT}),
        "gemini-query-and-headers": _json(
            GEMINI + "?key=AIza&b=2&a=1&a=0&bare&X-Goog-Date=1",
            {"contents": CAT},
            {"x-goog-api-key": "AIza", "X-New": "token", "traceparent": "00-1-2-01", "x-goog-api-client": "genai"},
        ),
        "gemini-behind-gateways-and-tracers": _json(
            GEMINI + "?key=AIza",
            {"contents": CAT},
            {
                "cf-aig-authorization": "Bearer a",
                "Helicone-Auth": "Bearer b",
                "Ocp-Apim-Subscription-Key": "c",
                "x-litellm-call-id": "d",
                "uber-trace-id": "e",
                "x-instana-t": "f",
                "Date": "Sat, 28 Nov 2026 00:00:00 GMT",
                "Accept": "text/event-stream, application/json;q=0.5",
            },
        ),
        "gemini-headers-that-only-resemble": _json(
            GEMINI + "?x-googdate=1",
            {"contents": CAT},
            {"X-Goog-FieldMask": "a", "Accept": "application/x-ndjson", "Host": "generativelanguage.googleapis.com#"},
        ),
        "gemini-model-with-a-slash": _json(
            _GATEWAY + "google/gemini-2.5-flash-image:generateContent", {"contents": CAT}
        ),
        "gemini-model-with-a-slash-encoded": _json(
            _GATEWAY + "google%2Fgemini-2.5-flash-image:generateContent", {"contents": CAT}
        ),
        "gemini-prefix-like-a-location": _json(
            "https://h.example/locations/us/v1/models/m-image:generateContent", {"contents": CAT}
        ),
        "gemini-location": _json(
            "https://h.example/v1/projects/p/locations/us/models/m-image:generateContent", {"contents": CAT}
        ),
        "gemini-prefix-like-a-version": _json(
            "https://h.example/v2-experimental/models/m-image:generateContent", {"contents": CAT}
        ),
        "gemini-another-host-shape-and-bare-token": _json(
            GEMINI + "?token==&z=1", {"contents": CAT}, {"Host": "a.example", "Accept": "image/png"}
        ),
        "gemini-too-many-marks": _parts({"text": "e\u0301" + "\u0316" * 30}),
        "gemini-vertex": _json(_VERTEX + "gemini-2.5-flash-image:generateContent", {"contents": CAT}),
        "gemini-other-publisher": _json(
            "https://h.example/v1/publishers/acme/models/pixel-image:generateContent", {"contents": CAT}
        ),
        "gemini-reseller": _json(
            "http://User:Pass@Reseller.Example/gw/v1/models/m-image:generateContent/", {"contents": CAT}
        ),
        "gemini-pooled": (
            _json("http://127.0.0.1:5001/v1beta/models/gemini-3-pro-image:generateContent", {"contents": CAT}),
            KeyRules(namespace="demo", pools=(("name:simulator", "127.0.0.1:5001"),)),
        ),
        "gemini-pooled-without-a-name": (
            _gemini(),
            KeyRules(pools=(("https://Reseller.example/gw/v1/", "generativelanguage.googleapis.com"),)),
        ),
        "gemini-ignored": (
            _json(GEMINI + "?job=7", {"contents": CAT, "trace": {"id": 1, "kept": 2}}, {"X-Job": "7"}),
            KeyRules(ignore=("header:x-job", "query:job", "body:trace.id")),
        ),
        "gemini-ignored-positions": (
            _json(GEMINI, {"contents": [*CAT, *CAT, {"role": "user", "parts": [{"text": "a dog"}]}]}),
            KeyRules(ignore=("body:contents.1", "body:contents.0")),
        ),
        "gemini-nothing-to-ignore": (
            _json(GEMINI, {"contents": CAT, "labels": {"team": "x"}}, {"Authorization": "Bearer a"}),
            KeyRules(ignore=("header:authorization", "query:job", "body:labels", "body:trace.id")),
        ),
        "gemini-stateful-has-a-key": _gemini(tools=[{"googleSearch": {}}]),
        "openai-generate": _picture(),
        "openai-defaults-spelled-out": _picture(
            n=1, stream=False, quality="auto", background="auto", moderation="auto", style=None
        ),
        "openai-auto-of-size": _picture(size="auto"),
        "openai-auto-of-no-model": _json(GENERATE, {"prompt": "a cat in a hat", "quality": "auto"}),
        "openai-auto-of-another-host": (
            _json(
                "https://x.openai.azure.com/openai/v1/images/generations",
                {"model": "gpt-image-1.5", "prompt": "p", "quality": "auto"},
            ),
            KeyRules(pools=(("api.openai.com", "x.openai.azure.com/openai"),)),
        ),
        "openai-size-and-quality": _picture(
            size="1024x1024", quality="high", output_format="png", output_compression=80.0
        ),
        "openai-count-4": _picture(n=4),
        "openai-stream": _picture(stream=True, partial_images=2),
        "openai-bookkeeping": _picture(user="u", safety_identifier="s", metadata={"a": 1}, service_tier="flex"),
        "openai-no-model": _json(GENERATE, {"prompt": "a cat in a hat"}),
        "openai-azure": _json(
            "https://x.openai.azure.com/openai/deployments/D/images/generations?api-version=2026-01-01",
            {"prompt": "a cat in a hat"},
            {"api-key": "secret"},
        ),
        "openai-edit-form": _form(
            ("model", b"gpt-image-2", None, None),
            ("prompt", b"a cat in a hat\r\n", None, None),
            ("n", b"2", None, None),
            ("output_compression", b"80", None, None),
            ("x", b"80", None, None),
            ("image[]", _PIXEL, "a.png", "image/png"),
            ("image[]", _DOT, "b.gif", "image/gif"),
            ("mask", _PIXEL, "upload", "application/octet-stream"),
        ),
        "openai-edit-form-one-image": _form(("prompt", b"p", None, None), ("image", _PIXEL, "upload", "image/png")),
        "openai-edit-form-odd-fields": _form(
            ("x", b"1", None, None), ("x", b"\xff", None, None), ("images", b"1", None, None), ("$", b"", "f", None)
        ),
        "openai-edit-form-image-twice": _form(
            ("prompt", b"p", None, None),
            ("image", _PIXEL, "upload", "image/png"),
            ("image", _DOT, "upload", "image/gif"),
        ),
        "openai-edit-form-extended-filename": _form(
            ("prompt", b"p", None, None), ("image", _PIXEL, "UTF-8''%C3%A9.png", "image/png")
        ),
        "openai-edit-form-empty-filename": _form(("prompt", b"p", None, None), ("image", _PIXEL, "", "image/png")),
        "openai-edit-form-a-type-and-no-filename": _form(
            ("prompt", b"p", None, None),
            ("image", _PIXEL, "upload", "image/png"),
            ("mask", _PIXEL, None, "image/png"),
        ),
        "openai-edit-form-image-as-text": _form(
            ("prompt", b"p", None, None), ("image", f"data:image/png;base64,{PIXEL}".encode(), None, None)
        ),
        "openai-edit-json-base64": _json(EDIT, {"prompt": "p", "image": PIXEL, "mask": {"b64_json": PIXEL}}),
        "openai-edit-json": _json(
            EDIT,
            {
                "model": "gpt-image-2",
                "prompt": "a cat in a hat",
                "n": 2,
                "output_compression": 80,
                "x": "80",
                "images": [
                    {"image_url": f"data:image/png;base64,{PIXEL}"},
                    {"image_url": f"data:image/gif;base64,{DOT}"},
                ],
                "mask": {"image_url": f"data:application/octet-stream;base64,{PIXEL}"},
            },
        ),
        "openai-edit-xai": _json(
            "https://api.x.ai/v1/images/edits",
            {"prompt": "p", "images": [{"type": "image_url", "url": f"data:image/png;base64,{PIXEL}"}]},
        ),
        "openai-edit-more-than-an-address": _json(
            EDIT, {"prompt": "p", "images": [{"image_url": f"data:image/png;base64,{PIXEL}", "detail": "high"}]}
        ),
        "openai-edit-unknown-reference": _json(EDIT, {"prompt": "p", "images": [{"file_id": "file-1"}]}),
    }.items()
}


def request_of(vector: Mapping[str, Any]) -> Request:
    """The request of a vector file."""
    request = vector["request"]
    body = base64.b64decode(request["body_base64"]) if "body_base64" in request else request["body"]
    return Request(request["method"], request["url"], request["headers"], body)


def rules_of(vector: Mapping[str, Any]) -> KeyRules:
    """The rules of a vector file."""
    given = vector["rules"]
    pools = tuple(tuple(pool) for pool in given["pools"])
    return KeyRules(**{**given, "pools": pools, "ignore": tuple(given["ignore"])})


def vector(request: Mapping[str, Any], rules: KeyRules) -> dict[str, Any]:
    """A vector: the request, and what comes of it."""
    made = {"request": request, "rules": asdict(rules)}
    got = ask(request_of(made), rules)
    assert isinstance(got, Asked), got
    return {
        **made,
        "spec": KEY_VERSION,
        "canonical": got.canonical.decode(),
        "count": got.count,
        "key": got.key,
        "elsewhere": got.elsewhere,
    }


def main() -> int:
    changed = []
    for name, (request, rules) in VECTORS.items():
        path = HERE / f"{name}.json"
        text = json.dumps(vector(request, rules), indent=1, ensure_ascii=False) + "\n"
        if not path.exists():
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            changed.append(name)
    if changed:
        sys.stderr.write(f"not rewritten, these differ: {', '.join(changed)}\n")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
