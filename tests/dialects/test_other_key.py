"""Pairs of requests that MUST NOT share a key, one at least per rule and dialect of docs/key-spec.md."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cachelayer.core.model import KeyRules, Request
from tests.dialects.asks import (
    EDIT,
    GEMINI,
    GENERATE,
    b64,
    contents,
    data_url,
    field,
    file,
    form,
    gemini,
    generate,
    key,
    request,
)

Build = Callable[..., Request]

RED, BLUE = b"\x89PNG red", b"\x89PNG blue"
CAT = contents("a cat")


def config(**fields: object) -> Request:
    return gemini({"contents": CAT, "generationConfig": {"responseModalities": ["IMAGE"], **fields}})


def picture(**fields: object) -> Request:
    return generate({"model": "gpt-image-1.5", "prompt": "a cat", **fields})


def edit(**fields: object) -> Request:
    return request(EDIT, {"model": "gpt-image-1.5", "prompt": "a cat", **fields})


def blob(data: str, mime: str = "image/png") -> Request:
    return gemini({"contents": contents({"inlineData": {"mimeType": mime, "data": data}})})


GEMINI_PAIRS: dict[str, tuple[Request, Request]] = {
    "prompt": (gemini(), gemini({"contents": contents("a cat!")})),
    "letter case": (gemini(), gemini({"contents": contents("A cat")})),
    "inner whitespace": (gemini(), gemini({"contents": contents("a  cat")})),
    "NFKC is not NFC": (gemini({"contents": contents("m²")}), gemini({"contents": contents("m2")})),
    "4K and 1K": (config(imageConfig={"imageSize": "4K"}), config(imageConfig={"imageSize": "1K"})),
    "1K and omitted": (config(imageConfig={"imageSize": "1K"}), config()),
    "2K and 2k": (config(imageConfig={"imageSize": "2K"}), config(imageConfig={"imageSize": "2k"})),
    "aspect ratio 1:1 and omitted": (config(imageConfig={"aspectRatio": "1:1"}), config()),
    "seed omitted and 0": (config(), config(seed=0)),
    "seed 0 and 1": (config(seed=0), config(seed=1)),
    "1 and true": (config(x=1), config(x=True)),
    '1 and "1"': (config(seed=1), config(seed="1")),
    "large integers are exact": (config(seed=2**53), config(seed=2**53 + 1)),
    "modalities": (config(), config(responseModalities=["IMAGE", "TEXT"])),
    "order of modalities": (
        config(responseModalities=["TEXT", "IMAGE"]),
        config(responseModalities=["IMAGE", "TEXT"]),
    ),
    "count": (config(candidateCount=1), config(candidateCount=2)),
    "a count that is none": (config(candidateCount=0), config()),
    "a count as text": (config(candidateCount="2"), config(candidateCount=2)),
    "one image more": (gemini({"contents": contents("a", RED)}), gemini({"contents": contents("a", RED, BLUE)})),
    "images swapped": (gemini({"contents": contents("a", RED, BLUE)}), gemini({"contents": contents("a", BLUE, RED)})),
    "the same image twice": (gemini({"contents": contents("a", RED)}), gemini({"contents": contents("a", RED, RED)})),
    "image before or after the text": (
        gemini({"contents": contents("a", RED)}),
        gemini({"contents": contents(RED, "a")}),
    ),
    "mime of an image": (blob(b64(RED)), blob(b64(RED), "image/webp")),
    "one bit of an image": (blob(b64(RED)), blob(b64(b"\x89PNG ree"))),
    "whitespace in base64 is not known to be an image": (blob(b64(RED)), blob(b64(RED) + "\n")),
    "broken base64 is not the image it resembles": (blob(b64(RED)), blob("!" + b64(RED))),
    "short padding is not known to be an image": (blob("QQ=="), blob("QQ=")),
    "mixed alphabets are not known to be an image": (blob("+/+/-_-_"), blob("-_-_-_-_")),
    "thoughtSignature": (
        gemini({"contents": contents({"text": "a", "thoughtSignature": b64(RED)})}),
        gemini({"contents": contents({"text": "a", "thoughtSignature": b64(BLUE)})}),
    ),
    "thought": (gemini({"contents": contents({"text": "a", "thought": True})}), gemini({"contents": contents("a")})),
    "order of messages": (
        gemini({"contents": contents("a") + contents("b")}),
        gemini({"contents": contents("b") + contents("a")}),
    ),
    "role": (
        gemini({"contents": [{"role": "user", "parts": [{"text": "a"}]}]}),
        gemini({"contents": [{"role": "model", "parts": [{"text": "a"}]}]}),
    ),
    "role omitted": (
        gemini({"contents": [{"role": "user", "parts": [{"text": "a"}]}]}),
        gemini({"contents": [{"parts": [{"text": "a"}]}]}),
    ),
    "parts joined": (gemini({"contents": contents("a", "b")}), gemini({"contents": contents("ab")})),
    "system instruction": (
        gemini({"contents": CAT, "systemInstruction": {"parts": [{"text": "a"}]}}),
        gemini({"contents": CAT, "systemInstruction": {"parts": [{"text": "b"}]}}),
    ),
    "safety settings": (gemini(), gemini({"contents": CAT, "safetySettings": [{"category": "c", "threshold": "t"}]})),
    "unknown field": (gemini(), gemini({"contents": CAT, "new": 1})),
    "unknown field, nested": (config(imageConfig={"new": [{"a": 1}]}), config(imageConfig={"new": [{"a": 2}]})),
    "null in an unknown field": (gemini(), gemini({"contents": CAT, "new": None})),
    "empty unknown object": (gemini(), gemini({"contents": CAT, "new": {}})),
    "snake_case inside unknown fields": (
        gemini({"contents": CAT, "new": {"mimeType": 1}}),
        gemini({"contents": CAT, "new": {"mime_type": 1}}),
    ),
    "snake_case inside arguments": (
        gemini({"contents": contents({"functionCall": {"name": "f", "args": {"inlineData": 1}}})}),
        gemini({"contents": contents({"functionCall": {"name": "f", "args": {"inline_data": 1}}})}),
    ),
    "null inside a tool's response": (
        gemini({"contents": contents({"functionResponse": {"name": "f", "response": {"a": None}}})}),
        gemini({"contents": contents({"functionResponse": {"name": "f", "response": {}}})}),
    ),
    "snake_case inside a schema": (
        config(responseSchema={"properties": {"anyOf": {}}}),
        config(responseSchema={"properties": {"any_of": {}}}),
    ),
    "null inside a JSON schema": (config(responseJsonSchema={"default": None}), config(responseJsonSchema={})),
    "base64 inside unknown fields is text": (config(new="QQ=="), config(new="QR==")),
    "nested labels": (config(labels={"a": 1}), config(labels={"a": 2})),
    "codeExecution by being there": (
        gemini({"contents": CAT, "tools": [{}]}),
        gemini({"contents": CAT, "tools": [{"codeExecution": {}}]}),
    ),
    "empty list and absent": (gemini(), gemini({"contents": CAT, "safetySettings": []})),
    "model": (gemini(), gemini(url=GEMINI.replace("pro-image", "pro-image-preview"))),
    "publisher": (
        gemini(url="https://a.com/v1/publishers/google/models/m-image:generateContent"),
        gemini(url="https://a.com/v1/publishers/other/models/m-image:generateContent"),
    ),
    "stream": (gemini(), gemini(url=GEMINI.replace(":generate", ":streamGenerate") + "?alt=sse")),
    "stream as events or as an array": (
        gemini(url=GEMINI.replace(":generate", ":streamGenerate") + "?alt=sse"),
        gemini(url=GEMINI.replace(":generate", ":streamGenerate")),
    ),
    "alt=sse is not the only one": (
        gemini(url=GEMINI.replace(":generate", ":streamGenerate") + "?alt=sse&alt=json"),
        gemini(url=GEMINI.replace(":generate", ":streamGenerate") + "?alt=json&alt=sse"),
    ),
    "alt=sse without a stream": (gemini(), gemini(url=GEMINI + "?alt=sse")),
    "host": (gemini(), gemini(url=GEMINI.replace("generativelanguage", "other"))),
    "port": (gemini(), gemini(url=GEMINI.replace(".com/", ".com:8443/"))),
    "http and https": (gemini(), gemini(url=GEMINI.replace("https:", "http:"))),
    "path prefix": (gemini(), gemini(url=GEMINI.replace(".com/", ".com/gateway/"))),
    "trailing slash": (gemini(), gemini(url=GEMINI + "/")),
    "Vertex location": (
        gemini(url="https://a.com/v1/projects/p/locations/l1/publishers/google/models/m-image:generateContent"),
        gemini(url="https://a.com/v1/projects/p/locations/l2/publishers/google/models/m-image:generateContent"),
    ),
}

OPENAI_PAIRS: dict[str, tuple[Request, Request]] = {
    "prompt": (picture(), picture(prompt="a dog")),
    "model alias and snapshot": (picture(model="gpt-image-2"), picture(model="gpt-image-2-2026-04-21")),
    "model omitted": (generate({"prompt": "p"}), generate({"prompt": "p", "model": "gpt-image-1"})),
    "model empty and omitted": (generate({"prompt": "p"}), generate({"prompt": "p", "model": ""})),
    "models/x is no spelling here": (picture(model="models/gpt-image-2"), picture(model="gpt-image-2")),
    "size": (picture(size="1024x1024"), picture(size="1536x1024")),
    "size omitted": (picture(size="1024x1024"), picture()),
    "quality": (picture(quality="low"), picture(quality="high")),
    "format omitted": (picture(output_format="png"), picture()),
    "compression omitted": (picture(output_compression=100), picture()),
    "input fidelity omitted": (edit(input_fidelity="low"), edit()),
    "background": (picture(background="transparent"), picture()),
    "auto of a field without that default": (picture(style="auto"), picture()),
    "auto of size": (picture(size="auto"), picture()),
    "auto of moderation in an edit": (edit(moderation="auto"), edit()),
    "AUTO is not auto": (picture(size="AUTO"), picture()),
    "n": (picture(n=1), picture(n=2)),
    "n as text": (picture(n="2"), picture(n=2)),
    "n=0": (picture(n=0), picture()),
    "n=true": (picture(n=True), picture()),
    "stream": (picture(stream=True), picture()),
    "stream that is no boolean": (picture(stream="false"), picture()),
    "camelCase is no spelling here": (picture(outputFormat="png"), picture(output_format="png")),
    "unknown field": (picture(), picture(new=None)),
    "nested bookkeeping": (picture(new={"user": "a"}), picture(new={"user": "b"})),
    "labels are not known here": (picture(labels={"a": 1}), picture()),
    "one image more": (
        form(field("prompt", "p"), file("image[]", RED)),
        form(field("prompt", "p"), file("image[]", RED), file("image[]", BLUE)),
    ),
    "images swapped": (
        form(field("prompt", "p"), file("image[]", RED), file("image[]", BLUE)),
        form(field("prompt", "p"), file("image[]", BLUE), file("image[]", RED)),
    ),
    "image twice is not image[] twice": (
        form(field("prompt", "p"), file("image", RED), file("image", BLUE)),
        form(field("prompt", "p"), file("image[]", RED), file("image[]", BLUE)),
    ),
    "image twice and the last of them": (
        form(field("prompt", "p"), file("image", RED), file("image", BLUE)),
        form(field("prompt", "p"), file("image", BLUE)),
    ),
    "image beside image[]": (
        form(field("prompt", "p"), file("image", RED), file("image[]", BLUE)),
        form(field("prompt", "p"), file("image[]", RED), file("image", BLUE)),
    ),
    "image beside image[], and image[] twice": (
        form(field("prompt", "p"), file("image", RED), file("image[]", BLUE)),
        form(field("prompt", "p"), file("image[]", RED), file("image[]", BLUE)),
    ),
    "image and mask swapped": (
        form(field("prompt", "p"), file("image", RED), file("mask", BLUE)),
        form(field("prompt", "p"), file("image", BLUE), file("mask", RED)),
    ),
    "mask omitted": (
        form(field("prompt", "p"), file("image", RED), file("mask", BLUE)),
        form(field("prompt", "p"), file("image", RED)),
    ),
    "mime of a part": (
        form(field("prompt", "p"), file("image", RED)),
        form(field("prompt", "p"), file("image", RED, "application/octet-stream")),
    ),
    "mime omitted": (
        form(field("prompt", "p"), file("image", RED, "")),
        form(field("prompt", "p"), file("image", RED)),
    ),
    "a file is no text": (
        form(field("prompt", "p"), file("x", b"1", None)),
        form(field("prompt", "p"), field("x", "1")),
    ),
    "integers in unknown form fields stay text": (
        form(field("prompt", "p"), field("x", "1"), file("image", RED)),
        request(EDIT, {"prompt": "p", "x": 1, "images": [{"image_url": data_url(RED)}]}),
    ),
    "a field twice is no list": (
        form(field("prompt", "p"), field("x", "1"), field("x", "2")),
        request(EDIT, {"prompt": "p", "x": ["1", "2"]}),
    ),
    "leading zeros are no integer": (
        form(field("prompt", "p"), field("n", "02")),
        form(field("prompt", "p"), field("n", "2")),
    ),
    "a form's field called images": (
        form(field("prompt", "p"), file("images", RED)),
        form(field("prompt", "p"), file("image", RED)),
    ),
    "image and images in JSON": (
        edit(image={"image_url": data_url(RED)}),
        edit(images=[{"image_url": data_url(RED)}]),
    ),
    "data: URL and its text": (edit(images=[{"image_url": data_url(RED)}]), edit(images=[{"image_url": b64(RED)}])),
    "more than an address in an image": (
        edit(images=[{"image_url": data_url(RED), "detail": "high"}]),
        edit(images=[{"image_url": data_url(RED)}]),
    ),
    "null in an unknown field of an image": (
        edit(images=[{"image_url": data_url(RED), "new": None}]),
        edit(images=[{"image_url": data_url(RED)}]),
    ),
    "an object that looks like a canonical image": (
        edit(images=[{"image_url": data_url(RED)}]),
        edit(images=[{"mime": "image/png", "data": b64(RED)}]),
    ),
    "generations and edits": (picture(), edit()),
    "trailing slash": (picture(), generate(url=GENERATE + "/")),
    "deployment": (
        generate({"prompt": "p"}, url="https://x.com/openai/deployments/A/images/generations"),
        generate({"prompt": "p"}, url="https://x.com/openai/deployments/B/images/generations"),
    ),
}


@pytest.mark.parametrize("rule", GEMINI_PAIRS)
def test_gemini(rule: str) -> None:
    first, second = GEMINI_PAIRS[rule]
    assert key(first) != key(second)


@pytest.mark.parametrize("rule", OPENAI_PAIRS)
def test_openai(rule: str) -> None:
    first, second = OPENAI_PAIRS[rule]
    assert key(first) != key(second)


@pytest.mark.parametrize("build", [gemini, generate], ids=["gemini", "openai"])
class TestBothDialects:
    def test_namespaces_never_meet(self, build: Build) -> None:
        assert key(build(), KeyRules(namespace="a")) != key(build(), KeyRules(namespace="b"))

    @pytest.mark.parametrize("name", ["x-new", "accept-language", "openai-beta", "x-goog-request-params", "origin"])
    def test_an_unknown_header_counts(self, build: Build, name: str) -> None:
        assert len({key(build()), key(build(headers={name: "1"})), key(build(headers={name: "2"}))}) == 3

    def test_a_header_twice_counts_in_order(self, build: Build) -> None:
        one, two = ("x-new", "1"), ("X-New", "2")
        keys = {key(build(headers=headers)) for headers in ([one], [two], [one, two], [two, one], [one, one])}
        assert len(keys) == 5

    def test_another_host_behind_one_address_counts(self, build: Build) -> None:
        url = build().url.replace("https://" + build().url.split("/")[2], "http://10.0.0.1:8080")
        hosts = ["10.0.0.1:8080", "10.0.0.1", "a.example", "b.example", "a@10.0.0.1:8080", "10.0.0.1:8080/x", "[", ""]
        assert len({key(build(url=url, headers={"Host": host})) for host in hosts}) == len(hosts)

    def test_accepting_images_or_events_only_counts(self, build: Build) -> None:
        shapes = ["*/*", "image/png", "Text/Event-Stream", "image/*", "image/png, image/webp;q=0.5"]
        assert len({key(build(headers={"Accept": shape})) for shape in shapes}) == len(shapes)

    def test_only_spaces_and_tabs_around_a_header_do_not_count(self, build: Build) -> None:
        assert key(build(headers={"x": "\t a "})) == key(build(headers={"x": "a"}))
        assert key(build(headers={"x": "a\u00a0"})) != key(build(headers={"x": "a"}))

    def test_an_unknown_query_parameter_counts(self, build: Build) -> None:
        url = build().url
        queries = [
            "",
            "?a=1",
            "?a=2",
            "?a=1&a=2",
            "?a=2&a=1",
            "?a=1&a=1",
            "?a",
            "?a=",
            "?=a",
            "?b=1",
            "?a=1&b=1",
            "?A=1",
            "?a==",
            "?a&a=1",
            "?a=1&a",
            "?a&a=",
            "?a=&a",
        ]
        assert len({key(build(url=url + query)) for query in queries}) == len(queries)

    def test_query_order_across_names_does_not_count(self, build: Build) -> None:
        url = build().url
        assert key(build(url=url + "?a=1&b=2&a=3")) == key(build(url=url + "?b=2&&a=1&a=3"))

    def test_exact_keeps_the_prompt(self, build: Build) -> None:
        exact = KeyRules(normalize="exact")
        body = build().body
        for respelled in (b" a cat", b"a cat\\r\\n", b"a cat\\n"):
            other = request(build().url, body.replace(b"a cat", respelled))
            assert key(build()) == key(other)
            assert key(build(), exact) != key(other, exact)


def test_text_operations_are_always_exact() -> None:
    url = GEMINI.replace("-image", "")
    assert key(gemini(url=url)) != key(gemini({"contents": contents(" a cat")}, url=url))


@pytest.mark.parametrize(
    "body",
    [
        {"contents": CAT, "new": {"text": "x "}},
        {"contents": contents({"text": "a cat", "partMetadata": {"text": "x "}})},
        {"contents": contents({"functionCall": {"name": "x ", "args": {}}})},
        {"contents": contents({"functionResponse": {"name": "f", "response": {"text": "x "}}})},
        {"contents": CAT, "generationConfig": {"stopSequences": ["x "]}},
        {"contents": CAT, "generationConfig": {"responseSchema": {"description": "x "}}},
    ],
)
def test_normalisation_touches_prompts_only(body: dict[str, object]) -> None:
    spoilt = gemini(body)
    assert key(spoilt) != key(request(GEMINI, spoilt.body.replace(b'"x "', b'"x"')))
