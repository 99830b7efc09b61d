"""Recorded exchanges: every one of our dialects is keyed, and its answer judged as the recording says.

The small set is in tests/data/wire; the whole one beside the repository (marked ``shared``).
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from cachelayer.core.entry import join, split
from cachelayer.core.model import Answer, Asked, KeyRules, Request, Usage
from cachelayer.dialects import ask, read
from tests.dialects.asks import asked, gemini, generate
from tests.wire import HERE, SHARED, Recorded, exchanges, kind

BARE = {
    "generate-image-with-a-prompt-1.json": (gemini, None),
    "image-edit-multiple-1.json": (generate, None),
    "openai-image.json": (generate, "not-an-image"),  # its images were cut to 80 bytes by those who wrote it down
    "unary-failure-prompt-blocked-safety.json": (gemini, "blocked"),
    "unary-failure-quota-exceeded.json": (gemini, "incomplete"),
    "gpt-image-response-format-error.json": (generate, "incomplete"),
}
"""Response bodies without their exchange: what was asked, and the verdict. Others are of formats not read yet."""


def sets() -> list[object]:
    return [pytest.param(HERE, id="here"), pytest.param(SHARED, id="shared", marks=pytest.mark.shared)]


@pytest.fixture(params=sets())
def recordings(request: pytest.FixtureRequest) -> list[Recorded]:
    root: Path = request.param
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    return exchanges(root)


def request_of(recorded: Recorded) -> Request:
    assert recorded.method is not None
    assert recorded.url is not None
    return Request(recorded.method, recorded.url, recorded.request_headers, recorded.request_body or b"")


def answer_of(recorded: Recorded) -> Answer:
    return Answer(recorded.status or 200, recorded.response_headers, recorded.response_body)


def verdict(recorded: Recorded, got: Asked) -> str | None:
    """What the recording itself says, read in another way than the dialects do."""
    if recorded.status not in (None, 200):
        return f"status-{recorded.status}"
    text = recorded.response_body.decode("utf-8", "replace")
    document = json.loads(text)
    if "blockReason" in text:
        return "blocked"
    if recorded.inline_images or got.operation == "text":
        return None
    return "image-url" if any("url" in item for item in document.get("data", ())) else "no-image"


def test_every_exchange_is_keyed_and_judged(recordings: list[Recorded]) -> None:
    seen = 0
    for recorded in recordings:
        if recorded.method is None:
            continue
        got = ask(request_of(recorded), KeyRules())
        assert isinstance(got, Asked) == (kind(recorded) is not None), recorded.name
        if not isinstance(got, Asked):
            continue
        seen += 1
        assert got.dialect == kind(recorded)
        reading = read(got, answer_of(recorded))
        assert reading.refusal == verdict(recorded, got), recorded.name
        if recorded.images_out:
            assert reading.images == len(recorded.images_out), recorded.name
        if recorded.images_in:
            assert got.references == len(recorded.images_in), recorded.name
        again = ask(request_of(recorded), KeyRules())
        assert again == got
    assert seen > 5


def test_spans_hold_the_recorded_images_byte_for_byte(recordings: list[Recorded]) -> None:
    checked = 0
    for recorded in recordings:
        if recorded.method is None or kind(recorded) is None or recorded.status not in (None, 200):
            continue
        answer = answer_of(recorded)
        reading = read(asked(request_of(recorded)), answer)
        images = [base64.b64decode(answer.body[span.start : span.end]) for span in reading.spans if span.image]
        recorded_images = [picture.sha256 for picture in recorded.images_out]
        if recorded_images and images:
            assert [hashlib.sha256(image).hexdigest()[:16] for image in images] == recorded_images, recorded.name
            checked += 1
        template, blobs = split(answer, reading)
        assert join(template, blobs) == answer.body
    assert checked


def test_bare_answers(recordings: list[Recorded]) -> None:
    judged = {
        recorded.file: (read(asked(BARE[name][0]()), Answer(200, (), recorded.response_body)).refusal, BARE[name][1])
        for recorded in recordings
        if recorded.method is None and (name := recorded.file.rpartition("__")[2]) in BARE
    }
    assert judged
    assert {file: refusal for file, (refusal, _) in judged.items()} == {
        file: want for file, (_, want) in judged.items()
    }


@pytest.mark.shared
def test_recorded_usage() -> None:
    """The figures that bills are made of, against those written down beside the recordings."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    found = {
        (recorded.file, recorded.index): read(asked(request_of(recorded)), answer_of(recorded)).usage
        for recorded in exchanges(SHARED)
        if recorded.method is not None and kind(recorded) is not None
    }
    google = "test_google_image_generation_with_text.yaml"
    assert found[google, 0] == Usage(
        text_in=14, image_in=0, text_out=None, image_out=1120, total_in=14, total_out=1457, detailed=True
    )
    checked = 0
    for line in (SHARED.parent / "usage" / "recorded_usage.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        usage = found.get((row["file"], row["i"]))
        block = row["usage"].get("usageMetadata") or row["usage"].get("usage") or {}
        total_in = block.get("promptTokenCount", block.get("input_tokens"))
        if usage is None or total_in is None:
            continue
        total_out = block.get(
            "output_tokens", block.get("candidatesTokenCount", 0) + block.get("thoughtsTokenCount", 0)
        )
        assert (usage.total_in, usage.total_out) == (total_in, total_out), row["file"]
        assert usage.tier == (block.get("serviceTier") or block.get("trafficType") or "").lower() or usage.tier is None
        if usage.detailed and usage.text_out is not None:
            assert usage.text_out + (usage.image_out or 0) == total_out
        checked += 1
    assert checked >= 10
