"""Tokens that no price fits make an estimate or no figure, never an exact cost at another kind's price. Answers as
they come over the wire, through the dialects that read them.
"""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachelayer.core.model import Answer, Asked, Cost, KeyRules, Reading, Request, Usage
from cachelayer.core.money import LARGEST_USD, rounded
from cachelayer.dialects import ask, read
from cachelayer.ledger.prices import Prices
from cachelayer.simulator.render import render

AT = 1_795_000_000.0  # 18 November 2026
PNG = base64.b64encode(render("a cat", 16, 16, "png").data).decode()
GOOGLE = "https://generativelanguage.googleapis.com"
OPENAI = "https://api.openai.com"


def gemini(model: str = "gemini-3-pro-image", base: str = GOOGLE, **body: Any) -> Asked:
    document = {"contents": [{"parts": [{"text": "a cat"}]}], **body}
    return _asked(f"{base}/v1beta/models/{model}:generateContent", document)


def openai(model: str = "gpt-image-1.5", base: str = OPENAI, **body: Any) -> Asked:
    return _asked(f"{base}/v1/images/generations", {"model": model, "prompt": "a cat", **body})


def _asked(url: str, document: dict[str, Any]) -> Asked:
    body = json.dumps(document)
    asked = ask(Request("POST", url, {"content-type": "application/json"}, body), KeyRules())
    assert isinstance(asked, Asked)
    return asked


def cost(
    asked: Asked, prices: dict[str, Any] | None = None, headers: dict[str, str] | None = None, **said: Any
) -> Cost:
    """said: what the answer holds beside one image."""
    if asked.dialect == "gemini":
        parts = [{"inlineData": {"mimeType": "image/png", "data": PNG}}]
        document = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}], **said}
    else:
        document = {"created": 1, "data": [{"b64_json": PNG}], **said}
    answer = Answer(200, tuple((headers or {}).items()), json.dumps(document).encode())
    reading = read(asked, answer)
    assert (reading.refusal, reading.images) == (None, 1)
    found = Prices(prices).bill(asked, reading, at=AT).cost
    assert found is not None
    return found


def modalities(**counts: int) -> list[dict[str, Any]]:
    return [{"modality": name, "tokenCount": count} for name, count in counts.items()]


def google_usage(prompt: dict[str, int], candidates: dict[str, int], **more: Any) -> dict[str, Any]:
    return {
        "promptTokenCount": sum(prompt.values()),
        "candidatesTokenCount": sum(candidates.values()),
        "promptTokensDetails": modalities(**prompt),
        "candidatesTokensDetails": modalities(**candidates),
        **more,
    }


def openai_usage(text: int, image: int, out: int, **details: Any) -> dict[str, Any]:
    return {
        "input_tokens": text + image + sum(v for n, v in details.items() if n == "audio_tokens"),
        "input_tokens_details": {"text_tokens": text, "image_tokens": image, **details},
        "output_tokens": out,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": out},
    }


class TestOtherKinds:
    @pytest.mark.parametrize("kind", ["AUDIO", "VIDEO", "DOCUMENT", "HOLOGRAM"])
    def test_googles_input_of_another_kind(self, kind: str) -> None:
        found = cost(gemini(), usageMetadata=google_usage({"TEXT": 567, kind: 100_000}, {"IMAGE": 1120}))
        assert (found.usd, found.pricing) == (Decimal("0.335534"), "estimated")
        assert "input tokens of a kind without a price of its own" in found.reason

    def test_openais_audio_input(self) -> None:
        found = cost(openai(), usage=openai_usage(10, 0, 4160, audio_tokens=1000))
        assert found.pricing == "estimated"
        assert "input tokens of a kind" in found.reason

    def test_other_output(self) -> None:
        found = cost(gemini(), usageMetadata=google_usage({"TEXT": 567}, {"IMAGE": 1120, "AUDIO": 200}))
        assert (found.usd, found.pricing) == (Decimal("0.137934"), "estimated")
        assert "output tokens of a kind" in found.reason

    def test_none_of_another_kind_is_none(self) -> None:
        found = cost(gemini(), usageMetadata=google_usage({"TEXT": 567, "AUDIO": 0}, {"IMAGE": 1120, "VIDEO": 0}))
        assert (found.usd, found.pricing) == (Decimal("0.135534"), "exact")

    def test_input_of_which_nothing_is_said(self) -> None:
        usage = google_usage({"TEXT": 567}, {"IMAGE": 1120}, promptTokenCount=667)
        found = cost(gemini(), usageMetadata=usage)
        assert (found.usd, found.pricing) == (Decimal("0.135734"), "estimated")
        assert "no known kind" in found.reason

    @pytest.mark.parametrize(("in_", "out"), [("prompt", "completion"), ("input", "output")])
    def test_the_names_of_chat_are_usage_too(self, in_: str, out: str) -> None:
        usage = {
            f"{in_}_tokens": 10,
            f"{out}_tokens": 4200,
            f"{in_}_tokens_details": {"text_tokens": 10, "image_tokens": 0, "audio_tokens": 0},
            f"{out}_tokens_details": {"image_tokens": 4160, "text_tokens": 40},
        }
        found = cost(openai(), usage=usage)
        assert (found.usd, found.pricing) == (Decimal("0.13357"), "exact")  # 10 x 5 + 4160 x 32 + 40 x 10


class TestCachedKinds:
    """gpt-image-1.5: text $5, cached $1.25; images $8, cached $2; 4,160 image tokens out are $0.13312."""

    @pytest.mark.parametrize(
        ("text", "image", "cached", "usd", "pricing"),
        [
            (100, 900, {"text_tokens": 100, "image_tokens": 300}, "0.138645", "exact"),
            (100, 900, {"text_tokens": 0, "image_tokens": 400}, "0.13842", "exact"),
            (1000, 900, {"text_tokens": 400, "image_tokens": 0}, "0.14382", "exact"),
            (1000, 0, None, "0.13662", "exact"),  # whatever was cached is text
            (0, 1000, None, "0.13872", "exact"),  # or an image
            (100, 900, None, "0.138645", "estimated"),
            (100, 900, {"text_tokens": 50}, "0.138645", "estimated"),
            (100, 900, {"text_tokens": 100, "image_tokens": 100}, "0.138645", "estimated"),
            (100, 900, {"text_tokens": 100, "audio_tokens": 300}, None, "unpriced"),  # but no audio came in
            (100, 900, {"text_tokens": 400, "image_tokens": 0}, None, "unpriced"),
        ],
    )
    def test_each_kind_has_its_own_cached_price(
        self, text: int, image: int, cached: dict[str, int] | None, usd: str | None, pricing: str
    ) -> None:
        details: dict[str, Any] = {"cached_tokens": 400}
        if cached is not None:
            details["cached_tokens_details"] = cached
        found = cost(openai(), usage=openai_usage(text, image, 4160, **details))
        assert (found.usd, found.pricing) == (None if usd is None else Decimal(usd), pricing)

    def test_cached_audio_is_an_estimate(self) -> None:
        details = {"cached_tokens": 400, "cached_tokens_details": {"text_tokens": 100, "audio_tokens": 300}}
        found = cost(openai(), usage=openai_usage(100, 900, 4160, audio_tokens=300, **details))
        assert (found.usd, found.pricing) == (Decimal("0.14082"), "estimated")
        assert "cached tokens of a kind" in found.reason

    def test_where_nothing_cached_is_listed_the_full_price_is_an_estimate(self) -> None:
        usage = google_usage({"TEXT": 567}, {"IMAGE": 1120}, cachedContentTokenCount=500)
        assert cost(gemini(), usageMetadata=usage).pricing == "estimated"


class TestABlockThatContradictsItself:
    @pytest.mark.parametrize(("total", "pricing"), [(1687, "exact"), (1688, "estimated"), (9, "estimated")])
    def test_by_googles_total(self, total: int, pricing: str) -> None:
        usage = google_usage({"TEXT": 567}, {"IMAGE": 1120})
        for name in ("totalTokenCount", "total_token_count"):
            found = cost(gemini(), usageMetadata={**usage, name: total})
            assert (found.usd, found.pricing) == (Decimal("0.135534"), pricing)
            assert ("total is not the sum of its parts" in found.reason) == (pricing == "estimated")

    def test_by_googles_total_with_thoughts_and_tools(self) -> None:
        usage = google_usage({"TEXT": 567}, {"IMAGE": 1120}, thoughtsTokenCount=100, toolUsePromptTokenCount=33)
        usage["toolUsePromptTokensDetails"] = modalities(TEXT=33)
        assert cost(gemini(), usageMetadata={**usage, "totalTokenCount": 1820}).pricing == "exact"
        assert cost(gemini(), usageMetadata={**usage, "totalTokenCount": 1720}).pricing == "estimated"

    @pytest.mark.parametrize(("total", "pricing"), [(4170, "exact"), (4171, "estimated"), (0, "estimated")])
    @pytest.mark.parametrize(("in_", "out"), [("prompt", "completion"), ("input", "output")])
    def test_by_openais_total(self, total: int, pricing: str, in_: str, out: str) -> None:
        usage = {
            f"{in_}_tokens": 10,
            f"{out}_tokens": 4160,
            f"{in_}_tokens_details": {"text_tokens": 10, "image_tokens": 0},
            f"{out}_tokens_details": {"image_tokens": 4160, "text_tokens": 0},
            "total_tokens": total,
        }
        found = cost(openai(), usage=usage)
        assert (found.usd, found.pricing) == (Decimal("0.13317"), pricing)

    @pytest.mark.parametrize("total", [None, "1687", -1, True, 1687.5])
    def test_what_is_no_total_contradicts_nothing(self, total: object) -> None:
        usage = google_usage({"TEXT": 567}, {"IMAGE": 1120}, totalTokenCount=total)
        assert cost(gemini(), usageMetadata=usage).pricing == "exact"

    @pytest.mark.parametrize(
        "usage",
        [
            google_usage({"TEXT": 567}, {"IMAGE": 5000}, candidatesTokenCount=1120),
            google_usage({"TEXT": 567}, {"IMAGE": 1120, "TEXT": 1}, candidatesTokenCount=1120),
            google_usage({"TEXT": 568}, {"IMAGE": 1120}, promptTokenCount=567),
        ],
    )
    def test_more_of_a_kind_than_in_all_is_no_figure(self, usage: dict[str, Any]) -> None:
        found = cost(gemini(), usageMetadata=usage)
        assert (found.usd, found.pricing) == (None, "unpriced")
        assert found.reason == "the usage block names more tokens by kind than in all"

    def test_more_of_a_kind_than_in_all_is_no_figure_by_openais_names_either(self) -> None:
        for wrong in ({"output_tokens": 4000}, {"input_tokens": 5}):
            assert cost(openai(), usage={**openai_usage(10, 0, 4160), **wrong}).pricing == "unpriced"

    def test_what_somebody_said_it_costs_still_counts(self) -> None:
        usage = {**openai_usage(10, 0, 4160), "output_tokens": 4000}
        assert cost(openai(), usage={**usage, "cost": 0.5}).usd == Decimal("0.5")
        assert cost(openai(), {"api.openai.com": "0.05"}, usage=usage).usd == Decimal("0.05")


class TestTheModelThatAnswered:
    USAGE = google_usage({"TEXT": 567}, {"IMAGE": 1120})

    @pytest.mark.parametrize("alias", ["our-image-model", "image-default", "deployment-7-image"])
    def test_is_priced_where_the_alias_is_not(self, alias: str) -> None:
        assert cost(gemini(alias), usageMetadata=self.USAGE).pricing == "unpriced"
        found = cost(gemini(alias), usageMetadata=self.USAGE, modelVersion="models/gemini-3-pro-image")
        assert (found.usd, found.pricing) == (Decimal("0.135534"), "exact")
        assert "priced as gemini-3-pro-image, the model that the answer names" in found.reason

    def test_is_priced_where_the_alias_has_no_price_for_images(self) -> None:
        found = cost(gemini("gemini-2.5-flash", generationConfig={"responseModalities": ["IMAGE"]}),
                     usageMetadata=self.USAGE, modelVersion="gemini-3-pro-image")  # fmt: skip
        assert (found.usd, found.pricing) == (Decimal("0.135534"), "exact")

    def test_gives_way_to_the_one_that_was_asked_for(self) -> None:
        found = cost(gemini(), usageMetadata=self.USAGE, modelVersion="gemini-2.5-flash-image")
        assert (found.usd, found.pricing) == (Decimal("0.135534"), "exact")
        assert "names" not in found.reason

    @pytest.mark.parametrize("named", ["our-image-model", "models/our-image-model", "something-else", "", None, 5])
    def test_that_has_no_price_either(self, named: object) -> None:
        found = cost(gemini("our-image-model"), usageMetadata=self.USAGE, modelVersion=named)
        assert (found.pricing, found.reason) == ("unpriced", "no list price for our-image-model")

    def test_whose_price_needs_more_than_is_said(self) -> None:
        usage = google_usage({"TEXT": 567}, {"IMAGE": 5000}, candidatesTokenCount=1120)
        found = cost(gemini("our-image-model"), usageMetadata=usage, modelVersion="gemini-3-pro-image")
        assert (found.pricing, found.reason) == ("unpriced", "the usage block names more tokens by kind than in all")

    def test_of_another_host_is_an_estimate(self) -> None:
        asked = openai("deployment-7", "https://x.openai.azure.com")
        found = cost(asked, usage=openai_usage(10, 0, 4160), model="gpt-image-1.5")
        assert (found.usd, found.pricing) == (Decimal("0.13317"), "estimated")


class TestTiers:
    USAGE = google_usage({"TEXT": 567}, {"IMAGE": 1120})

    @pytest.mark.parametrize("tier", ["STANDARD", "SERVICE_TIER_STANDARD", "SERVICE_TIER_UNSPECIFIED", "standard", ""])
    def test_the_plain_one_by_all_its_names(self, tier: str) -> None:
        assert cost(gemini(serviceTier=tier), usageMetadata=self.USAGE).pricing == "exact"
        assert cost(gemini(), usageMetadata={**self.USAGE, "serviceTier": tier}).pricing == "exact"
        assert cost(gemini(), usageMetadata={**self.USAGE, "trafficType": "ON_DEMAND"}).pricing == "exact"

    @pytest.mark.parametrize("tier", ["SERVICE_TIER_FLEX", "flex", "SERVICE_TIER_PRIORITY", "Priority"])
    def test_one_without_a_listed_price(self, tier: str) -> None:
        name = tier.lower().removeprefix("service_tier_")
        for found in (
            cost(gemini(serviceTier=tier), usageMetadata=self.USAGE),
            cost(gemini(), usageMetadata={**self.USAGE, "serviceTier": tier}),
            cost(gemini(), usageMetadata={**self.USAGE, "trafficType": f"ON_DEMAND_{name.upper()}"}),
        ):
            assert (found.usd, found.pricing) == (Decimal("0.135534"), "estimated")
            assert f"no {name} price is listed" in found.reason

    @pytest.mark.parametrize("tier", ["SERVICE_TIER_BATCH", "batch"])
    def test_batch_is_half(self, tier: str) -> None:
        found = cost(gemini(serviceTier=tier), usageMetadata=self.USAGE)
        assert (found.usd, found.pricing) == (Decimal("0.067767"), "exact")


class TestWhatTheAnswerSays:
    @pytest.mark.parametrize(
        ("said", "headers", "usd"),
        [
            ({"usage": {"prompt_tokens": 5, "completion_tokens": 1537, "cost": 0.03422675}}, {}, "0.03422675"),
            ({"usage": {"cost_in_usd_ticks": 700_000_000}}, {}, "0.07"),
            ({}, {"x-litellm-response-cost": "0.0422"}, "0.0422"),
            ({"usage": {"cost": 0}}, {}, "0"),
            ({"usage": {"cost": 0.00000000000049999}}, {}, "0.000000000000"),  # half-even to 10^-12
            ({"usage": {"cost": 0.0000000000015}}, {}, "0.000000000002"),
            ({"usage": {"cost": 0.0000000000025}}, {}, "0.000000000002"),
        ],
    )
    def test_is_exact(self, said: dict[str, Any], headers: dict[str, str], usd: str) -> None:
        found = cost(openai("any/model", "https://openrouter.ai/api"), headers=headers, **said)
        assert (found.usd, found.pricing) == (Decimal(usd), "exact")

    def test_comes_after_the_users_own_price(self) -> None:
        asked = openai("any/model", "https://openrouter.ai/api")
        usage = {"cost": 0.03422675}
        assert cost(asked, {"openrouter.ai": "0.05"}, usage=usage).usd == Decimal("0.05")

    def test_comes_after_the_list_where_the_user_says_the_list_is_right(self) -> None:
        asked, usage = openai(base="https://gw.example"), openai_usage(10, 0, 4160)
        assert cost(asked, usage={**usage, "cost": 9}).usd == 9
        assert cost(asked, {"gw.example": "list"}, usage={**usage, "cost": 9}).usd == Decimal("0.13317")
        unlisted = openai("any/model", "https://gw.example")
        assert cost(unlisted, {"gw.example": "list"}, usage={**usage, "cost": 9}).usd == 9

    @pytest.mark.parametrize("said", [-1, "free", None, True, 1_000_001, [1], "\u0660.\u0665", "\uff10.5", "0,5"])
    def test_that_is_no_cost_is_not_said(self, said: object) -> None:
        assert cost(openai(), usage={**openai_usage(10, 0, 4160), "cost": said}).usd == Decimal("0.13317")

    def test_of_an_answer_that_failed(self) -> None:
        prices, failed = Prices(), Reading("status-500", cost=Decimal(0))
        assert prices.bill(openai(), failed, at=AT).cost is None
        billed = prices.bill(openai(), Reading("blocked", cost=Decimal("0.01")), at=AT).cost
        assert billed is not None
        assert (billed.usd, billed.pricing) == (Decimal("0.01"), "exact")


def test_no_cost_is_above_a_million() -> None:
    most = cost(openai(), usage=openai_usage(0, 0, 31_250_000_000))
    assert (most.usd, most.pricing) == (LARGEST_USD, "exact")
    more = cost(openai(), usage=openai_usage(0, 0, 31_250_000_001))
    assert (more.usd, more.pricing) == (None, "unpriced")
    per_image = {"gw.example": "600000"}
    two = Prices(per_image).bill(openai(base="https://gw.example"), Reading(None, 2), at=AT).cost
    assert two is not None
    assert two.pricing == "unpriced"


@given(st.decimals(min_value=0, max_value=10**6, allow_nan=False, allow_infinity=False))
def test_an_amount_is_rounded_once(usd: Decimal) -> None:
    once = rounded(usd)
    assert rounded(once) == once
    assert abs(once - usd) * 2 <= Decimal("1E-12")
    assert once * 10**12 == int(once * 10**12)


counts = st.none() | st.integers(0, 10**13)


@given(
    st.builds(
        Usage, text_in=counts, image_in=counts, other_in=counts, total_in=counts, cached_in=counts,
        cached_text_in=counts, cached_image_in=counts, cached_other_in=counts, text_out=counts, image_out=counts,
        other_out=counts, total_out=counts, detailed=st.booleans(),
    ),
    st.integers(0, 3),
)  # fmt: skip
def test_whatever_the_counts_are_other_kinds_are_never_exact(usage: Usage, images: int) -> None:
    for asked in (openai(), gemini()):
        found = Prices().bill(asked, Reading(None, images, usage), at=AT).cost
        assert found is not None
        if usage.other_in or usage.other_out or (usage.cached_in and usage.cached_other_in):
            assert found.pricing != "exact"
        if found.usd is not None:
            assert 0 <= found.usd <= LARGEST_USD
            assert found.usd == rounded(found.usd)
