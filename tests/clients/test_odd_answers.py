"""Through both SDKs, over a real socket: what comes as an image and is none is forwarded each time; a good answer in an
odd spelling is paid for once, and comes back byte for byte."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from google import genai
from google.genai import types

import cachelayer
from tests.asking import GEMINI_PATH, PATH, body, gemini_body
from tests.clients.canned import Canned, Said
from tests.dialects.asks import b64, data_url
from tests.dialects.samples import SAMPLES, made

pytestmark = [pytest.mark.usefixtures("collected"), pytest.mark.filterwarnings("ignore::ResourceWarning")]

PNG = made("PNG", 80)
HALF = PNG[: len(PNG) // 2]
MODEL = "gemini-3-pro-image"
LINES = "\r\n".join(b64(PNG)[at : at + 76] for at in range(0, len(b64(PNG)), 76))


@pytest.fixture
def cache(folder: Path, canned: Canned) -> Iterator[cachelayer.Cache]:
    """A host with a price per image: what is counted as delivered is what is paid for."""
    with cachelayer.Cache(path=folder, prices={canned.url.removeprefix("http://"): "0.05"}) as cache:
        yield cache


def says(canned: Canned, answer: Any) -> None:
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    canned.answer = lambda _: Said(200, (("content-type", "application/json"),), data)


def generate(cache: cachelayer.Cache, canned: Canned) -> openai.types.ImagesResponse:
    client = cache.wrap(openai.OpenAI(base_url=canned.url + "/v1", api_key="sk-test", max_retries=0))
    answer: openai.types.ImagesResponse = client.images.generate(**body())
    return answer


def draw(cache: cachelayer.Cache, canned: Canned) -> types.GenerateContentResponse:
    client = cache.wrap(genai.Client(api_key="g-test", http_options=types.HttpOptions(base_url=canned.url)))
    return client.models.generate_content(model=MODEL, contents="a lighthouse")


def candidates(blob: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": [{"inlineData": blob}]}, **fields}]}


OPENAI_GOOD: dict[str, Any] = {
    "a data url": {"data": [{"b64_json": data_url(PNG)}]},
    "a data url for an address": {"data": [{"url": data_url(PNG)}]},
    "lines": {"data": [{"b64_json": LINES}]},
    "no error": {"error": None, "data": [{"b64_json": b64(PNG)}]},
    "a mark of byte order": b"\xef\xbb\xbf" + json.dumps({"data": [{"b64_json": b64(PNG)}]}).encode(),
    **{f"whole: {name}": {"data": [{"b64_json": b64(sample.data)}]} for name, sample in SAMPLES.items()},
}


@pytest.mark.parametrize("name", OPENAI_GOOD)
def test_good_answers_are_paid_for_once_openai(cache: cachelayer.Cache, canned: Canned, name: str) -> None:
    says(canned, OPENAI_GOOD[name])
    first, second = (generate(cache, canned) for _ in range(2))
    assert len(canned.requests) == 1
    assert second.model_dump() == first.model_dump()
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.entries) == (1, 1, 1)
    assert (stats.spent_usd, stats.saved_usd) == (Decimal("0.05"), Decimal("0.05"))


GOOD_BLOB = {"mimeType": "image/png", "data": b64(PNG)}
GEMINI_GOOD: dict[str, Any] = {
    "no finish reason": candidates(GOOD_BLOB),
    "lower case": candidates(GOOD_BLOB, finishReason="stop"),
    "no type": candidates({"data": b64(PNG)}, finishReason="STOP"),
    "an odd type": candidates({"data": b64(PNG), "mimeType": "binary/octet-stream"}, finishReason="STOP"),
    "snake case": {
        "candidates": [
            {
                "content": {"parts": [{"inline_data": {"mime_type": "image/png", "data": b64(PNG)}}]},
                "finish_reason": "STOP",
            }
        ],
        "usage_metadata": {"prompt_token_count": 3},
    },
    "url-safe": candidates({**GOOD_BLOB, "data": b64(PNG).replace("+", "-").replace("/", "_")}, finishReason="STOP"),
    "no error": {"error": None, **candidates(GOOD_BLOB, finishReason="STOP")},
}


@pytest.mark.parametrize("name", GEMINI_GOOD)
def test_good_answers_are_paid_for_once_gemini(cache: cachelayer.Cache, canned: Canned, name: str) -> None:
    says(canned, GEMINI_GOOD[name])
    first, second = (draw(cache, canned) for _ in range(2))
    assert len(canned.requests) == 1
    assert second.candidates == first.candidates
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.entries) == (1, 1, 1)
    assert (stats.spent_usd, stats.saved_usd) == (Decimal("0.05"), Decimal("0.05"))


@pytest.mark.parametrize(
    ("path", "asked", "answers"),
    [(PATH, body(), OPENAI_GOOD), (GEMINI_PATH, gemini_body(), GEMINI_GOOD)],
    ids=["openai", "gemini"],
)
def test_each_comes_back_byte_for_byte(
    cache: cachelayer.Cache, canned: Canned, path: str, asked: dict[str, Any], answers: dict[str, Any]
) -> None:
    with httpx.Client() as given:
        client = cache.wrap(given)
        for number, answer in enumerate(answers.values()):
            says(canned, answer)
            url = f"{canned.url}/r{number}{path}"
            first, second = client.post(url, json=asked), client.post(url, json=asked)
            assert [first.headers["x-cachelayer"], second.headers["x-cachelayer"]] == ["MISS", "HIT"]
            assert second.content == first.content == canned.answer(canned.requests[-1]).body


BAD = {
    "half an image": HALF,
    "all but the last byte": PNG[:-1],
    "a JSON error": b'{"error": "upstream"}' * 2_000,
    "an error page": b"<html>" + b" " * 20_000 + b"502</html>",
    "one byte": b"\x89",
    "half a webp": SAMPLES["webp"].data[: len(SAMPLES["webp"].data) // 2],
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_neither_kept_nor_claimed(cache: cachelayer.Cache, canned: Canned, name: str) -> None:
    data = b64(BAD[name])
    says(canned, {"data": [{"b64_json": data}], "usage": {"input_tokens": 5, "output_tokens": 9}})
    first, second = (generate(cache, canned) for _ in range(2))
    assert first.data
    assert first.data[0].b64_json == data
    says(canned, candidates({"mimeType": "image/png", "data": data}, finishReason="STOP"))
    drawn = [draw(cache, canned) for _ in range(2)]
    assert drawn[0].candidates == drawn[1].candidates
    assert len(canned.requests) == 4
    stats = cache.stats()
    assert (stats.misses, stats.hits, stats.entries, stats.blobs) == (4, 0, 0, 0)
    assert (stats.saved_usd, stats.unpriced) == (Decimal(0), 4)
    assert second.data == first.data


def test_the_reason_is_named(cache: cachelayer.Cache, canned: Canned) -> None:
    says(canned, {"data": [{"b64_json": b64(HALF)}]})
    with httpx.Client() as given:
        client = cache.wrap(given)
        answer = client.post(canned.url + PATH, json=body())
        assert (answer.headers["x-cachelayer"], answer.headers["x-cachelayer-reason"]) == ("MISS", "not-an-image")
        says(canned, {"data": [{"b64_json": b64(PNG), "finish_reason": "content_filter"}]})
        answer = client.post(canned.url + PATH, json=body())
        assert (answer.headers["x-cachelayer"], answer.headers["x-cachelayer-reason"]) == ("MISS", "blocked")
    # The one that was refused came with an image all the same, and at a price per image that was billed.
    assert cache.stats().spent_usd == Decimal("0.05")
    assert cache.stats().entries == 0


def test_an_image_that_is_kept_lies_in_the_store_as_it_is(
    cache: cachelayer.Cache, canned: Canned, folder: Path
) -> None:
    says(canned, {"data": [{"b64_json": data_url(PNG)}]})
    answer = generate(cache, canned)
    assert answer.data
    assert base64.b64decode((answer.data[0].b64_json or "").partition(",")[2]) == PNG
    assert [path.read_bytes() for path in (folder / "blobs").rglob("*") if path.is_file()] == [PNG]
