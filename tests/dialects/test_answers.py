"""What an answer means: good or why not, what was billed, where its images lie."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachelayer.core.entry import join, split
from cachelayer.core.model import Answer, Asked, Reading, Usage
from cachelayer.dialects import read
from tests.dialects.asks import GEMINI, asked, b64, gemini, generate
from tests.dialects.samples import made

PNG = made("PNG", 32)
WEBP = made("WEBP", 32, lossless=True)
GEMINI_ASKED = asked(gemini())
GEMINI_TWO = asked(gemini({"contents": [], "generationConfig": {"candidateCount": 2}}))
TEXT_ASKED = asked(gemini(url=GEMINI.replace("-image", "")))
OPENAI_ASKED = asked(generate())
OPENAI_TWO = asked(generate({"prompt": "p", "n": 2}))


def answer(body: Any, status: int = 200) -> Answer:
    return Answer(status, (), body if isinstance(body, bytes) else json.dumps(body).encode())


def candidate(*parts: Any, reason: str | None = "STOP", **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"content": {"parts": [*parts], "role": "model"}, **fields}
    return made if reason is None else {**made, "finishReason": reason}


def image(data: bytes = PNG, mime: str = "image/png", **fields: Any) -> dict[str, Any]:
    return {"inlineData": {"mimeType": mime, "data": b64(data)}, **fields}


def candidates(*made: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"candidates": [*made], **fields}


GEMINI_ANSWERS: list[tuple[str, Asked, Any, str | None, int]] = [
    ("an image", GEMINI_ASKED, candidates(candidate(image())), None, 1),
    ("text and images", GEMINI_ASKED, candidates(candidate({"text": "a"}, image(), image())), None, 2),
    ("a thought's draft is not paid for", GEMINI_ASKED, candidates(candidate(image(thought=True), image())), None, 1),
    ("only a draft", GEMINI_ASKED, candidates(candidate(image(thought=True))), "no-image", 0),
    ("only text", GEMINI_ASKED, candidates(candidate({"text": "sorry"})), "no-image", 0),
    ("no parts", GEMINI_ASKED, candidates({"finishReason": "STOP"}), "no-image", 0),
    ("other media", GEMINI_ASKED, candidates(candidate(image(bytes(99), "audio/wav"))), "no-image", 0),
    (
        "an image and an address",
        GEMINI_ASKED,
        candidates(candidate(image(), {"fileData": {"mimeType": "image/png", "fileUri": "https://h/x"}})),
        "image-url",
        1,
    ),
    ("two asked, two given", GEMINI_TWO, candidates(candidate(image()), candidate(image())), None, 2),
    ("two asked, one given", GEMINI_TWO, candidates(candidate(image())), "incomplete", 1),
    ("two in one candidate", GEMINI_TWO, candidates(candidate(image(), image())), "incomplete", 2),
    ("one without image", GEMINI_TWO, candidates(candidate(image()), candidate({"text": "a"})), "incomplete", 1),
    ("prompt blocked", GEMINI_ASKED, {"promptFeedback": {"blockReason": "SAFETY"}}, "blocked", 0),
    *[
        (f"finished by {reason}", GEMINI_ASKED, candidates(candidate(image(), reason=reason)), refusal, 1)
        for reason, refusal in [
            ("SAFETY", "blocked"),
            ("RECITATION", "blocked"),
            ("BLOCKLIST", "blocked"),
            ("PROHIBITED_CONTENT", "blocked"),
            ("SPII", "blocked"),
            ("IMAGE_SAFETY", "blocked"),
            ("IMAGE_PROHIBITED_CONTENT", "blocked"),
            ("IMAGE_RECITATION", "blocked"),
            ("MODEL_ARMOR", "blocked"),
            ("MAX_TOKENS", "truncated"),
            ("NO_IMAGE", "no-image"),
            ("IMAGE_OTHER", "no-image"),
            ("OTHER", "incomplete"),
            ("MALFORMED_FUNCTION_CALL", "incomplete"),
            ("CONTINUATION", "incomplete"),
            ("A_NEW_REASON", "incomplete"),
            (None, None),
        ]
    ],
    ("one of two blocked", GEMINI_TWO, candidates(candidate(image()), {"finishReason": "SAFETY"}), "blocked", 1),
    ("error in a 200", GEMINI_ASKED, candidates(candidate(image()), error={"code": 1}), "incomplete", 1),
    ("no candidates", GEMINI_ASKED, {"candidates": []}, "incomplete", 0),
    ("empty", GEMINI_ASKED, {}, "incomplete", 0),
    (
        "empty data",
        GEMINI_ASKED,
        candidates(candidate({"inlineData": {"mimeType": "image/png", "data": ""}})),
        "incomplete",
        0,
    ),
    (
        "broken data",
        GEMINI_ASKED,
        candidates(candidate({"inlineData": {"mimeType": "image/png", "data": "@"}})),
        "incomplete",
        0,
    ),
    ("no data", GEMINI_ASKED, candidates(candidate({"inlineData": {"mimeType": "image/png"}})), "incomplete", 0),
    ("a list", GEMINI_ASKED, [], "incomplete", 0),
    ("text asked, text given", TEXT_ASKED, candidates(candidate({"text": "a"})), None, 0),
    ("text asked, only thoughts", TEXT_ASKED, candidates(candidate({"text": "a", "thought": True})), "incomplete", 0),
    ("text asked, nothing given", TEXT_ASKED, candidates(candidate()), "incomplete", 0),
    ("text asked, cut off", TEXT_ASKED, candidates(candidate({"text": "a"}, reason="MAX_TOKENS")), "truncated", 0),
]

OPENAI_ANSWERS: list[tuple[str, Asked, Any, str | None, int]] = [
    ("an image", OPENAI_ASKED, {"data": [{"b64_json": b64(PNG)}]}, None, 1),
    ("more than asked", OPENAI_ASKED, {"data": [{"b64_json": b64(PNG)}] * 2}, None, 2),
    ("two asked, two given", OPENAI_TWO, {"data": [{"b64_json": b64(PNG)}, {"b64_json": b64(WEBP)}]}, None, 2),
    ("two asked, one given", OPENAI_TWO, {"data": [{"b64_json": b64(PNG)}]}, "incomplete", 1),
    ("an address", OPENAI_ASKED, {"data": [{"url": "https://h/x.png"}]}, "image-url", 0),
    ("an address beside null", OPENAI_ASKED, {"data": [{"url": "https://h/x.png", "b64_json": None}]}, "image-url", 0),
    ("an address and an image", OPENAI_TWO, {"data": [{"b64_json": b64(PNG)}, {"url": "https://h"}]}, "image-url", 1),
    ("both for one image", OPENAI_ASKED, {"data": [{"b64_json": b64(PNG), "url": "https://h"}]}, None, 1),
    ("nothing", OPENAI_ASKED, {"data": []}, "no-image", 0),
    ("no data", OPENAI_ASKED, {"created": 1}, "no-image", 0),
    ("an empty image", OPENAI_ASKED, {"data": [{"b64_json": ""}]}, "incomplete", 0),
    ("a broken image", OPENAI_ASKED, {"data": [{"b64_json": b64(PNG) + "*"}]}, "incomplete", 0),
    ("one broken of two", OPENAI_ASKED, {"data": [{"b64_json": b64(PNG)}, {"b64_json": "*"}]}, "incomplete", 1),
    ("an error", OPENAI_ASKED, {"error": {"code": "x"}, "data": [{"b64_json": b64(PNG)}]}, "incomplete", 1),
    ("no error", OPENAI_ASKED, {"error": None, "data": [{"b64_json": b64(PNG)}]}, None, 1),
    ("a list", OPENAI_ASKED, [1], "incomplete", 0),
]


@pytest.mark.parametrize(
    ("asking", "body", "refusal", "images"),
    [pytest.param(*rest, id=name) for name, *rest in GEMINI_ANSWERS + OPENAI_ANSWERS],
)
def test_judged(asking: Asked, body: Any, refusal: str | None, images: int) -> None:
    reading = read(asking, answer(body))
    assert (reading.refusal, reading.images) == (refusal, images)
    assert len([span for span in reading.spans if span.image]) in (images, 0)


@pytest.mark.parametrize("asking", [GEMINI_ASKED, OPENAI_ASKED], ids=["gemini", "openai"])
class TestBothDialects:
    @pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":', b"\xff", b"null", b"[" * 100_000])
    def test_what_is_no_whole_json_object(self, asking: Asked, body: bytes) -> None:
        assert read(asking, answer(body)) == Reading("incomplete")
        assert read(asking, answer(body, 502)) == Reading("status-502")

    @pytest.mark.parametrize("cut", [1, 100, 3000])
    def test_cut_off(self, asking: Asked, cut: int) -> None:
        good = candidates(candidate(image())) if asking is GEMINI_ASKED else {"data": [{"b64_json": b64(PNG)}]}
        whole = answer(good)
        assert read(asking, whole).refusal is None
        assert read(asking, Answer(200, (), whole.body[: len(whole.body) - cut])).refusal == "incomplete"

    @pytest.mark.parametrize("status", [201, 204, 400, 429, 500])
    def test_any_other_status(self, asking: Asked, status: int) -> None:
        good = candidates(candidate(image())) if asking is GEMINI_ASKED else {"data": [{"b64_json": b64(PNG)}]}
        assert read(asking, answer(good, status)).refusal == f"status-{status}"

    def test_a_stream_is_not_judged(self, asking: Asked) -> None:
        streamed = (
            asked(gemini(url=GEMINI.replace(":generate", ":streamGenerate") + "?alt=sse"))
            if asking is GEMINI_ASKED
            else asked(generate({"prompt": "p", "stream": True}))
        )
        assert read(streamed, answer(b"data: {}\n\n")) == Reading("stream")
        assert read(streamed, answer({"error": {}}, 429)).refusal == "status-429"


class TestSpans:
    def test_images_and_signatures(self) -> None:
        signature = bytes(2000)
        body = answer(
            candidates(
                candidate(
                    {"text": "x" * 1024 + "!", "thoughtSignature": b64(signature)},
                    image(PNG, thought=True),
                    image(WEBP, "image/webp"),
                ),
                responseId="short",
            )
        )
        spans = read(GEMINI_ASKED, body).spans
        assert [(span.mime, span.image) for span in spans] == [
            ("application/octet-stream", False),
            ("image/png", False),
            ("image/webp", True),
        ]
        assert [base64.b64decode(body.body[span.start : span.end]) for span in spans] == [signature, PNG, WEBP]

    def test_openai_names_the_format_and_the_content_decides(self) -> None:
        body = answer({"data": [{"b64_json": b64(PNG)}, {"b64_json": b64(WEBP)}], "output_format": "webp"})
        spans = read(OPENAI_ASKED, body).spans
        assert [(span.mime, span.image) for span in spans] == [("image/png", True), ("image/webp", True)]

    @pytest.mark.parametrize(
        "spell",
        [
            lambda text: text.replace("/", "\\/"),
            lambda text: text.replace("+", "-").replace("/", "_"),
            lambda text: text.rstrip("="),
            lambda text: text[:-3] + "R==",
            lambda _: b64(made("PNG", 8)),
        ],
        ids=["escaped slashes", "URL-safe", "unpadded", "unused bits", "short"],
    )
    def test_what_would_not_come_back_byte_for_byte_stays_text(self, spell: Any) -> None:
        data = PNG + bytes([0xFB, 0xEF, 0xFF]) * 700
        data += b"A" * (1 + -len(data) % 3)
        body = answer(b'{"data":[{"b64_json":"%s"}]}' % spell(b64(data)).encode())
        reading = read(OPENAI_ASKED, body)
        assert (reading.refusal, reading.images, reading.spans) == (None, 1, ())

    def test_an_image_behind_its_own_address(self) -> None:
        body = answer({"data": [{"b64_json": b64(PNG), "preview": "data:image/webp;base64," + b64(WEBP)}]})
        spans = read(OPENAI_ASKED, body).spans
        assert [(span.mime, span.image) for span in spans] == [
            ("image/png", True),
            ("image/webp", False),
        ]
        assert base64.b64decode(body.body[spans[1].start : spans[1].end]) == WEBP

    @given(
        st.lists(
            st.one_of(
                st.binary(min_size=700, max_size=2500).map(b64),
                st.binary(min_size=700, max_size=1200).map(lambda data: b64(data).replace("/", "\\u002f")),
                st.text(max_size=50),
            ),
            max_size=5,
        ),
        st.booleans(),
    )
    def test_split_and_join_give_the_answer_back(self, texts: list[str], ascii_only: bool) -> None:
        document = {"data": [{"b64_json": text} for text in texts], "pad": "x " * 9000, "keys": {t: t for t in texts}}
        body = answer(json.dumps(document, ensure_ascii=ascii_only).encode())
        reading = read(OPENAI_ASKED, body)
        template, blobs = split(body, reading)
        assert join(template, blobs) == body.body
        ends = [0] + [span.end for span in reading.spans]
        assert all(before < span.start for before, span in zip(ends, reading.spans, strict=False))


def usage(asking: Asked, body: Any, status: int = 200) -> Usage | None:
    return read(asking, answer(body, status)).usage


def details(**tokens: int) -> list[dict[str, Any]]:
    return [{"modality": name, "tokenCount": count} for name, count in tokens.items()]


GEMINI_USAGE: list[tuple[str, dict[str, Any], Usage]] = [
    (
        "the article's case",
        {
            "promptTokenCount": 567,
            "candidatesTokenCount": 1120,
            "thoughtsTokenCount": 200,
            "promptTokensDetails": details(TEXT=7, IMAGE=560),
            "candidatesTokensDetails": details(IMAGE=1120),
            "serviceTier": "STANDARD",
        },
        Usage(
            text_in=7, image_in=560, text_out=200, image_out=1120, total_in=567, total_out=1320, detailed=True,
            tier="standard",
        ),
    ),
    (
        "details that do not add up",
        {
            "promptTokenCount": 14,
            "candidatesTokenCount": 1283,
            "thoughtsTokenCount": 174,
            "promptTokensDetails": details(TEXT=14),
            "candidatesTokensDetails": details(IMAGE=1120),
        },
        Usage(text_in=14, image_in=0, image_out=1120, total_in=14, total_out=1457, detailed=True),
    ),
    (
        "no details",
        {"promptTokenCount": 14, "candidatesTokenCount": 1283},
        Usage(total_in=14, total_out=1283),
    ),
    (
        "details that leave something open",
        {
            "promptTokenCount": 14,
            "candidatesTokenCount": 1283,
            "promptTokensDetails": details(TEXT=4),
            "candidatesTokensDetails": details(TEXT=163),
        },
        Usage(text_in=4, total_in=14, text_out=163, total_out=1283),
    ),
    (
        "more image than there is",
        {"promptTokenCount": 1, "candidatesTokenCount": 9, "candidatesTokensDetails": details(IMAGE=10)},
        Usage(total_in=1, total_out=9, overfull=True),
    ),
    (
        "text only, cached and tool tokens",
        {
            "promptTokenCount": 100,
            "toolUsePromptTokenCount": 5,
            "cachedContentTokenCount": 80,
            "candidatesTokenCount": 9,
            "promptTokensDetails": details(TEXT=60, IMAGE=40),
            "candidatesTokensDetails": details(TEXT=9),
            "trafficType": "ON_DEMAND_FLEX",
        },
        Usage(
            text_in=60, image_in=40, cached_in=80, text_out=9, image_out=0, total_in=105, total_out=9, detailed=True,
            tier="on_demand_flex",
        ),
    ),
    ("nonsense", {"promptTokenCount": True, "candidatesTokenCount": -1, "candidatesTokensDetails": {}}, Usage()),
]  # fmt: skip


@pytest.mark.parametrize(("block", "expected"), [pytest.param(*rest, id=name) for name, *rest in GEMINI_USAGE])
def test_gemini_usage(block: dict[str, Any], expected: Usage) -> None:
    assert usage(GEMINI_ASKED, candidates(candidate(image()), usageMetadata=block)) == expected


OPENAI_USAGE: list[tuple[str, dict[str, Any], Usage]] = [
    (
        "detailed",
        {
            "usage": {
                "input_tokens": 76,
                "input_tokens_details": {"image_tokens": 64, "text_tokens": 12, "cached_tokens": 10},
                "output_tokens": 125,
                "output_tokens_details": {"image_tokens": 120, "text_tokens": 5},
                "service_tier": "Flex",
            }
        },
        Usage(
            text_in=12,
            image_in=64,
            cached_in=10,
            text_out=5,
            image_out=120,
            total_in=76,
            total_out=125,
            detailed=True,
            tier="flex",
        ),
    ),
    (
        "no output details",
        {
            "usage": {
                "input_tokens": 573,
                "input_tokens_details": {"image_tokens": 517, "text_tokens": 56},
                "output_tokens": 4160,
            },
            "service_tier": "default",
        },
        Usage(text_in=56, image_in=517, total_in=573, total_out=4160, tier="default"),
    ),
    ("another provider's figures", {"usage": {"cost_in_usd_ticks": 7}}, Usage()),
    (
        "nonsense",
        {"usage": {"input_tokens": 1, "input_tokens_details": {"image_tokens": 2}}},
        Usage(total_in=1, overfull=True),
    ),
]


@pytest.mark.parametrize(("body", "expected"), [pytest.param(*rest, id=name) for name, *rest in OPENAI_USAGE])
def test_openai_usage(body: dict[str, Any], expected: Usage) -> None:
    assert usage(OPENAI_ASKED, {"data": [{"b64_json": b64(PNG)}], **body}) == expected


def test_usage_of_an_answer_that_is_not_good() -> None:
    block = {"usageMetadata": {"promptTokenCount": 3}}
    assert usage(GEMINI_ASKED, {"promptFeedback": {"blockReason": "SAFETY"}, **block}) == Usage(total_in=3)
    assert usage(GEMINI_ASKED, {"error": {}, **block}, 429) == Usage(total_in=3)
    assert usage(OPENAI_ASKED, {"error": {}, "usage": {"input_tokens": 4}}, 400) == Usage(total_in=4)
    assert usage(OPENAI_ASKED, {"error": {}}, 400) is None


def test_size_and_quality_as_answered() -> None:
    reading = read(OPENAI_ASKED, answer({"data": [{"b64_json": b64(PNG)}], "size": "1024x1536", "quality": "low"}))
    assert (reading.size, reading.quality) == ("1024x1536", "low")
