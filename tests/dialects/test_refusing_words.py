"""What an answer says of itself beside its images: what is a refusal, and what says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dialects.answers import (
    GEMINI_ASKED,
    JPEG,
    OPENAI_ASKED,
    OPENAI_TWO,
    PNG,
    google,
    openai,
    part,
    verdict,
)
from tests.dialects.asks import b64


class TestWhatSaysNothing:
    @pytest.mark.parametrize("nothing", [None, {}, [], "", " ", False, 0, {"message": None, "code": 0}, [{}]])
    def test_an_error_that_says_nothing_is_none(self, nothing: Any) -> None:
        assert verdict(OPENAI_ASKED, openai(b64(PNG), error=nothing)) == (None, 1)
        assert verdict(OPENAI_ASKED, {"data": [{"b64_json": b64(PNG), "error": nothing, "refusal": nothing}]}) == (
            None,
            1,
        )
        assert verdict(GEMINI_ASKED, {"error": nothing, **google(part())}) == (None, 1)

    @pytest.mark.parametrize("something", ["x", True, 500, {"code": 500}, [{"message": "no"}]])
    def test_any_other_is_one(self, something: Any) -> None:
        assert verdict(OPENAI_ASKED, openai(b64(PNG), error=something)) == ("incomplete", 1)
        assert verdict(OPENAI_ASKED, {"data": [{"b64_json": b64(PNG), "error": something}]}) == ("incomplete", 1)
        assert verdict(GEMINI_ASKED, {"error": something, **google(part())}) == ("incomplete", 1)
        assert verdict(GEMINI_ASKED, google(part(), error=something)) == ("incomplete", 1)

    def test_what_azure_says_of_a_good_answer(self) -> None:
        clean = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
        item = {"b64_json": b64(PNG), "content_filter_results": clean, "revised_prompt": "blocked, filtered, refused"}
        prompt = {**clean, "jailbreak": {"detected": False, "filtered": False}}
        assert verdict(OPENAI_ASKED, {"data": [{**item, "prompt_filter_results": prompt}]}) == (None, 1)

    @pytest.mark.parametrize(
        "fields",
        [
            {"status": "completed"},
            {"status": "succeeded", "moderation": "low"},
            {"moderation": "auto"},
            {"finish_reason": "SUCCESS"},
            {"moderation": {"flagged": False, "status": "not_flagged"}},
            {"safety_status": "safety_passed"},
            {"safety_identifier": "user-flagged-7"},
            {"model": "filtered-and-blocked"},
            {"blocked": False, "filtered": "false"},
            {"respect_moderation": True},
        ],
    )
    def test_other_fields_of_good_answers(self, fields: dict[str, Any]) -> None:
        assert verdict(OPENAI_ASKED, {"data": [{"b64_json": b64(PNG), **fields}]}) == (None, 1)
        assert verdict(OPENAI_ASKED, openai(b64(PNG), **fields)) == (None, 1)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"finish_reason": "content_filter"}, "blocked"),
        ({"finishReason": "CONTENT_FILTERED"}, "blocked"),
        ({"finish_reason": "refusal"}, "blocked"),
        ({"finish_reason": "length"}, "truncated"),
        ({"finish_reason": "ERROR"}, "incomplete"),
        ({"error": {"code": "moderation_blocked", "message": "x"}}, "blocked"),
        ({"error": {"code": "content_policy_violation"}}, "blocked"),
        ({"error": "rejected by our safety system"}, "blocked"),
        ({"error": {"code": "server_error"}}, "incomplete"),
        ({"refusal": "I cannot help with that."}, "blocked"),
        ({"blocked": True}, "blocked"),
        ({"is_filtered": "true"}, "blocked"),
        ({"moderation": {"flagged": True}}, "blocked"),
        ({"moderation_status": "rejected"}, "blocked"),
        ({"status": "moderated"}, "blocked"),
        ({"status": "failed"}, "incomplete"),
        ({"status": "in_progress"}, "incomplete"),
        ({"respect_moderation": False}, "blocked"),
        ({"moderation": {"isSafe": False}}, "blocked"),
        ({"raiFilteredReason": "unsafe content"}, "blocked"),
        ({"content_filter_results": {"hate": {"filtered": True, "severity": "high"}}}, "blocked"),
        ({"prompt_filter_results": [{"content_filter_results": {"sexual": {"filtered": True}}}]}, "blocked"),
    ],
)
def test_an_image_beside_the_word_that_it_was_refused(fields: dict[str, Any], refusal: str) -> None:
    item = {"b64_json": b64(PNG), **fields}
    assert verdict(OPENAI_ASKED, {"data": [item]}) == (refusal, 1)
    assert verdict(OPENAI_TWO, {"data": [{"b64_json": b64(JPEG)}, item]}) == (refusal, 2)
    assert verdict(OPENAI_ASKED, openai(b64(PNG), **fields)) == (refusal, 1)
    assert verdict(GEMINI_ASKED, google(part(), reason=None, **fields)) == (refusal, 1)


def test_a_rating_that_blocked() -> None:
    rating = {"category": "HARM_CATEGORY_HARASSMENT", "probability": "HIGH"}
    assert verdict(GEMINI_ASKED, google(part(), safetyRatings=[{**rating, "blocked": True}])) == ("blocked", 1)
    assert verdict(GEMINI_ASKED, google(part(), safety_ratings=[rating, {**rating, "blocked": True}])) == ("blocked", 1)
    assert verdict(GEMINI_ASKED, google(part(), safetyRatings=[rating])) == (None, 1)
