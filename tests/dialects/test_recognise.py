"""Which requests are recognised, and what is known of them beside the key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cachelayer.core.canon import fields
from cachelayer.core.model import KeyRules, Request, Unkeyed
from cachelayer.dialects import ask
from tests.dialects.asks import (
    EDIT,
    GEMINI,
    GENERATE,
    JSON,
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
    unkeyed,
)

PNG = b"\x89PNG some bytes"


@pytest.mark.parametrize(
    ("url", "scope", "model"),
    [
        (GEMINI, "generativelanguage.googleapis.com", "gemini-3-pro-image"),
        ("https://h/v1alpha/models/m-image:generateContent", "h", "m-image"),
        ("https://h/v1p1beta1/models/m-image:generateContent", "h", "m-image"),
        ("https://h/models/m-image:generateContent", "h", "m-image"),
        ("https://h/gw/v2/v1beta/models/m-image:generateContent", "h/gw/v2", "m-image"),
        ("https://h/v1/projects/p/locations/eu/publishers/google/models/m-image:generateContent",
         "h/locations/eu", "m-image"),
        ("https://h/gw/v1/projects/p/locations/eu/publishers/x/models/m-image:generateContent",
         "h/gw/locations/eu", "publishers/x/models/m-image"),
        ("https://h/v1/publishers/google/models/m-image:generateContent", "h", "m-image"),
        ("http://user:pw@H:80/v1/models/m-image:streamGenerateContent?alt=sse#x", "h:80", "m-image"),
        ("https://[::1]:9/v1/models/m:image:generateContent", "[::1]:9", "m:image"),
    ],
)  # fmt: skip
def test_gemini_paths(url: str, scope: str, model: str) -> None:
    got = asked(gemini(url=url))
    assert (got.scope, got.model, got.dialect, got.operation) == (scope, model, "gemini", "image")
    assert got.host == scope.split("/")[0].removesuffix(":80")  # as in the URL, where http's own port is no port
    assert got.stream == ("stream" in url)
    assert fields(got)["endpoint"] == "generateContent"


@pytest.mark.parametrize(
    ("url", "scope", "model"),
    [
        (GENERATE, "api.openai.com", "gpt-image-1.5"),
        (EDIT, "api.openai.com", "gpt-image-1.5"),
        ("https://h/images/generations", "h", "gpt-image-1.5"),
        ("https://h/openai/v1/images/generations", "h/openai", "gpt-image-1.5"),
        ("https://h/api/v3/images/edits/", "h/api", "gpt-image-1.5"),
        ("https://h/openai/deployments/D/images/edits?api-version=1", "h/openai/deployments/D", "gpt-image-1.5"),
    ],
)
def test_openai_paths(url: str, scope: str, model: str) -> None:
    got = asked(generate(url=url))
    assert (got.scope, got.model, got.dialect, got.operation) == (scope, model, "openai-images", "image")


def test_azure_names_the_model_by_its_deployment() -> None:
    got = asked(generate({"prompt": "p"}, url="https://h/openai/deployments/D/images/generations"))
    assert got.model == "D"


@pytest.mark.parametrize(
    "url",
    [
        "https://h/v1/responses",
        "https://h/v1/images/variations",
        "https://h/v1/images",
        "https://h/v1/images/generations/x",
        "https://h/v1/models/m-image:countTokens",
        "https://h/v1/models/:generateContent",
        "https://h/v1/models/m-image",
        "https://h/v1/tunedModels/m:generateContent",
        "https://h/v1/projects/p/locations/l/endpoints/1:generateContent",
        "https://h/v1/models/m-image:generateContent//",
        "ftp://h/v1/images/generations",
        "/v1/images/generations",
        "https://h:port/v1/images/generations",
        "https://[h/v1/images/generations",
        "",
    ],
)
def test_unrecognised_urls(url: str) -> None:
    assert unkeyed(generate(url=url)).reason == "unrecognised"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", ""])
def test_unrecognised_methods(method: str) -> None:
    assert ask(Request(method, GENERATE, JSON, b"{}"), KeyRules()) == Unkeyed("unrecognised")


@pytest.mark.parametrize(
    ("model", "config", "operation"),
    [
        ("gemini-2.5-flash-IMAGE", {}, "image"),
        ("gemini-3-pro", {}, "text"),
        ("gemini-3-pro", {"responseModalities": ["TEXT"]}, "text"),
        ("gemini-3-pro", {"responseModalities": ["text", "image"]}, "image"),
        ("gemini-3-pro", {"response_modalities": "IMAGE"}, "image"),
        ("gemini-3-pro", {"imageConfig": {"imageSize": "2K"}}, "image"),
        ("gemini-3-pro", {"imageConfig": {}}, "text"),
        ("gemini-3-pro", {"imageConfig": {"imageSize": None}}, "text"),
        ("gemini-3-pro", {"responseFormat": [{"image": {}}]}, "image"),
        ("gemini-3-pro", {"responseFormat": [{"text": {}}]}, "text"),
    ],
)
def test_operation(model: str, config: dict[str, Any], operation: str) -> None:
    url = GEMINI.replace("gemini-3-pro-image", model)
    assert asked(gemini({"contents": [], "generationConfig": config}, url=url)).operation == operation


def test_facts_of_a_gemini_request() -> None:
    got = asked(
        gemini(
            {
                "contents": contents(
                    "a\r\n", PNG, {"functionResponse": {"parts": [{"inlineData": {"data": b64(PNG)}}]}}
                )
                + contents({"inlineData": {"mimeType": "audio/wav", "data": b64(PNG)}}, "b "),
                "generation_config": {"candidate_count": 3, "image_config": {"image_size": "2K"}},
                "service_tier": "FLEX",
            }
        ),
        KeyRules(namespace="n"),
    )
    assert (got.count, got.size, got.quality, got.tier, got.references) == (3, "2K", None, "flex", 2)
    assert (got.namespace, got.never_cached, got.normalized) == ("n", None, ("crlf", "strip"))


def test_facts_of_an_openai_request() -> None:
    got = asked(
        form(
            field("prompt", "e\u0301"),
            field("n", "4"),
            field("size", "1536x1024"),
            field("quality", "high"),
            field("service_tier", "Priority"),
            file("image[]", PNG),
            file("image[]", PNG),
            file("mask", PNG),
        )
    )
    assert (got.count, got.size, got.quality, got.tier, got.references) == (4, "1536x1024", "high", "priority", 3)
    assert (got.model, got.never_cached, got.normalized, got.stream) == ("", None, ("nfc",), False)


def test_images_of_one_name_are_all_counted() -> None:
    assert asked(form(field("prompt", "p"), file("image", PNG), file("image", PNG), file("mask", PNG))).references == 3


@pytest.mark.parametrize("model", ["gpt-image-2", "flux"])
def test_auto_is_no_size(model: str) -> None:
    got = asked(generate({"model": model, "prompt": "p", "size": "auto", "quality": "auto"}))
    assert (got.size, got.quality) == (None, None)


SECRETS = ["sk-" + "s" * 20, "AIza" + "a" * 20]


def test_no_token_reaches_the_canonical_request() -> None:
    one, two = SECRETS
    url = f"https://{one}:{two}@h/v1/images/generations?key={one}&unknown={two}&{one}&{two}==&api_key={two}#{one}"
    headers = {"Authorization": f"Bearer {one}", "Cookie": two, "X-Unknown-Auth": one, "api-key": two}
    canonical = asked(generate(url=url, headers=headers)).canonical.decode()
    assert not any(secret in canonical for secret in SECRETS)
    assert json.loads(canonical)["headers"].keys() == {"x-unknown-auth"}


def test_large_and_small_bodies_are_keyed_alike() -> None:
    """The same request padded beyond the size from which strings are cut out, and not."""
    image = bytes(range(256)) * 40
    for body in (
        {"contents": contents("a", image), "new": b64(image)},
        {"contents": contents({"text": "t", "thoughtSignature": b64(image)}), "labels": {"x": b64(image)}},
        {"contents": contents(b64(image))},
        {"contents": contents({"inlineData": {"mimeType": "image/png", "data": data_url(image)}})},
        {"contents": [], b64(image): b64(image)},
    ):
        small = gemini(body)
        large = request(GEMINI, small.body + b" " * 100_000)
        assert len(small.body) < 65_536 < len(large.body)
        assert asked(small).canonical == asked(large).canonical


def test_large_and_small_edits_are_keyed_alike() -> None:
    image = bytes(range(256)) * 40
    for one in ({"image_url": data_url(image)}, {"image_url": b64(image)}, {"image_url": data_url(image), "x": 1}):
        small = request(EDIT, {"prompt": "p", "images": [one], "mask": one, "new": data_url(image)})
        large = request(EDIT, small.body + b" " * 100_000)
        assert asked(small).canonical == asked(large).canonical
