"""Answers as providers and gateways really spell them: judged by what they hold, kept byte for byte."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachelayer.core.model import Asked
from tests.dialects.answers import (
    GEMINI_ASKED,
    HALF,
    JPEG,
    OPENAI_ASKED,
    OPENAI_TWO,
    PNG,
    TEXT_ASKED,
    google,
    judged,
    lines,
    openai,
    part,
    snake,
    verdict,
)
from tests.dialects.asks import b64, data_url
from tests.dialects.samples import SAMPLES, made

SPELLINGS = {
    "plain": b64(PNG),
    "data url": data_url(PNG),
    "data url of another type": data_url(PNG, "image/jpeg"),
    "data url without a type": "data:;base64," + b64(PNG),
    "data url with parameters": "data:image/png;charset=utf-8;base64," + b64(PNG),
    "data url in capitals": "DATA:IMAGE/PNG;BASE64," + b64(PNG),
    "data url, percent-encoded": "data:image/png;base64," + quote(b64(PNG)),
    "data url without base64": "data:image/png," + quote(PNG),
    "lines": lines(b64(PNG), "\n"),
    "lines of mail": lines(b64(PNG), "\r\n") + "\r\n",
    "spaces": "  " + lines(b64(PNG), " ", 4) + " ",
    "data url in lines": "data:image/png;base64,\n" + lines(b64(PNG), "\n"),
    "url-safe": b64(PNG).replace("+", "-").replace("/", "_"),
    "unpadded": b64(PNG + b"\0" * (1 + -len(PNG) % 3)).rstrip("="),
    "url-safe and unpadded": b64(PNG + b"\0" * (1 + -len(PNG) % 3)).rstrip("=").replace("+", "-").replace("/", "_"),
    "padded too much": b64(PNG).rstrip("=") + "====",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
class TestSpellings:
    def test_gemini(self, spelling: str) -> None:
        reading = judged(GEMINI_ASKED, google(part(SPELLINGS[spelling])))
        assert (reading.refusal, reading.images) == (None, 1)

    def test_openai(self, spelling: str) -> None:
        text = SPELLINGS[spelling]
        for name in ("b64_json", "url") if text.lower().startswith("data:") else ("b64_json",):
            reading = judged(OPENAI_ASKED, {"data": [{name: text}]})
            assert (reading.refusal, reading.images) == (None, 1)
            assert all(span.mime == "image/png" for span in reading.spans if span.image)

    def test_half_of_it_is_not_kept_in_any(self, spelling: str) -> None:
        text = SPELLINGS[spelling]
        cut = text[: len(text) // 2 // 4 * 4 + text.find(",") + 1]
        refusal, images = verdict(OPENAI_ASKED, openai(cut))
        assert (refusal in ("not-an-image", "incomplete"), images) == (True, 0)

    def test_json_may_escape_it(self, spelling: str) -> None:
        body = json.dumps(openai(SPELLINGS[spelling])).replace("/", "\\/").encode()
        assert verdict(OPENAI_ASKED, body) == (None, 1)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_family_whatever_the_type_says(name: str) -> None:
    sample = SAMPLES[name]
    for mime in (
        sample.type,
        "image/png",
        "IMAGE/*",
        None,
        "",
        "application/octet-stream",
        7,
        "text/plain",
        "audio/wav",
    ):
        assert verdict(GEMINI_ASKED, google(part(b64(sample.data), mime))) == (None, 1)
        assert verdict(GEMINI_ASKED, snake(google(part(b64(sample.data), mime)))) == (None, 1)
    assert verdict(OPENAI_ASKED, openai(b64(sample.data), output_format="jpeg")) == (None, 1)
    cut = sample.data[: sample.end - 1]
    assert verdict(OPENAI_ASKED, openai(b64(cut))) == ("not-an-image", 0)
    assert verdict(GEMINI_ASKED, google(part(b64(cut)))) == ("not-an-image", 0)


def test_svg_in_a_url_as_it_is() -> None:
    for text in ("<svg xmlns='http://www.w3.org/2000/svg'><text>é</text></svg>", "<svg%20a='%C3%A9'/>"):
        assert verdict(OPENAI_ASKED, {"data": [{"url": "data:image/svg+xml;utf8," + text}]}) == (None, 1)
        assert verdict(OPENAI_ASKED, {"data": [{"url": "data:image/svg+xml," + text[:-1]}]}) == ("not-an-image", 0)


def test_a_span_has_the_type_of_its_content() -> None:
    reading = judged(GEMINI_ASKED, google(part(b64(PNG), "image/jpeg"), part(b64(JPEG), None)))
    assert [(span.mime, span.image) for span in reading.spans] == [("image/png", True), ("image/jpeg", True)]


NO_IMAGES = {
    "an error page": b"<html><body><h1>502 Bad Gateway</h1></body></html>",
    "a JSON error": b'{"error": {"message": "upstream timed out"}}',
    "one byte": b"\x89",
    "text": b"sorry, I cannot draw that",
    "the first half of an image": HALF,
    "all but the last byte": PNG[:-1],
    "a thumbnail of what is missing": SAMPLES["jpeg with a thumbnail"].data[:900],
    "zeros": bytes(40_000),
    "an entity bomb": b'<!DOCTYPE svg [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><svg>&b;</svg>',
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_what_comes_as_an_image_and_is_none(name: str) -> None:
    data = NO_IMAGES[name]
    for spelled in (b64(data), data_url(data), lines(b64(data), "\n")):
        assert verdict(OPENAI_ASKED, openai(spelled)) == ("not-an-image", 0)
        assert verdict(GEMINI_ASKED, google(part(spelled))) == ("not-an-image", 0)
        assert verdict(GEMINI_ASKED, google(part(spelled, None))) == ("not-an-image", 0)
    assert verdict(OPENAI_ASKED, {"data": [{"url": data_url(data)}]}) == ("not-an-image", 0)
    # Beside whole ones it spoils the answer; they count all the same, since they were paid for.
    assert verdict(OPENAI_TWO, openai(b64(PNG), b64(data))) == ("not-an-image", 1)
    assert verdict(GEMINI_ASKED, google(part(), part(b64(data)), part(b64(JPEG)))) == ("not-an-image", 2)


def test_other_media_beside_an_image() -> None:
    wav = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(2_000)
    assert verdict(GEMINI_ASKED, google(part(), part(b64(wav), "audio/wav"))) == (None, 1)
    assert verdict(GEMINI_ASKED, google(part(b64(wav), "audio/wav"))) == ("no-image", 0)
    assert verdict(GEMINI_ASKED, google(part(b64(HALF), "image/png", thought=True), part())) == (None, 1)


class TestFieldsOfGemini:
    def test_snake_case(self) -> None:
        assert verdict(GEMINI_ASKED, snake(google(part()))) == (None, 1)
        assert verdict(GEMINI_ASKED, snake(google(part(), reason="MAX_TOKENS"))) == ("truncated", 1)
        assert verdict(GEMINI_ASKED, snake({"promptFeedback": {"blockReason": "SAFETY"}})) == ("blocked", 0)
        assert verdict(GEMINI_ASKED, {"prompt_feedback": {"block_reason": "OTHER"}}) == ("blocked", 0)
        assert verdict(GEMINI_ASKED, snake(google({"fileData": {"fileUri": "https://h/x.png"}}))) == ("image-url", 0)

    def test_null_in_one_spelling_is_absent(self) -> None:
        both = {"inline_data": None, **part()}
        assert verdict(GEMINI_ASKED, google(both, finish_reason=None)) == (None, 1)

    @pytest.mark.parametrize("nothing", [None, "", [], {}])
    def test_one_spelling_that_says_nothing_hides_no_other(self, nothing: Any) -> None:
        hidden = {
            "inlineData": nothing,
            "inline_data": {"mimeType": nothing, "mime_type": "image/png", "data": b64(PNG)},
        }
        usage = {"usageMetadata": nothing, "usage_metadata": {"candidatesTokenCount": 1120}}
        reading = judged(GEMINI_ASKED, google(hidden, reason=nothing or "", finish_reason="STOP") | usage)
        assert (reading.refusal, reading.images) == (None, 1)
        assert reading.usage is not None
        assert reading.usage.total_out == 1120

    @pytest.mark.parametrize(
        ("reason", "refusal"),
        [
            ("stop", None),
            ("Stop", None),
            ("FINISH_REASON_STOP", None),
            ("FINISH_REASON_UNSPECIFIED", None),
            ("", None),
            (None, None),
            ("max_tokens", "truncated"),
            ("length", "truncated"),
            ("safety", "blocked"),
            ("image_safety", "blocked"),
            ("content_filter", "blocked"),
            ("contentFilter", "blocked"),
            ("no_image", "no-image"),
            ("other", "incomplete"),
            ("something_new", "incomplete"),
            (3, "incomplete"),
        ],
    )
    def test_finish_reasons(self, reason: Any, refusal: str | None) -> None:
        assert verdict(GEMINI_ASKED, google(part(), reason=reason)) == (refusal, 1)
        assert verdict(GEMINI_ASKED, snake(google(part(), reason=reason))) == (refusal, 1)

    def test_without_a_finish_reason_only_a_whole_image_is_whole(self) -> None:
        assert verdict(GEMINI_ASKED, google(part(b64(HALF)), reason=None)) == ("not-an-image", 0)
        assert verdict(GEMINI_ASKED, google({"text": "I will"}, reason=None)) == ("incomplete", 0)
        assert verdict(TEXT_ASKED, google({"text": "I will"}, reason=None)) == ("incomplete", 0)
        assert verdict(TEXT_ASKED, google({"text": "I have"})) == (None, 0)
        assert verdict(TEXT_ASKED, snake(google({"text": "I have"}, reason="stop"))) == (None, 0)


class TestBodies:
    @pytest.mark.parametrize("asking", [GEMINI_ASKED, OPENAI_ASKED], ids=["gemini", "openai"])
    @pytest.mark.parametrize("around", [(b"\xef\xbb\xbf", b""), (b"\n\n  ", b"\r\n"), (b"\xef\xbb\xbf\n", b" ")])
    def test_around_the_document(self, asking: Asked, around: tuple[bytes, bytes]) -> None:
        good = google(part()) if asking is GEMINI_ASKED else openai(b64(PNG))
        reading = judged(asking, around[0] + json.dumps(good).encode() + around[1])
        assert (reading.refusal, reading.images, len(reading.spans)) == (None, 1, 1)

    def test_what_python_lets_pass(self) -> None:
        body = openai(b64(PNG), score=float("nan"), limit=float("inf"), far=1)
        text = json.dumps(body).replace('"far": 1', '"far": 1e999, "revised_prompt": "cut in an emoji \\ud83d"')
        assert verdict(OPENAI_ASKED, text.encode()) == (None, 1)

    def test_of_a_name_that_repeats_the_last_counts(self) -> None:
        """As it does for the parsers of all SDKs: what is judged is what a client reads."""
        whole, none = json.dumps([{"b64_json": b64(PNG)}]), json.dumps([{"b64_json": ""}])
        assert verdict(OPENAI_ASKED, f'{{"data": {none}, "data": {whole}}}'.encode()) == (None, 1)
        assert verdict(OPENAI_ASKED, f'{{"data": {whole}, "data": {none}}}'.encode()) == ("incomplete", 0)
        assert verdict(OPENAI_ASKED, f'{{"created": 1, "created": 2, "data": {whole}}}'.encode()) == (None, 1)
        twice = json.dumps(google(part(), finish_reason=1)).replace("finish_reason", "finishReason")
        assert verdict(GEMINI_ASKED, twice.replace("1}", '"STOP"}').encode()) == (None, 1)
        assert verdict(GEMINI_ASKED, twice.replace("1}", '"SAFETY"}').encode()) == ("blocked", 1)

    def test_depth_does_not_exhaust_the_stack(self) -> None:
        for name in ("error", "moderation", "refusal", "unknown"):
            deep = '{"safety":' * 300 + "null" + "}" * 300
            text = json.dumps(openai(b64(PNG), **{name: 0})).replace(f'"{name}": 0', f'"{name}": {deep}')
            assert judged(OPENAI_ASKED, text.encode()).images == 1

    def test_a_name_that_cannot_be_written_down_is_none(self) -> None:
        text = json.dumps(openai(b64(PNG), model=1)).replace('"model": 1', '"model": "\\ud83d", "size": "\\ud83d"')
        reading = judged(OPENAI_ASKED, text.encode())
        assert (reading.model, reading.size) == (None, None)


class TestLinks:
    @pytest.mark.parametrize("address", ["https://h/x.png", "HTTP://h/x", "/files/x.png", "gs://b/x"])
    def test_a_link_is_no_image(self, address: str) -> None:
        assert verdict(OPENAI_ASKED, {"data": [{"url": address}]}) == ("image-url", 0)
        assert verdict(OPENAI_ASKED, {"data": [{"url": address, "b64_json": ""}]}) == ("image-url", 0)
        assert verdict(OPENAI_ASKED, {"data": [{"url": address, "b64_json": b64(PNG)}]}) == (None, 1)
        assert verdict(OPENAI_ASKED, {"data": [{"url": address, "b64_json": b64(HALF)}]}) == ("not-an-image", 0)

    def test_a_link_in_the_place_of_bytes(self) -> None:
        assert verdict(OPENAI_ASKED, openai("https://h/x.png")) == ("image-url", 0)

    @pytest.mark.parametrize("data", [SAMPLES["png of one pixel"].data, SAMPLES["svg"].data, made("JPEG", 8)])
    def test_bytes_in_the_place_of_a_link(self, data: bytes) -> None:
        for text in (b64(data), data_url(data), lines(b64(data), "\n"), b64(data).rstrip("=")):
            assert len(text) < 1_024
            assert verdict(OPENAI_ASKED, {"data": [{"url": text}]}) == (None, 1)
        assert verdict(OPENAI_ASKED, {"data": [{"url": b64(data[:-9])}]}) == ("not-an-image", 0)
        for relative in ("abcd", b64(b"files/x.png"), "images/2026/11/x.png"):
            assert verdict(OPENAI_ASKED, {"data": [{"url": relative}]}) == ("image-url", 0)

    def test_a_link_beside_half_an_image(self) -> None:
        body = {"data": [{"url": "https://h/x.png"}, {"b64_json": b64(HALF)}]}
        assert verdict(OPENAI_TWO, body) == ("not-an-image", 0)


FIELDS = [
    *("data", "b64_json", "url", "error", "status", "finish_reason", "candidates", "content", "parts", "mimeType"),
    *("inlineData", "inline_data", "thought", "finishReason", "safetyRatings", "blocked", "usage", "file_data", "cost"),
    *("usageMetadata", "promptTokensDetails", "modality", "tokenCount", "prompt_tokens_details", "model"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.sampled_from([b64(JPEG), b64(HALF), "STOP"]),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            below,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["data", "candidates", "error", "usage", "usageMetadata", "status"]), VALUES))
def test_any_answer_is_judged_and_given_back(body: dict[str, Any]) -> None:
    for asking in (GEMINI_ASKED, TEXT_ASKED, OPENAI_ASKED):
        reading = judged(asking, body)
        assert reading.images >= 0
        if reading.refusal is None and asking is not TEXT_ASKED:
            assert reading.images >= 1
