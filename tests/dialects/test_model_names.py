"""Models: what a path or a body names, in whatever spelling, reaches the key."""

from __future__ import annotations

import json

import pytest

from cachelayer.core.canon import fields
from cachelayer.core.model import Request
from tests.dialects.asks import EDIT, GEMINI, GENERATE, asked, b64, data_url, gemini, generate, key, request, unkeyed

HOST = "https://gw.example/v1/models/"
PUBLISHERS = "https://gw.example/v1/publishers/google/models/"


@pytest.mark.parametrize(
    ("url", "model"),
    [
        (HOST + "google/gemini-2.5-flash-image:generateContent", "google/gemini-2.5-flash-image"),
        (HOST + "vertex_ai/gemini-3-pro-image:streamGenerateContent?alt=sse", "vertex_ai/gemini-3-pro-image"),
        (HOST + "google%2Fgemini-2.5-flash-image:generateContent", "google/gemini-2.5-flash-image"),
        (HOST + "a/b/c-image:generateContent/", "a/b/c-image"),
        (HOST + "a%252Fb-image:generateContent", "a%2Fb-image"),
        (HOST + "m%3Aimage:generateContent", "m:image"),
        (HOST + "m%C3%A9-image:generateContent", "mé-image"),
        (PUBLISHERS + "vertex_ai/m-image:generateContent", "vertex_ai/m-image"),
        (HOST + "x/models/m-image:generateContent", "m-image"),
    ],
)
def test_all_between_the_last_models_and_the_method(url: str, model: str) -> None:
    got = asked(gemini(url=url))
    assert (got.model, got.operation) == (model, "image")
    assert fields(got)["model"] == model


def test_spellings_of_one_model_meet_and_two_models_do_not() -> None:
    spelled = [
        HOST + name + ":generateContent" for name in ("google/m-image", "google%2Fm-image", "google%2fm%2Dimage")
    ]
    assert len({key(gemini(url=url)) for url in spelled}) == 1
    others = ["m-image", "google/m-image", "vertex_ai/m-image", "google%252Fm-image", "Google/m-image", "/a/m-image",
              "google/m-image/", "google//m-image"]  # fmt: skip
    assert len({key(gemini(url=HOST + name + ":generateContent")) for name in others}) == len(others)


@pytest.mark.parametrize(
    "name", ["", "%FF-image", "publishers%2Fx%2Fmodels%2Fm-image", "models%2Fm-image", "m-image%3AgenerateContent"]
)
def test_what_an_escape_may_not_say(name: str) -> None:
    """Bytes that are no text, and the parts of a path that decide which model it is."""
    method = "" if name.endswith("Content") else ":generateContent"
    assert unkeyed(gemini(url=HOST + name + method)).reason == "unrecognised"


LONG = "A" * 5_000


def padded(asking: Request) -> Request:
    """The same document above the size from which long strings are cut out."""
    large = request(asking.url, asking.body + b" " * 100_000)
    assert len(asking.body) < 65_536 < len(large.body)
    return large


@pytest.mark.parametrize("url", [GENERATE, EDIT])
@pytest.mark.parametrize("model", [LONG, data_url(b"x" * 5_000), b64(b"\x89PNG\r\n\x1a\n" + b"x" * 5_000)])
def test_a_model_of_any_length_counts_in_a_body_of_any_length(url: str, model: str) -> None:
    asking = request(url, {"model": model, "prompt": "p"})
    assert asked(padded(asking)) == asked(asking)
    assert asked(padded(asking)).model == model
    other = request(url, {"model": model[:-4] + "BBBB", "prompt": "p"})
    assert key(padded(other)) != key(padded(asking))


OPENAI = ["prompt", "background", "model", "moderation", "n", "output_format", "quality", "response_format", "size",
          "stream", "style", "image", "mask", "markup", "new", "input_fidelity"]  # fmt: skip
TEXTS = [LONG, LONG[:-1] + "B", data_url(b"x" * 5_000), b64(b"\x89PNG\r\n\x1a\n" + b"x" * 6_000)]


@pytest.mark.parametrize("name", OPENAI)
@pytest.mark.parametrize("url", [GENERATE, EDIT])
def test_no_long_field_of_openai_vanishes(url: str, name: str) -> None:
    asks = [request(url, {"prompt": "p", "model": "m", name: text}) for text in TEXTS]
    assert [asked(padded(one)) for one in asks] == [asked(one) for one in asks]
    assert len({key(padded(one)) for one in asks}) == len(TEXTS)


@pytest.mark.parametrize(
    "path",
    ["model", "systemInstruction", "generationConfig.seed", "generationConfig.responseModalities", "contents.0.role",
     "generationConfig.imageConfig.imageSize", "contents.0.parts.0.text", "contents.0.parts.0.thoughtSignature",
     "contents.0.parts.0.inlineData.data", "contents.0.parts.0.inlineData.mimeType", "new", "safetySettings"],
)  # fmt: skip
def test_no_long_field_of_gemini_vanishes(path: str) -> None:
    def build(text: str) -> Request:
        value: object = text
        for name in reversed(path.split(".")):
            value = [value] if name == "0" else {name: value}
        assert isinstance(value, dict)
        return request(GEMINI, json.dumps({"contents": [], **value}).encode())

    asks = [build(text) for text in TEXTS]
    assert [asked(padded(one)) for one in asks] == [asked(one) for one in asks]
    assert len({key(padded(one)) for one in asks}) == len(TEXTS)


@pytest.mark.parametrize("model", [None, "gpt-image-2", "GPT-Image-2", "models/gpt-image-2", "dall-e-3", "flux-2", ""])
def test_auto_is_folded_at_openai_alone_whatever_the_model(model: str | None) -> None:
    named = {} if model is None else {"model": model}
    for name in ("quality", "background", "moderation"):
        plain, auto = ({"prompt": "p", **named, **more} for more in ({}, {name: "auto"}))
        assert key(generate(auto)) == key(generate(plain))
        for host in ("x.openai.azure.com", "eu.api.openai.com", "api.openai.com:8443", "api.openai.com.example"):
            url = GENERATE.replace("api.openai.com", host)
            assert key(generate(auto, url=url)) != key(generate(plain, url=url))
        http = GENERATE.replace("https", "http")
        assert key(generate(auto, url=http)) != key(generate(plain, url=http))
    assert key(generate({"prompt": "p", **named, "size": "auto"})) != key(generate({"prompt": "p", **named}))


def test_a_deployment_is_no_host_of_openai() -> None:
    azure = "https://x.openai.azure.com/openai/deployments/gpt-image-2/images/generations"
    assert key(generate({"prompt": "p", "quality": "auto"}, url=azure)) != key(generate({"prompt": "p"}, url=azure))
