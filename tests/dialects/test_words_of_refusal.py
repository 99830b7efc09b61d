"""What providers and gateways write beside an image that was withheld, blurred or not finished."""

from __future__ import annotations

import json
from typing import Any

import pybase64
import pytest

from cachelayer.core.model import Answer
from cachelayer.core.reasons import Reason
from cachelayer.dialects import read
from cachelayer.dialects.wire.verdict import of_fields, of_finish
from tests.dialects.samples import made
from tests.dialects.test_named_pool_defaults import ask

IMAGE = pybase64.b64encode(made("PNG")).decode()

REFUSED: list[dict[str, Any]] = [
    {"incomplete_details": {"reason": "content_filter"}},
    {"finish_details": {"type": "content_filter"}},
    {"error_code": "moderation_blocked"},
    {"code": "content_policy_violation"},
    {"error_message": "content policy violation"},
    {"raiMediaFilteredReasons": ["x"]},
    {"rai_media_filtered_count": 1},
    {"block_reasons": ["SAFETY"]},
    {"refusal_reason": "minors"},
    {"safety_violations": ["sexual"]},
    {"safety_result": "unsafe"},
    {"has_nsfw_concepts": [True]},
    {"is_nsfw": True},
    {"content_filtered": True},
    {"moderation_blocked": True},
    {"blocked": 1},
    {"filtered": "yes"},
    {"status": "not safe"},
    {"finishMessage": "The image was blocked"},
]
UNFINISHED: list[dict[str, Any]] = [
    {"success": False},
    {"status": "not completed"},
    *({"status": status} for status in ("processing", "running", "partial", "timeout", "aborted", "in_progress")),
]
HARMLESS: list[dict[str, Any]] = [
    {"incomplete_details": None},
    {"finish_details": {"type": "stop"}},
    {"error_code": 0, "error_message": ""},
    {"code": 200, "success": True},
    {"raiMediaFilteredReasons": [], "rai_media_filtered_count": 0},
    {"safety_result": "safe"},
    {"has_nsfw_concepts": [False]},
    {"status": "not flagged"},
    {"status": "completed"},
    {"finishMessage": "Not blocked."},
]


def judged(beside: dict[str, Any], where: str) -> str | None:
    item: dict[str, Any] = {"b64_json": IMAGE} | (beside if where == "item" else {})
    document = {"created": 1, "data": [item]} | (beside if where == "answer" else {})
    answer = Answer(200, (("content-type", "application/json"),), json.dumps(document).encode())
    return read(ask("api.openai.com"), answer).refusal


@pytest.mark.parametrize("where", ["item", "answer"])
@pytest.mark.parametrize(
    ("beside", "refusal"),
    [
        *((beside, Reason.BLOCKED) for beside in REFUSED),
        *((beside, Reason.INCOMPLETE) for beside in UNFINISHED),
        *((beside, None) for beside in HARMLESS),
    ],
    ids=str,
)
def test_beside_a_whole_image(beside: dict[str, Any], refusal: Reason | None, where: str) -> None:
    assert judged(beside, where) == refusal


@pytest.mark.parametrize("reason", [1, "stop", "eos_token", "stop_sequence", "finished"])
def test_an_answer_that_has_ended(reason: Any) -> None:
    assert of_finish(reason) is None


def test_a_name_that_nobody_knows_says_nothing() -> None:
    assert list(of_fields({"colour": "refused", "id": "blocked"})) == []
