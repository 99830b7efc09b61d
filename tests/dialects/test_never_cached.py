"""Which requests have a key and are never cached, and why."""

from __future__ import annotations

import pytest

from cachelayer.core.model import KeyRules, Request
from tests.dialects.asks import (
    EDIT,
    asked,
    b64,
    contents,
    data_url,
    field,
    file,
    form,
    gemini,
    generate,
    request,
)

PNG = b"\x89PNG some bytes"


STATEFUL = [
    gemini({"contents": [], "tools": [{"googleSearch": {}}]}),
    gemini({"contents": [], "tools": [{"google_search_retrieval": {}}]}),
    gemini({"contents": [], "tools": [{"functionDeclarations": []}, {"urlContext": {}}]}),
    gemini({"contents": [], "tools": [{"codeExecution": {}, "googleMaps": {}}]}),
    gemini({"contents": [], "tools": [{"fileSearch": {}}]}),
    gemini({"contents": [], "tools": [{"retrieval": {}}]}),
    gemini({"contents": [], "tools": [{"someNewTool": None}]}),
    gemini({"contents": [], "tools": {"googleSearch": {}}}),
    gemini({"contents": [], "tools": "googleSearch"}),
    gemini({"contents": [], "tools": ["googleSearch"]}),
    gemini({"contents": [], "Tools": [{"googleSearch": {}}]}),
    gemini({"contents": [], "cachedContent": "cachedContents/1"}),
    gemini({"contents": [], "cached_content": "cachedContents/1"}),
    gemini({"contents": [], "CachedContent": "cachedContents/1"}),
    gemini({"contents": [], "continuationToken": "QQ=="}),
    gemini({"contents": [], "previous_interaction_id": "1"}),
    generate({"prompt": "p", "previous_response_id": "1"}),
    generate({"prompt": "p", "conversation": {"id": 1}}),
    generate({"prompt": "p", "tools": [{"type": "web_search"}]}),
]
UNKNOWN = [
    gemini({"contents": contents({"fileData": {"fileUri": "https://h/x"}})}),
    gemini({"contents": contents({"file_data": {"file_uri": "gs://b/x", "mime_type": "image/png"}})}),
    gemini({"contents": {"parts": {"fileData": {"fileUri": "files/1"}}}}),
    gemini({"contents": [], "systemInstruction": {"parts": [{"fileData": {"fileUri": "files/1"}}]}}),
    gemini({"contents": contents({"functionResponse": {"parts": [{"fileData": {"fileUri": "files/1"}}]}})}),
    gemini({"contents": contents({"FileData": {"FileUri": "files/1"}})}),
    gemini({"contents": contents({"image_url": {"url": "https://h/x.png"}})}),
    gemini({"contents": contents({"inlineData": {"mimeType": "image/png", "data": "https://h/x.png"}})}),
    gemini({"contents": contents({"functionResponse": {"parts": [{"inline_data": {"data": " GS://b/x"}}]}})}),
    gemini({"contents": contents({"inlineData": {"mimeType": "image/png", "url": "https://h/x.png"}})}),
    gemini({"contents": {"parts": {"text": "a", "x": ["oss://b/x"]}}}),
    gemini({"contents": [{"parts": [{"text": "a"}], "images": [{"url": "https://h/x"}]}]}),
    gemini({"contents": contents("a"), "image_urls": ["https://h/x.png"]}),
    gemini({"contents": contents("a"), "generationConfig": {"imageConfig": {"reference": "s3://b/x"}}}),
    gemini({"contents": contents({"file": {"fileId": "file-1"}})}),
    request(EDIT, {"prompt": "p", "images": [{"image_url": "https://h/x.png"}]}),
    request(EDIT, {"prompt": "p", "images": [{"image_url": data_url(PNG)}, {"file_id": "file-1"}]}),
    request(EDIT, {"prompt": "p", "images": [{"file_id": "file-1", "image_url": data_url(PNG)}]}),
    request(EDIT, {"prompt": "p", "images": [{"type": "image_url", "url": "http://h/x"}]}),
    request(EDIT, {"prompt": "p", "image": {"url": "HTTPS://h/x"}}),
    request(EDIT, {"prompt": "p", "image": "https://h/x"}),
    request(EDIT, {"prompt": "p", "image": ["asset-17"]}),
    request(EDIT, {"prompt": "p", "image": b64(PNG)}),
    request(EDIT, {"prompt": "p", "images": [[data_url(PNG)]]}),
    request(EDIT, {"prompt": "p", "images": [{"id": 1}]}),
    request(EDIT, {"prompt": "p", "images": [{"image_url": data_url(PNG)}], "mask": {"file_id": "file-1"}}),
    generate({"prompt": "p", "reference_images": [{"source": "https://h/x"}]}),
    generate({"prompt": "p", "control": {"file_ids": ["x"]}}),
    generate({"prompt": "p", "control": {"fileId": "x"}}),
    generate({"prompt": "p", "control": "oss://b/x"}),
    form(field("prompt", "p"), file("image", PNG), field("image", "https://h/x")),
    form(field("prompt", "p"), field("image", "https://h/x"), file("image[]", PNG)),
    form(field("prompt", "p"), field("image[]", "https://h/x"), file("image", PNG)),
    form(field("prompt", "p"), field("image", "https://h/x")),
]
KEPT = [
    gemini({"contents": contents("see https://h/x.png")}),
    gemini({"contents": contents({"functionResponse": {"response": {"url": "https://h/x.png"}}})}),
    gemini({"contents": contents("https://h/x.png", {"functionCall": {"args": {"url": "https://h/x.png"}}})}),
    gemini({"contents": contents({"text": "a", "partMetadata": {"seen": "https://h/x.png"}})}),
    gemini({"contents": contents("a"), "labels": {"from": "https://h"}}),
    gemini({"contents": [], "generationConfig": {"responseJsonSchema": {"$schema": "https://json-schema.org/x"}}}),
    gemini({"contents": [], "tools": [{"functionDeclarations": [{"name": "f"}]}, {"code_execution": {}}]}),
    gemini({"contents": [], "tools": None, "cachedContent": None}),
    generate({"prompt": "https://h/x.png"}),
    generate({"prompt": "p", "user": "https://h/me"}),
    request(EDIT, {"prompt": "p", "image": data_url(PNG)}),
    form(field("prompt", "p"), file("image", PNG), field("mask", data_url(PNG))),
    form(field("prompt", "p"), file("image", PNG), file("image", PNG)),
    form(field("prompt", "p"), file("image", PNG), file("image[]", PNG)),
]


def shown(asking: Request) -> str:
    return asking.body.decode("latin-1")[:80].encode("unicode_escape").decode()


@pytest.mark.parametrize("asking", STATEFUL, ids=shown)
def test_stateful(asking: Request) -> None:
    assert asked(asking).never_cached == "stateful"


@pytest.mark.parametrize("asking", UNKNOWN, ids=shown)
def test_reference_of_unknown_content(asking: Request) -> None:
    assert asked(asking).never_cached == "reference-unknown"


@pytest.mark.parametrize("asking", KEPT, ids=shown)
def test_nothing_to_refuse(asking: Request) -> None:
    assert asked(asking).never_cached is None


def test_ignoring_a_field_does_not_lift_its_refusal() -> None:
    rules = KeyRules(ignore=("body:tools", "body:contents"))
    assert asked(STATEFUL[0], rules).never_cached == "stateful"
    assert asked(UNKNOWN[0], rules).never_cached == "reference-unknown"
