"""The requests that the real SDKs build: two calls share a key, and what differs between them costs no hit.

Each SDK sends into a transport that keeps the request and answers it; nothing of ours is in between.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import types
from openai import AzureOpenAI, OpenAI
from PIL import Image

from cachelayer.clients.httpx_client import module_of
from cachelayer.core.canon import differences, fields
from cachelayer.core.model import Answer, Asked, KeyRules, Request
from cachelayer.dialects import read
from tests.dialects.asks import asked, b64, data_url, request

TRACING = {"traceparent": "00-1-2-01", "sentry-trace": "1-2", "x-request-id": "3", "baggage": "a=b"}


def png(color: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(out, "PNG")
    return out.getvalue()


class Wire:
    """Keeps what is sent; answers it with one image, or with the failures it is told to begin with."""

    def __init__(self, *failures: int) -> None:
        self.module: Any = httpx2
        self.sent: list[Request] = []
        self.failures = [*failures]

    def __call__(self, sent: Any) -> Any:
        self.sent.append(Request(sent.method, str(sent.url), sent.headers.multi_items(), sent.read()))
        if self.failures:
            return self.module.Response(
                self.failures.pop(0), json={"error": {"message": "busy"}}, headers={"retry-after": "0"}
            )
        return self.module.Response(200, content=self.body(str(sent.url)), headers={"content-type": "application/json"})

    def body(self, url: str) -> bytes:
        if "images/" in url:
            return json.dumps({"created": 1, "data": [{"b64_json": b64(png())}], "output_format": "png"}).encode()
        parts = [{"inlineData": {"mimeType": "image/png", "data": b64(png())}, "thoughtSignature": b64(b"signed" * 9)}]
        return json.dumps(
            {"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP"}]}
        ).encode()

    def keyed(self) -> list[Asked]:
        return [asked(sent) for sent in self.sent]


def openai(wire: Wire, **options: Any) -> OpenAI:
    return OpenAI(api_key="sk-1", http_client=httpx2.Client(transport=httpx2.MockTransport(wire)), **options)


def gemini(wire: Wire, key: str = "k", **options: Any) -> genai.Client:
    # google-genai 1.x is built on httpx, later ones on httpx2.
    wire.module = module_of(genai.Client(api_key="k")._api_client._httpx_client)
    transport = wire.module.MockTransport(wire)
    return genai.Client(
        api_key=key,
        http_options=types.HttpOptions(client_args={"transport": transport}, **options),
    )


OPENAI_CALLS: dict[str, Callable[[OpenAI], Any]] = {
    "generate": lambda client: client.images.generate(model="gpt-image-1.5", prompt="a cat", n=2, size="1024x1024"),
    "generate, no options": lambda client: client.images.generate(prompt="a cat"),
    "edit one image": lambda client: client.images.edit(model="gpt-image-2", prompt="a cat", image=png()),
    "edit two images with a mask": lambda client: client.images.edit(
        model="gpt-image-2",
        prompt="a cat",
        image=[("a.png", png(), "image/png"), ("b.png", png("blue"), "image/png")],
        mask=png("green"),
        n=1,
        output_compression=80,
    ),
}
PICTURE_IN_MEMORY: list[Any] = ["a cat", Image.new("RGB", (8, 8), "red")]
PICTURE_AS_BYTES: list[Any] = [types.Part.from_bytes(data=png(), mime_type="image/png"), "a cat"]
GEMINI_CALLS: dict[str, Callable[[genai.Client], Any]] = {
    "text": lambda client: client.models.generate_content(model="gemini-3-pro-image", contents="a cat"),
    "PIL": lambda client: client.models.generate_content(model="gemini-3-pro-image", contents=PICTURE_IN_MEMORY),
    "bytes and config": lambda client: client.models.generate_content(
        model="gemini-3-pro-image",
        contents=PICTURE_AS_BYTES,
        config=types.GenerateContentConfig(
            response_modalities=["IMAGE"],
            image_config=types.ImageConfig(aspect_ratio="16:9", image_size="2K"),
            system_instruction="be brief",
            safety_settings=[
                types.SafetySetting(
                    category=types.HarmCategory.HARM_CATEGORY_HARASSMENT, threshold=types.HarmBlockThreshold.BLOCK_NONE
                )
            ],
            thinking_config=types.ThinkingConfig(include_thoughts=True),
        ),
    ),
    "chat": lambda client: [
        chat.send_message(message)
        for chat in [client.chats.create(model="gemini-3-pro-image")]
        for message in ("a cat", "and a dog")
    ],
}


@pytest.mark.parametrize("call", OPENAI_CALLS)
def test_openai_twice(call: str) -> None:
    wire = Wire()
    for client in (openai(wire), openai(wire, organization="org", project="p", timeout=5, default_headers=TRACING)):
        OPENAI_CALLS[call](client)
    first, second = wire.keyed()
    assert differences(first, second) == []
    assert first.key == second.key
    assert fields(first)["headers"] == {}
    assert first.never_cached is None
    assert wire.sent[0].body != wire.sent[1].body or "edit" not in call


def test_openai_retries() -> None:
    wire = Wire(500, 429)
    openai(wire).images.generate(prompt="a cat")
    assert len({got.key for got in wire.keyed()}) == 1
    assert {sent.header("x-stainless-retry-count") for sent in wire.sent} == {"0", "1", "2"}


def test_openai_edit_is_what_its_json_would_be() -> None:
    wire = Wire()
    OPENAI_CALLS["edit two images with a mask"](openai(wire))
    (got,) = wire.keyed()
    written = {
        "model": "gpt-image-2",
        "prompt": "a cat",
        "images": [{"image_url": data_url(png())}, {"image_url": data_url(png("blue"))}],
        "mask": {"image_url": data_url(png("green"), "application/octet-stream")},
        "output_compression": 80,
    }
    assert differences(got, asked(request(wire.sent[0].url, written))) == []
    assert got.references == 3


def test_openai_one_image_alone_or_in_a_list() -> None:
    wire = Wire()
    client = openai(wire)
    client.images.edit(prompt="p", image=png())
    client.images.edit(prompt="p", image=[png()])
    assert b'name="image[]"' in wire.sent[1].body
    first, second = wire.keyed()
    assert first.key == second.key


def test_azure() -> None:
    wire = Wire()
    transport = httpx2.Client(transport=httpx2.MockTransport(wire))
    for version in ("2025-04-01-preview", "2026-01-01"):
        client = AzureOpenAI(
            api_key="k", api_version=version, azure_endpoint="https://x.openai.azure.com", http_client=transport
        )
        client.images.generate(model="my-deployment", prompt="a cat")
    first, second = wire.keyed()
    assert first.key == second.key
    assert first.scope == "x.openai.azure.com/openai/deployments/my-deployment"
    assert first.model == "my-deployment"


@pytest.mark.parametrize("call", GEMINI_CALLS)
def test_gemini_twice(call: str) -> None:
    wire = Wire()
    for client in (gemini(wire), gemini(wire, "other key", timeout=60_000, api_version="v1alpha", headers=TRACING)):
        GEMINI_CALLS[call](client)
    keys = [got.key for got in wire.keyed()]
    half = len(keys) // 2
    assert keys[:half] == keys[half:]
    assert len(set(keys)) == half
    for got in wire.keyed():
        assert fields(got)["headers"] == {}
        assert (got.operation, got.never_cached) == ("image", None)


def test_gemini_is_what_handwritten_json_would_be() -> None:
    wire = Wire()
    GEMINI_CALLS["bytes and config"](gemini(wire))
    (got,) = wire.keyed()
    written = {
        "contents": [
            {
                "role": "user",
                "parts": [{"inlineData": {"mimeType": "image/png", "data": b64(png())}}, {"text": "a cat"}],
            }
        ],
        "systemInstruction": {"role": "user", "parts": [{"text": "be brief"}]},
        "generationConfig": {
            "responseModalities": ["IMAGE"],
            "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
            "thinkingConfig": {"includeThoughts": True},
        },
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    }
    url = "https://generativelanguage.googleapis.com/v1/models/gemini-3-pro-image:generateContent?key=k"
    assert differences(got, asked(request(url, written))) == []
    assert (got.size, got.references) == ("2K", 1)


def test_gemini_chat_sends_its_history_with_signatures() -> None:
    wire = Wire()
    GEMINI_CALLS["chat"](gemini(wire))
    _, second = wire.keyed()
    model = fields(second)["body"]["contents"][1]["parts"][0]
    assert model["thoughtSignature"].startswith("blake3:")
    assert model["inlineData"]["data"].startswith("blake3:")


def test_gemini_stream_is_keyed_apart() -> None:
    wire = Wire()
    client = gemini(wire)
    client.models.generate_content(model="gemini-3-pro-image", contents="a cat")
    list(client.models.generate_content_stream(model="gemini-3-pro-image", contents="a cat"))
    plain, streamed = wire.keyed()
    assert not plain.stream
    assert streamed.stream
    assert [field for field, _, _ in differences(plain, streamed)] == ["response"]


def test_vertex_express_and_the_developer_api_are_two_scopes() -> None:
    wire = Wire()
    other = gemini(wire)
    client = genai.Client(
        vertexai=True,
        api_key="k",
        http_options=types.HttpOptions(client_args={"transport": wire.module.MockTransport(wire)}),
    )
    client.models.generate_content(model="gemini-3-pro-image", contents="a cat")
    other.models.generate_content(model="gemini-3-pro-image", contents="a cat")
    vertex, developer = wire.keyed()
    assert vertex.host.endswith("aiplatform.googleapis.com")
    assert [field for field, _, _ in differences(vertex, developer)] == ["scope"]
    pool = KeyRules(pools=((f"https://{vertex.scope}", f"https://{developer.scope}"),))
    assert asked(wire.sent[0], pool).elsewhere == (developer.key,)
    assert asked(wire.sent[1], pool).elsewhere == (vertex.key,)


def test_what_the_wire_answers_is_good() -> None:
    wire = Wire()
    openai(wire).images.generate(prompt="a cat")
    client = gemini(wire)  # it closes its pool when nothing holds it
    client.models.generate_content(model="gemini-3-pro-image", contents="a cat")
    for sent, got in zip(wire.sent, wire.keyed(), strict=True):
        assert read(got, Answer(200, (), wire.body(sent.url))).refusal is None
