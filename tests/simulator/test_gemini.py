"""Gemini's format, read by google-genai itself and held against the recorded shapes."""

import asyncio
import base64
import io
import json
from typing import Any

import httpx
import pytest
from google.genai import errors, types
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cachelayer import dialects
from cachelayer.simulator import Simulator, gemini
from cachelayer.simulator.behaviour import Behaviour, Call
from cachelayer.simulator.render import render

PATH = "/v1beta/models/gemini-3-pro-image:generateContent"


def ask(prompt: str = "a red fox", **config: object) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": prompt}]}], "generationConfig": config}


def image_of(part: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(part["inlineData"]["data"], validate=True)))


@pytest.mark.parametrize(
    ("model", "aspect", "size", "pixels"),
    [
        ("gemini-3-pro-image", None, None, (1024, 1024)),
        ("gemini-3-pro-image", "16:9", "1K", (1376, 768)),
        ("gemini-3-pro-image", "2:3", "2K", (1696, 2528)),
        ("gemini-3-pro-image", "5:4", "4K", (4608, 3712)),
        ("gemini-3-pro-image-preview", "21:9", "4K", (6336, 2688)),
        ("gemini-2.5-flash-image", "16:9", None, (1344, 768)),
        ("gemini-2.5-flash-image", "4:5", None, (896, 1152)),
    ],
)
def test_exact_sizes_through_the_sdk(
    google: Any, model: str, aspect: str | None, size: str | None, pixels: tuple[int, int]
) -> None:
    config = types.GenerateContentConfig(
        response_modalities=["IMAGE"], image_config=types.ImageConfig(aspect_ratio=aspect, image_size=size)
    )
    answer = google.models.generate_content(model=model, contents="a red fox", config=config)
    (part,) = answer.candidates[0].content.parts
    image = Image.open(io.BytesIO(part.inline_data.data))
    assert image.size == pixels
    assert Image.MIME[image.format or ""] == part.inline_data.mime_type


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg", "image/webp"])
def test_the_asked_mime_type(http: httpx.Client, mime: str) -> None:
    config = {"imageOutputOptions": {"mimeType": mime}}
    answer = http.post(PATH, json=ask(imageConfig=config, responseModalities=["IMAGE"])).json()
    (part,) = answer["candidates"][0]["content"]["parts"]
    assert part["inlineData"]["mimeType"] == mime
    assert Image.MIME[image_of(part).format or ""] == mime


def test_snake_case_spelling_is_understood(http: httpx.Client) -> None:
    config = {"response_modalities": ["IMAGE"], "image_config": {"aspect_ratio": "16:9", "image_size": "2K"}}
    body = {"contents": {"parts": {"text": "a fox"}}, "generation_config": config}
    (part,) = http.post(PATH, json=body).json()["candidates"][0]["content"]["parts"]
    assert image_of(part).size == (2752, 1536)


def test_shape_of_a_plain_answer(http: httpx.Client) -> None:
    response = http.post(PATH, json=ask(responseModalities=["TEXT", "IMAGE"]))
    answer = response.json()
    assert list(answer) == ["candidates", "usageMetadata", "modelVersion", "responseId"]
    assert answer["modelVersion"] == "gemini-3-pro-image"
    (candidate,) = answer["candidates"]
    assert candidate["finishReason"] == "STOP"
    assert candidate["content"]["role"] == "model"
    text, image = candidate["content"]["parts"]
    assert "a red fox" in text["text"]
    assert image_of(image).size == (1024, 1024)
    for part in (text, image):
        assert base64.b64decode(part["thoughtSignature"], validate=True)
    assert response.headers["content-type"] == "application/json; charset=UTF-8"
    assert response.headers["server-timing"].startswith("gfet4t7; dur=")
    assert int(response.headers["content-length"]) == len(response.content)


def test_usage_blocks_count_as_the_recordings_do(http: httpx.Client) -> None:
    # 174 thought tokens in the recording, 200 here; the rest of the structure is the recorded one.
    usage = http.post(PATH, json=ask("x" * 567 * 4, responseModalities=["IMAGE"])).json()["usageMetadata"]
    assert usage == {
        "promptTokenCount": 567,
        "candidatesTokenCount": 1120,
        "totalTokenCount": 1887,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 567}],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}],
        "thoughtsTokenCount": 200,
    }


@pytest.mark.parametrize(("size", "tokens"), [("1K", 1120), ("2K", 1120), ("4K", 2000)])
def test_output_tokens_by_size(http: httpx.Client, size: str, tokens: int) -> None:
    usage = http.post(PATH, json=ask(imageConfig={"imageSize": size}, responseModalities=["IMAGE"])).json()
    assert usage["usageMetadata"]["candidatesTokensDetails"] == [{"modality": "IMAGE", "tokenCount": tokens}]


@pytest.mark.parametrize(("model", "each"), [("gemini-3-pro-image", 560), ("gemini-2.5-flash-image", 258)])
def test_references_are_billed_and_give_the_shape(google: Any, model: str, each: int) -> None:
    wide = render("a reference", 1600, 900, "png").data
    contents = [types.Part.from_bytes(data=wide, mime_type="image/png")] * 2 + ["make it night"]
    answer = google.models.generate_content(model=model, contents=contents)
    details = {item.modality.value: item.token_count for item in answer.usage_metadata.prompt_tokens_details}
    assert details == {"TEXT": 4, "IMAGE": 2 * each}
    image = next(part.inline_data for part in answer.candidates[0].content.parts if part.inline_data)
    width, height = Image.open(io.BytesIO(image.data)).size
    assert abs(width / height - 16 / 9) < 0.05


def test_candidates_are_as_many_as_asked_and_differ(http: httpx.Client) -> None:
    answer = http.post(PATH, json=ask(candidateCount=3, responseModalities=["IMAGE"])).json()
    images = [candidate["content"]["parts"][0]["inlineData"]["data"] for candidate in answer["candidates"]]
    assert len(set(images)) == 3
    assert answer["usageMetadata"]["candidatesTokenCount"] == 3 * 1120


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/gemini-3-pro-image:generateContent?key=none",
        "/reseller/v1beta/models/gemini-3-pro-image:generateContent",
        "/v1beta1/projects/p/locations/global/publishers/google/models/gemini-3-pro-image:generateContent",
        "/v1beta1/publishers/google/models/gemini-3-pro-image:generateContent",
        "/v1beta/models/gemini-3-pro-image%3AgenerateContent",
    ],
)
def test_every_path_of_the_api(http: httpx.Client, sim: Simulator, path: str) -> None:
    assert http.post(path, json=ask(responseModalities=["IMAGE"])).json()["modelVersion"] == "gemini-3-pro-image"
    assert sim.calls == sim.answered == 1


@pytest.mark.parametrize(
    ("model", "config"),
    [("gemini-2.5-flash", {}), ("gemini-3-pro-image", {"responseModalities": ["TEXT"]})],
)
def test_text_where_no_image_is_asked(http: httpx.Client, model: str, config: dict[str, Any]) -> None:
    answer = http.post(f"/v1beta/models/{model}:generateContent", json=ask(**config)).json()
    (part,) = answer["candidates"][0]["content"]["parts"]
    assert list(part) == ["text"]
    assert [item["modality"] for item in answer["usageMetadata"]["candidatesTokensDetails"]] == ["TEXT"]
    assert "thoughtsTokenCount" not in answer["usageMetadata"]


def test_stream_through_the_sdk_holds_what_the_plain_answer_holds(google: Any) -> None:
    plain = google.models.generate_content(model="gemini-3-pro-image", contents="a red fox")
    wanted = next(part.inline_data.data for part in plain.candidates[0].content.parts if part.inline_data)
    chunks = list(google.models.generate_content_stream(model="gemini-3-pro-image", contents="a red fox"))
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
    assert [part.inline_data.data for part in parts if part.inline_data] == [wanted]
    assert [chunk.candidates[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata == plain.usage_metadata


def test_a_stream_without_sse_is_one_json_array(http: httpx.Client) -> None:
    response = http.post(PATH.replace("generate", "streamGenerate"), json=ask(responseModalities=["TEXT", "IMAGE"]))
    events = response.json()
    assert len(events) == 3
    assert events[-1]["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")  # google-genai's own
def test_the_async_sdk_reads_it_too(google: Any) -> None:
    async def run() -> tuple[Any, list[Any]]:
        answer = await google.aio.models.generate_content(model="gemini-3-pro-image", contents="a red fox")
        stream = await google.aio.models.generate_content_stream(model="gemini-3-pro-image", contents="a red fox")
        streamed = [part.inline_data async for chunk in stream for part in chunk.candidates[0].content.parts]
        await google.aio.aclose()
        return answer, streamed

    answer, streamed = asyncio.run(run())
    assert any(part.inline_data for part in answer.candidates[0].content.parts)
    assert any(streamed)


def test_blocks_alternate_between_prompt_and_image(google: Any, sim: Simulator) -> None:
    sim.script("block", "block")
    prompt = google.models.generate_content(model="gemini-3-pro-image", contents="a fox")
    assert prompt.prompt_feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT
    assert not prompt.candidates
    assert prompt.usage_metadata.total_token_count == 2
    image = google.models.generate_content(model="gemini-3-pro-image", contents="a fox")
    assert image.candidates[0].finish_reason == types.FinishReason.IMAGE_SAFETY
    assert image.usage_metadata.thoughts_token_count == gemini.THOUGHT_TOKENS
    assert sim.answered == 0
    assert sim.billed_usd > 0


@pytest.mark.parametrize("behaviour", ["block", "truncate", "text_only"])
def test_a_stream_can_end_badly_too(google: Any, sim: Simulator, behaviour: str) -> None:
    sim.script(behaviour)
    chunks = list(google.models.generate_content_stream(model="gemini-3-pro-image", contents="a fox"))
    assert not any(
        part.inline_data for chunk in chunks for candidate in chunk.candidates or [] for part in candidate.content.parts
    )
    assert (sim.calls, sim.answered) == (1, 0)


def test_truncation_and_text_only(google: Any, sim: Simulator) -> None:
    sim.script("truncate", "text_only")
    cut = google.models.generate_content(model="gemini-3-pro-image", contents="a fox")
    assert cut.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    text = google.models.generate_content(model="gemini-3-pro-image", contents="a fox")
    assert text.candidates[0].finish_reason == types.FinishReason.STOP
    for answer in (cut, text):
        assert not any(part.inline_data for part in answer.candidates[0].content.parts)
        assert answer.usage_metadata.candidates_token_count
    assert sim.answered == 0


@pytest.mark.parametrize(
    ("behaviour", "code", "status"), [("error", 500, "INTERNAL"), ("rate_limit", 429, "RESOURCE_EXHAUSTED")]
)
def test_errors_in_googles_shape(google: Any, sim: Simulator, behaviour: str, code: int, status: str) -> None:
    sim.script(behaviour)
    with pytest.raises(errors.APIError) as raised:
        google.models.generate_content(model="gemini-3-pro-image", contents="a fox")
    assert (raised.value.code, raised.value.status) == (code, status)


def test_the_wait_of_a_rate_limit_is_named_twice(http: httpx.Client, sim: Simulator) -> None:
    sim.script("rate_limit")
    response = http.post(PATH, json=ask())
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["details"][0]["retryDelay"] == "1s"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"contents": []}',
        b'{"contents": NaN}',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"contents": "a fox"}',
    ],
)
def test_malformed_requests_are_refused_and_counted(http: httpx.Client, sim: Simulator, body: bytes) -> None:
    response = http.post(PATH, content=body)
    assert response.status_code == 400
    assert response.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert (sim.calls, sim.answered, sim.billed_usd) == (1, 0, 0)


@pytest.mark.parametrize("config", [{"aspectRatio": "7:5"}, {"imageSize": "3K"}])
def test_sizes_that_do_not_exist_are_refused(http: httpx.Client, config: dict[str, Any]) -> None:
    assert http.post(PATH, json=ask(imageConfig=config)).status_code == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "contents",
                    "parts",
                    "text",
                    "inlineData",
                    "data",
                    "generationConfig",
                    "imageConfig",
                    "imageSize",
                    "aspectRatio",
                    "mimeType",
                    "imageOutputOptions",
                    "responseModalities",
                    "candidateCount",
                    "systemInstruction",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=30,
)


@settings(max_examples=200, deadline=None)
@given(JSON, JSON, JSON)
def test_no_request_breaks_it(contents: object, parts: object, config: object) -> None:
    call = Call(0, 1, Behaviour.OK, 0.0)
    found = dialects.recognise("http://h/v1/models/gemini-2.5-flash-image:generateContent")
    assert found is not None
    for body in (contents, {"contents": [{"parts": parts}], "generationConfig": config}):
        reply = gemini.answer(found[1], "application/json", json.dumps(body).encode(), call)
        assert reply.status in (200, 400)
        json.loads(b"".join(reply.chunks))
