"""The OpenAI-compatible format, read by openai itself and held against the recorded shapes."""

import asyncio
import base64
import io
import json
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cachelayer import dialects
from cachelayer.dialects.dialect import Recognised
from cachelayer.simulator import Simulator, openai_images
from cachelayer.simulator.behaviour import Behaviour, Call
from cachelayer.simulator.render import render
from cachelayer.simulator.sizes import openai_image_tokens

GENERATIONS = "/v1/images/generations"
REFERENCE = render("a reference", 1024, 1024, "png").data
PORTRAIT = render("a reference", 1024, 1536, "jpeg").data


def decoded(b64: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(b64, validate=True)))
    image.load()
    return image


@pytest.mark.parametrize("format_", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("size", ["1024x1024", "1024x1536", "1536x1024", "1536x864"])
def test_exact_sizes_and_formats_through_the_sdk(oai: Any, size: str | None, format_: str) -> None:
    answer = oai.images.generate(model="gpt-image-2", prompt="a red fox", size=size, output_format=format_)
    image = decoded(answer.data[0].b64_json)
    assert "x".join(map(str, image.size)) == answer.size == size
    assert image.format is not None
    assert image.format.lower() == answer.output_format == format_


def test_shape_of_a_plain_answer(http: httpx.Client, sim: Simulator) -> None:
    body = {"model": "gpt-image-1", "prompt": "a siamese cat", "n": 1, "size": "1024x1024"}
    response = http.post(GENERATIONS, json=body)
    answer = response.json()
    assert list(answer) == ["created", "background", "data", "output_format", "quality", "size", "usage"]
    assert [list(item) for item in answer["data"]] == [["b64_json"]]
    assert (answer["quality"], answer["background"]) == ("high", "opaque")  # as recorded, where none is asked
    assert answer["usage"] == {
        "input_tokens": 4,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 4},
        "output_tokens": 4160,
        "output_tokens_details": {"image_tokens": 4160, "text_tokens": 0},
        "total_tokens": 4164,
    }
    assert int(response.headers["content-length"]) == len(response.content)
    for name in ("x-request-id", "openai-organization", "openai-processing-ms", "x-ratelimit-remaining-requests"):
        assert response.headers[name]
    assert len(response.headers.get_list("set-cookie")) == 2


@pytest.mark.parametrize(
    ("model", "size", "quality", "tokens"),
    [
        ("gpt-image-1", (1024, 1024), "low", 272),
        ("gpt-image-1", (1024, 1536), "medium", 1584),
        ("gpt-image-1.5", (1536, 1024), "high", 6208),
        ("gpt-image-2", (1024, 1024), "high", 7024),
        ("gpt-image-2", (1536, 1024), "high", 5488),
        ("gpt-image-2", (1536, 864), "low", 120),
    ],
)
def test_output_tokens(model: str, size: tuple[int, int], quality: str, tokens: int) -> None:
    assert openai_image_tokens(model, *size, quality) == tokens


def test_n_images_differ_and_are_billed_each(oai: Any) -> None:
    answer = oai.images.generate(model="gpt-image-1", prompt="a red fox", n=3, quality="low")
    assert len({item.b64_json for item in answer.data}) == 3
    assert answer.usage.output_tokens == 3 * 272


def test_a_transparent_background_is_transparent(oai: Any) -> None:
    answer = oai.images.generate(model="gpt-image-1", prompt="a red fox", background="transparent")
    assert answer.background == "transparent"
    corner = decoded(answer.data[0].b64_json).getpixel((0, 0))
    assert isinstance(corner, tuple)
    assert corner[3] == 0


def test_edits_with_several_images_and_a_mask(oai: Any, sim: Simulator) -> None:
    answer = oai.images.edit(model="gpt-image-1", prompt="merge them", image=[REFERENCE, PORTRAIT], quality="low")
    # The recorded edit of a square and a portrait picture was billed 517 image tokens.
    assert answer.usage.input_tokens_details.image_tokens == 517
    masked = oai.images.edit(model="gpt-image-1", prompt="merge them", image=REFERENCE, mask=REFERENCE, n=2)
    assert masked.usage.input_tokens_details.image_tokens == 2 * 194
    assert len(masked.data) == 2
    assert b'name="image[]"' in sim.requests[0].body
    assert b'name="mask"' in sim.requests[1].body


def test_edits_as_json(http: httpx.Client) -> None:
    url = "data:image/png;base64," + base64.b64encode(render("logo", 128, 128, "png").data).decode()
    body = {"model": "gpt-image-2", "prompt": "turn the logo green", "images": [{"image_url": url}], "quality": "low"}
    usage = http.post("/v1/images/edits", json=body | {"size": "1536x864"}).json()["usage"]
    assert usage["input_tokens_details"]["image_tokens"] == 64  # as recorded
    assert usage["output_tokens"] == 120


def test_an_edit_without_an_image_is_refused(http: httpx.Client) -> None:
    response = http.post("/v1/images/edits", json={"prompt": "turn it green"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "image"


def test_azure_names_the_model_in_the_path(sim: Simulator) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=sim.url, api_key="none", api_version="2025-04-01-preview", max_retries=0
    ) as client:
        answer = client.images.generate(model="gpt-image-1-mini", prompt="a red fox", quality="low")
    assert len(answer.data or []) == 1
    assert sim.requests[0].path.startswith("/openai/deployments/gpt-image-1-mini/images/generations?api-version=")
    assert sim.billed_usd == Decimal("0.002182")  # 3 text tokens at $2 and 272 image tokens at $8 per million


def test_stream_of_a_generation(oai: Any) -> None:
    plain = oai.images.generate(model="gpt-image-1", prompt="a red fox", quality="low")
    stream = oai.images.generate(model="gpt-image-1", prompt="a red fox", quality="low", stream=True, partial_images=2)
    *drafts, done = stream
    assert [draft.type for draft in drafts] == ["image_generation.partial_image"] * 2
    assert [draft.partial_image_index for draft in drafts] == [0, 1]
    assert done.type == "image_generation.completed"
    assert done.b64_json == plain.data[0].b64_json
    assert done.b64_json not in {draft.b64_json for draft in drafts}
    assert done.usage.output_tokens == 272 + 2 * 100


def test_stream_of_an_edit(oai: Any) -> None:
    (done,) = oai.images.edit(model="gpt-image-1", prompt="at night", image=REFERENCE, stream=True)
    assert done.type == "image_edit.completed"
    assert decoded(done.b64_json).size == (1024, 1024)
    assert done.usage.total_tokens == 2 + 194 + 4160


def test_the_async_sdk_reads_both(sim: Simulator) -> None:
    async def run() -> tuple[Any, list[Any]]:
        async with openai.AsyncOpenAI(base_url=sim.url + "/v1", api_key="none", max_retries=0) as client:
            answer = await client.images.generate(model="gpt-image-1", prompt="a red fox")
            stream = await client.images.generate(model="gpt-image-1", prompt="a red fox", stream=True)
            return answer, [event async for event in stream]

    answer, events = asyncio.run(run())
    assert events[-1].b64_json == answer.data[0].b64_json
    assert sim.answered == 2


@pytest.mark.parametrize(
    ("behaviour", "error", "code"),
    [
        ("error", openai.InternalServerError, None),
        ("rate_limit", openai.RateLimitError, "rate_limit_exceeded"),
        ("block", openai.BadRequestError, "moderation_blocked"),
    ],
)
def test_errors_in_openais_shape(
    oai: Any, sim: Simulator, behaviour: str, error: type[openai.APIStatusError], code: str | None
) -> None:
    sim.script(behaviour)
    with pytest.raises(error) as raised:
        oai.images.generate(model="gpt-image-1", prompt="a red fox")
    assert raised.value.code == code
    assert raised.value.response.headers["x-request-id"]
    assert (sim.calls, sim.answered, sim.billed_usd) == (1, 0, 0)
    assert ("retry-after" in raised.value.response.headers) == (behaviour == "rate_limit")


def test_answers_that_lack_images(oai: Any, sim: Simulator) -> None:
    sim.script("text_only", "truncate", "truncate")
    assert [item.b64_json for item in oai.images.generate(model="gpt-image-1", prompt="a red fox").data] == [None]
    assert oai.images.generate(model="gpt-image-1", prompt="a red fox").data == []
    two = oai.images.generate(model="gpt-image-1", prompt="a red fox", n=3, quality="low")
    assert (len(two.data), two.usage.output_tokens) == (2, 2 * 272)
    assert sim.answered == 0


@pytest.mark.parametrize("asked", [True, False], ids=["asked for", "scripted"])
def test_an_answer_by_url_leads_to_the_image(http: httpx.Client, sim: Simulator, asked: bool) -> None:
    body = {"model": "gpt-image-1", "prompt": "a red fox"}
    if asked:
        body["response_format"] = "url"
    else:
        sim.script("url")
    (item,) = http.post(GENERATIONS, json=body).json()["data"]
    image = http.get(item["url"])
    assert image.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(image.content)).size == (1024, 1024)
    assert (sim.calls, sim.answered) == (1, 0)
    assert sim.billed_usd > 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[" * 100_000, None),
        (b'{"prompt": "a", "n": NaN}', None),
        (b"{}", "prompt"),
        (b'{"prompt": "a", "n": 11}', "n"),
        (b'{"prompt": "a", "n": "two"}', "n"),
        (b'{"prompt": "a", "size": "huge"}', "size"),
        (b'{"prompt": "a", "size": "9000x9000"}', "size"),
        (b'{"prompt": "a", "quality": "best"}', "quality"),
        (b'{"prompt": "a", "output_format": ["png"]}', "output_format"),
    ],
)
def test_malformed_requests_are_refused_and_counted(
    http: httpx.Client, sim: Simulator, body: bytes, param: str | None
) -> None:
    response = http.post(GENERATIONS, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert (sim.calls, sim.answered, sim.billed_usd) == (1, 0, 0)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n--x--"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nno end'),
        ("text/plain", b"a red fox"),
    ],
)
def test_broken_forms_are_refused(http: httpx.Client, kind: str, body: bytes) -> None:
    assert http.post("/v1/images/edits", content=body, headers={"content-type": kind}).status_code == 400


FIELDS = [
    "model",
    "prompt",
    "n",
    "size",
    "quality",
    "output_format",
    "background",
    "stream",
    "partial_images",
    "response_format",
    "images",
    "image",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["image_url", "url"]), inner),
    max_leaves=8,
)


def seen(edit: bool) -> Recognised:
    found = dialects.recognise(f"http://h/v1/images/{'edits' if edit else 'generations'}")
    assert found is not None
    return found[1]


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.booleans())
def test_no_request_breaks_it(fields: dict[str, object], edit: bool) -> None:
    call = Call(0, 1, Behaviour.OK, 0.0)
    for body in (fields, {"prompt": "a", "size": "64x64"} | fields):
        reply = openai_images.answer(seen(edit), "application/json", json.dumps(body).encode(), call)
        assert reply.status in (200, 400)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_no_form_breaks_it(noise: bytes) -> None:
    call = Call(0, 1, Behaviour.OK, 0.0)
    form = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na\r\n--b\r\n' + noise + b"\r\n--b--"
    for body in (noise, form):
        reply = openai_images.answer(seen(edit=True), "multipart/form-data; boundary=b", body, call)
        assert reply.status in (200, 400)
