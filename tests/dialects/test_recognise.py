"""Which requests are recognised, and what is known of them beside the key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cachelayer.core.canon import fields
from cachelayer.core.model import KeyRules, Request, Unkeyed
from cachelayer.dialects import ask
from tests.core.test_canon_jsonspan import MALFORMED
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
    form_body,
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


@pytest.mark.parametrize("url", [GEMINI, GENERATE, EDIT])
@pytest.mark.parametrize(
    "kind",
    [None, "", "text/plain", "application/json; charset=latin-1", "application/json; x=y", "application/jsonl",
     "application/json, text/plain", "application/x-www-form-urlencoded", "application/json;"],
)  # fmt: skip
def test_wrong_content_type(url: str, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert unkeyed(Request("POST", url, headers, b"{}")).reason == "content-type"


def test_two_content_types() -> None:
    assert unkeyed(request(GENERATE, {}, [("Content-Type", "application/json")])).reason == "content-type"


@pytest.mark.parametrize("parameter", ["charset=latin-1", "x=y"])
def test_a_form_in_another_charset(parameter: str) -> None:
    kind = {"content-type": f"multipart/form-data; boundary=b0undary; {parameter}"}
    assert unkeyed(Request("POST", EDIT, kind, form(field("prompt", "p")).body)).reason == "content-type"


def test_a_form_is_for_edits_only() -> None:
    assert unkeyed(form(field("prompt", "p"), url=GENERATE)).reason == "content-type"


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON", 'application/json; charset="UTF-8"'])
def test_json_content_types(kind: str) -> None:
    asked(Request("POST", GENERATE, {"Content-Type": kind}, b"{}"))


@pytest.mark.parametrize(("coding", "reason"), [("gzip", "content-encoding"), ("identity, br", "content-encoding")])
def test_an_encoded_body(coding: str, reason: str) -> None:
    assert unkeyed(generate(headers={"content-encoding": coding})).reason == reason


def test_identity_is_no_encoding() -> None:
    assert asked(generate(headers={"content-encoding": "identity"})).key == asked(generate()).key


def test_a_body_above_the_limit() -> None:
    body = generate().body
    assert unkeyed(generate(), KeyRules(max_body=len(body) - 1)) == Unkeyed(
        "body-too-large", "openai-images", "api.openai.com", ""
    )
    asked(generate(), KeyRules(max_body=len(body)))


@pytest.mark.parametrize("url", [GEMINI, GENERATE, EDIT])
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_json(url: str, name: str) -> None:
    assert unkeyed(Request("POST", url, JSON, MALFORMED[name])).reason == "malformed"


@pytest.mark.parametrize("url", [GEMINI, GENERATE])
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_anywhere_even_where_it_does_not_count(url: str, name: str) -> None:
    body = b'{"labels":' + MALFORMED[name] + b',"user":' + MALFORMED[name] + b"}"
    assert unkeyed(Request("POST", url, JSON, body)).reason == "malformed"


@pytest.mark.parametrize("url", [GEMINI, GENERATE, EDIT])
@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b"true"])
def test_a_body_that_is_no_object(url: str, body: bytes) -> None:
    assert unkeyed(Request("POST", url, JSON, body)).reason == "malformed"


@pytest.mark.parametrize(
    "body",
    [
        {"contents": [], "generationConfig": {}, "generation_config": {}},
        {"contents": [], "generationConfig": {"image_config": None, "imageConfig": {}}},
        {"contents": contents({"inlineData": {"mimeType": "a", "mime_type": "b", "data": "QQ=="}})},
    ],
)
def test_both_spellings_of_one_field(body: Any) -> None:
    assert unkeyed(gemini(body)) == Unkeyed(
        "malformed", "gemini", "generativelanguage.googleapis.com", "gemini-3-pro-image"
    )


class TestForms:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"--b--\r\n",
            b"--b\r\n--b--\r\n",
            b"--b\r\n\r\n\r\n--b--\r\n",
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n--b--\r\n',
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n--b--\r\n',
            form_body(field("a", "1"), boundary="b")[:-1],
            form_body(field("a", "1"), boundary="b")[:-4],
            form_body(field("a", "1"), boundary="b")[:-20],
            form_body(field("a", "1"), boundary="b") + b"epilogue",
            b"preamble\r\n" + form_body(field("a", "1"), boundary="b"),
            form_body(field("a", "1"), boundary="other"),
            form_body(field("a", "1"), boundary="b").replace(b"\r\n", b"\n"),
            form_body(field("a", "1\r\n--bx"), boundary="b"),
            form_body(field("a", "1"), boundary="b").replace(b"form-data", b"attachment"),
            form_body(field("a", "1"), boundary="b").replace(b'name="a"', b"x=y"),
            form_body(field("a", "1"), boundary="b").replace(b'name="a"', b'name="a"; name="b"'),
            form_body(field("a", "1"), boundary="b").replace(b'name="a"', b'name="a"; size=1'),
            form_body(field("a", "1"), boundary="b").replace(b'name="a"', b'name="a'),
            form_body(field("a", "1"), boundary="b").replace(b"Content", b"X-Unknown: 1\r\nContent"),
            form_body(field("a", "1"), boundary="b").replace(
                b"Content", b"Content-Transfer-Encoding: base64\r\nContent"
            ),
            form_body(field("a", "1"), boundary="b").replace(
                b"Content", b"Content-Type: a\r\ncontent-type: b\r\nContent"
            ),
            form_body(field("a", "1"), boundary="b").replace(b"Content", b"no colon\r\nContent"),
            form_body(field("a", "1"), boundary="b").replace(b'"a"', b'"\xff"'),
            form_body(file("image", PNG), file("images", PNG), boundary="b"),
            form_body(file("image[]", PNG), file("images", PNG), boundary="b"),
            form_body(field("a", "1"), boundary="b").replace(b"Content", b"Content-Length: 2\r\nContent"),
            form_body(field("a", "1"), boundary="b").replace(b"Content", b"Content-Length: x\r\nContent"),
        ],
    )
    def test_broken(self, body: bytes) -> None:
        spoilt = Request("POST", EDIT, {"content-type": "multipart/form-data; boundary=b"}, body)
        assert unkeyed(spoilt).reason == "malformed"

    @pytest.mark.parametrize(
        "kind", ["multipart/form-data", 'multipart/form-data; boundary=""', "multipart/form-data; boundary=é"]
    )
    def test_no_boundary(self, kind: str) -> None:
        spoilt = Request("POST", EDIT, {"content-type": kind}, form_body(field("a", "1"), boundary="b"))
        assert unkeyed(spoilt).reason == "malformed"

    def test_what_other_clients_write(self) -> None:
        plain = form(field("prompt", "p"), file("image", PNG))
        body = plain.body.replace(
            b"Content-Type", b"content-length: 15\r\nContent-Transfer-Encoding: binary\r\nCONTENT-TYPE"
        )
        quoted = Request("POST", EDIT, {"content-type": 'multipart/form-data; boundary="b0undary"'}, body[:-2])
        assert asked(quoted).key == asked(plain).key

    def test_an_empty_file_and_an_empty_field(self) -> None:
        body = fields(asked(form(field("prompt", ""), file("image", b""))))["body"]
        assert body["prompt"] == ""
        assert body["images"][0]["data"].endswith("(0 bytes)")

    def test_line_breaks_and_dashes_inside_a_file(self) -> None:
        tricky = b"\r\n--\r\n--b0undar\r\n\r\n-"
        assert asked(form(file("image", tricky))).key != asked(form(file("image", tricky[:-1]))).key
        assert asked(form(file("image", tricky))).references == 1


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
    assert (got.namespace, got.refusal, got.normalized) == ("n", None, ("crlf", "strip"))


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
    assert (got.model, got.refusal, got.normalized, got.stream) == ("", None, ("nfc",), False)


def test_images_of_one_name_are_all_counted() -> None:
    assert asked(form(field("prompt", "p"), file("image", PNG), file("image", PNG), file("mask", PNG))).references == 3


@pytest.mark.parametrize("model", ["gpt-image-2", "flux"])
def test_auto_is_no_size(model: str) -> None:
    got = asked(generate({"model": model, "prompt": "p", "size": "auto", "quality": "auto"}))
    assert (got.size, got.quality) == (None, None)


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
    assert asked(asking).refusal == "stateful"


@pytest.mark.parametrize("asking", UNKNOWN, ids=shown)
def test_reference_of_unknown_content(asking: Request) -> None:
    assert asked(asking).refusal == "reference-unknown"


@pytest.mark.parametrize("asking", KEPT, ids=shown)
def test_nothing_to_refuse(asking: Request) -> None:
    assert asked(asking).refusal is None


def test_ignoring_a_field_does_not_lift_its_refusal() -> None:
    rules = KeyRules(ignore=("body:tools", "body:contents"))
    assert asked(STATEFUL[0], rules).refusal == "stateful"
    assert asked(UNKNOWN[0], rules).refusal == "reference-unknown"


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
