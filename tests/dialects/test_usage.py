"""Usage blocks: tokens of each kind apart, cached ones too, no remainder taken for a kind, and what an answer says it
cost."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachelayer.core.model import Answer, Asked, Headers, Reading, Usage
from cachelayer.dialects import read
from tests.dialects.asks import asked, gemini, generate

GEMINI_ASKED = asked(gemini())
OPENAI_ASKED = asked(generate())


def reading(asking: Asked, body: Any, headers: Headers = ()) -> Reading:
    return read(asking, Answer(200, headers, body if isinstance(body, bytes) else json.dumps(body).encode()))


def google(**block: Any) -> Usage:
    usage = reading(GEMINI_ASKED, {"usageMetadata": block}).usage
    assert usage is not None
    return usage


def openai(**block: Any) -> Usage:
    usage = reading(OPENAI_ASKED, {"usage": block}).usage
    assert usage is not None
    return usage


def details(**tokens: int) -> list[dict[str, Any]]:
    return [{"modality": name, "tokenCount": count} for name, count in tokens.items()]


class TestKinds:
    def test_audio_is_no_text(self) -> None:
        told = google(promptTokenCount=100_010, promptTokensDetails=details(TEXT=10, AUDIO=90_000, VIDEO=10_000))
        assert (told.text_in, told.image_in, told.other_in, told.total_in) == (10, 0, 100_000, 100_010)
        told = openai(input_tokens=100_010, input_tokens_details={"text_tokens": 10, "audio_tokens": 100_000})
        assert (told.text_in, told.image_in, told.other_in, told.total_in) == (10, 0, 100_000, 100_010)

    @pytest.mark.parametrize("kind", ["AUDIO", "VIDEO", "DOCUMENT", "A_NEW_KIND"])
    def test_kinds_without_a_field_of_their_own(self, kind: str) -> None:
        block = {"candidatesTokenCount": 30, "candidatesTokensDetails": details(IMAGE=20, **{kind: 10})}
        told = google(**block)
        assert (told.text_out, told.image_out, told.other_out) == (0, 20, 10)

    def test_a_remainder_is_of_no_kind(self) -> None:
        told = google(promptTokenCount=20, promptTokensDetails=details(IMAGE=15), candidatesTokenCount=9)
        assert (told.text_in, told.image_in, told.other_in, told.text_out) == (None, 15, None, None)
        told = openai(output_tokens=1537, output_tokens_details={"reasoning_tokens": 0, "image_tokens": 1120})
        assert (told.text_out, told.image_out, told.total_out, told.detailed) == (None, 1120, 1537, True)

    def test_an_unnamed_modality_is_a_remainder(self) -> None:
        nameless = [{"tokenCount": 5}, {"modality": "MODALITY_UNSPECIFIED", "tokenCount": 5}, *details(IMAGE=15)]
        told = google(promptTokenCount=25, promptTokensDetails=nameless)
        assert (told.text_in, told.image_in) == (None, 15)

    def test_the_input_of_tools_by_its_own_details(self) -> None:
        block = {"promptTokenCount": 10, "promptTokensDetails": details(TEXT=10), "toolUsePromptTokenCount": 5}
        told = google(**block)
        assert (told.text_in, told.image_in, told.total_in) == (10, None, 15)
        told = google(**block, toolUsePromptTokensDetails=details(IMAGE=5))
        assert (told.text_in, told.image_in, told.total_in) == (10, 5, 15)

    def test_reasoning_is_text_once(self) -> None:
        apart = {"reasoning_tokens": 7, "text_tokens": 3, "image_tokens": 90}
        assert openai(output_tokens=100, output_tokens_details=apart).text_out == 10
        assert openai(output_tokens=93, output_tokens_details=apart).text_out == 3
        alone = {"reasoning_tokens": 10, "image_tokens": 90}
        assert openai(output_tokens=100, output_tokens_details=alone).text_out == 10

    def test_more_named_than_there_is(self) -> None:
        told = openai(input_tokens=10, input_tokens_details={"text_tokens": 6, "image_tokens": 5})
        assert (told.text_in, told.image_in, told.total_in) == (None, None, 10)

    @given(
        total=st.integers(0, 50) | st.none(),
        named=st.dictionaries(st.sampled_from(["TEXT", "IMAGE", "AUDIO", "VIDEO"]), st.integers(0, 30)),
    )
    def test_kinds_never_exceed_the_total(self, total: int | None, named: dict[str, int]) -> None:
        block = {} if total is None else {"promptTokenCount": total}
        told = google(**block, promptTokensDetails=details(**named))
        kinds = [told.text_in, told.image_in, told.other_in]
        if total is None or not named or sum(named.values()) > total:
            assert kinds == [None] * 3
        else:
            assert sum(count or 0 for count in kinds) == sum(named.values())
            assert (told.text_in is None) == ("TEXT" not in named and sum(named.values()) < total)


class TestCached:
    def test_by_kind(self) -> None:
        told = openai(
            input_tokens=100,
            input_tokens_details={
                "text_tokens": 60,
                "image_tokens": 40,
                "cached_tokens": 50,
                "cached_tokens_details": {"text_tokens": 20, "image_tokens": 30},
            },
        )
        assert (told.text_in, told.image_in) == (60, 40)
        assert (told.cached_in, told.cached_text_in, told.cached_image_in, told.cached_other_in) == (50, 20, 30, None)
        told = google(cachedContentTokenCount=50, cacheTokensDetails=details(TEXT=20, AUDIO=30))
        assert (told.cached_in, told.cached_text_in, told.cached_image_in, told.cached_other_in) == (50, 20, 0, 30)

    def test_the_sum_where_only_the_details_are_given(self) -> None:
        assert google(cacheTokensDetails=details(IMAGE=30)).cached_in == 30
        assert openai(input_tokens_details={"cached_tokens_details": {"image_tokens": 30}}).cached_image_in == 30

    def test_without_details(self) -> None:
        told = openai(input_tokens=100, input_tokens_details={"cached_tokens": 50})
        assert (told.cached_in, told.cached_text_in, told.cached_image_in) == (50, None, None)


class TestSpellings:
    def test_chat_completions(self) -> None:
        told = openai(
            prompt_tokens=12,
            completion_tokens=1130,
            prompt_tokens_details={"text_tokens": 12, "cached_tokens": 4},
            completion_tokens_details={"image_tokens": 1120, "text_tokens": 10},
        )
        assert told == Usage(
            text_in=12, image_in=0, cached_in=4, text_out=10, image_out=1120, total_in=12, total_out=1130, detailed=True
        )

    def test_both_names_of_one_total(self) -> None:
        assert openai(input_tokens=12, prompt_tokens=0, output_tokens=5, completion_tokens=5).total_in == 12
        assert openai(input_tokens=12, prompt_tokens=13).total_in is None

    def test_snake_case_of_gemini(self) -> None:
        block = {
            "prompt_token_count": 7,
            "candidates_token_count": 1120,
            "thoughts_token_count": 9,
            "prompt_tokens_details": [{"modality": "text", "token_count": 7}],
            "candidates_tokens_details": [{"modality": "image", "token_count": 1120}],
            "cached_content_token_count": 2,
            "traffic_type": "ON_DEMAND_FLEX",
        }
        body = {"usage_metadata": block, "model_version": "gemini-3-pro-image-001"}
        got = reading(GEMINI_ASKED, body)
        assert got.model == "gemini-3-pro-image-001"
        assert got.usage == Usage(
            text_in=7, image_in=0, cached_in=2, text_out=9, image_out=1120, total_in=7, total_out=1129, detailed=True,
            tier="on_demand_flex",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("said", "tier"),
        [
            ("SERVICE_TIER_FLEX", "flex"),
            ("Flex", "flex"),
            ("service-tier-priority", "priority"),
            ("ON_DEMAND", "on_demand"),
            ("SERVICE_TIER_UNSPECIFIED", None),
            ("unspecified", None),
            ("", None),
            (7, None),
        ],
    )
    def test_tiers(self, said: Any, tier: str | None) -> None:
        assert google(serviceTier=said).tier == tier
        assert openai(service_tier=said).tier == tier
        assert google(serviceTier=said, trafficType="ON_DEMAND_FLEX").tier == (tier or "on_demand_flex")

    def test_the_model_that_answered(self) -> None:
        assert reading(OPENAI_ASKED, {"data": [], "model": "gpt-image-1.5-2025-12-16"}).model is not None
        assert reading(OPENAI_ASKED, {"data": [], "model": 5}).model is None
        assert reading(GEMINI_ASKED, {"modelVersion": "gemini-3-pro-image"}).model == "gemini-3-pro-image"


def cost(block: bytes, headers: Headers = ()) -> Decimal | None:
    found = reading(OPENAI_ASKED, b'{"usage":%s}' % block, headers).cost
    assert reading(GEMINI_ASKED, b'{"usageMetadata":%s}' % block, headers).cost == found
    return found


class TestReportedCost:
    @pytest.mark.parametrize(
        ("block", "usd"),
        [
            (b'{"cost":0.03422675}', "0.03422675"),
            (b'{"cost":0.1000000000000000055511151231257827}', "0.1000000000000000055511151231257827"),
            (b'{"cost":1}', "1"),
            (b'{"cost":"0.05"}', "0.05"),
            (b'{"cost":4e-2}', "0.04"),
            (b'{"cost":0}', "0"),
            (b'{"cost_in_usd_ticks":700000000}', "0.07"),
            (b'{"cost":0.001,"is_byok":true,"cost_details":{"upstream_inference_cost":0.02}}', "0.021"),
            (b'{"cost":0.03,"is_byok":false,"cost_details":{"upstream_inference_cost":0.03}}', "0.03"),
        ],
    )
    def test_said(self, block: bytes, usd: str) -> None:
        assert cost(block) == Decimal(usd)

    @pytest.mark.parametrize(
        "block",
        [
            b'{"cost":-0.1}',
            b'{"cost":1000000.01}',
            b'{"cost":1e400}',
            b'{"cost":1e99999999999999999999999}',
            b'{"cost":"NaN"}',
            b'{"cost":"Infinity"}',
            b'{"cost":"free"}',
            b'{"cost":true}',
            b'{"cost":null}',
            b'{"cost":{"total":1}}',
            b'{"cost_in_usd_ticks":-1}',
            b'{"cost_in_usd_ticks":0.5}',
            b'{"cost_in_usd_ticks":100000000000000000}',
            b'{"cost":0.001,"is_byok":true}',
            b"{}",
            b"[]",
            b"null",
        ],
    )
    def test_not_said(self, block: bytes) -> None:
        assert cost(block) is None

    def test_by_a_gateways_header(self) -> None:
        assert cost(b"{}", (("X-LiteLLM-Response-Cost", " 6.7e-05 "),)) == Decimal("0.000067")
        assert cost(b"{}", (("x-litellm-response-cost", "None"),)) is None
        assert cost(b'{"cost":0.02}', (("x-litellm-response-cost", "0.03"),)) == Decimal("0.02")
