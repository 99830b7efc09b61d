"""What a request cost: exact where the answer and a list say so, an estimate where it says so too, else no figure."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachelayer.core.model import Asked, Cost, Reading, Usage
from cachelayer.ledger.prices import Prices

DATA = Path(__file__).parents[1] / "data" / "prices"
SHARED = Path(__file__).parents[3] / "shared" / "data"

AT = 1_795_000_000.0  # 18 November 2026
GOOGLE = "generativelanguage.googleapis.com"
PRO = Asked(
    key="0" * 64,
    canonical=b"",
    dialect="gemini",
    operation="image",
    model="gemini-3-pro-image",
    scope=GOOGLE,
    host=GOOGLE,
    namespace="default",
    count=1,
    stream=False,
    never_cached=None,
    home="google",
)
GPT = replace(PRO, dialect="openai", model="gpt-image-1.5", host="api.openai.com", home="openai")
GOLDEN = Usage(
    text_in=567, image_in=0, total_in=567, text_out=200, image_out=1120, total_out=1320, detailed=True, tier="standard"
)


def cost(asked: Asked, reading: Reading, prices: dict[str, Any] | None = None, at: float = AT) -> Cost:
    found = Prices(prices).bill(asked, reading, at=at).cost
    assert found is not None
    assert (found.usd is None) == (found.pricing == "unpriced")
    assert found.reason
    return found


def image(usage: Usage | None = None, **more: Any) -> Reading:
    return Reading(None, images=more.pop("images", 1), usage=usage, **more)


def tokens(**counts: Any) -> Usage:
    """A whole, detailed usage block."""
    text_in, image_in = counts.pop("text_in", 0), counts.pop("image_in", 0)
    text_out, image_out = counts.pop("text_out", 0), counts.pop("image_out", 0)
    return Usage(
        text_in=text_in,
        image_in=image_in,
        total_in=text_in + image_in,
        text_out=text_out,
        image_out=image_out,
        total_out=text_out + image_out,
        detailed=True,
        **counts,
    )


class TestReportedUsage:
    def test_the_golden_case(self) -> None:
        found = cost(PRO, image(GOLDEN))
        assert (found.usd, found.pricing) == (Decimal("0.137934"), "exact")

    @pytest.mark.parametrize(
        ("counts", "usd"),
        [
            ({"image_out": 1120}, "0.1344"),
            ({"image_out": 2000}, "0.24"),
            ({"image_in": 560, "image_out": 1120}, "0.13552"),  # a reference image adds $0.00112
            ({"image_in": 14 * 560, "image_out": 1120}, "0.15008"),
        ],
    )
    def test_the_cases_of_the_article(self, counts: dict[str, int], usd: str) -> None:
        found = cost(PRO, image(tokens(**counts)))
        assert (found.usd, found.pricing) == (Decimal(usd), "exact")
        half = cost(replace(PRO, tier="batch"), image(tokens(**counts)))
        assert (half.usd, half.pricing) == (Decimal(usd) / 2, "exact")

    def test_the_callers_decimal_context_does_not_round(self) -> None:
        with localcontext() as context:
            context.prec = 2
            assert cost(PRO, image(GOLDEN)).usd == Decimal("0.137934")

    @pytest.mark.parametrize("line", (DATA / "usage.jsonl").read_text().splitlines())
    def test_recorded_usage(self, line: str) -> None:
        case = json.loads(line)
        openai = "output_tokens" in case["usage"]
        usage = openai_usage(case["usage"]) if openai else google_usage(case["usage"])
        found = cost(replace(GPT if openai else PRO, model=case["model"]), image(usage, images=case["images"]))
        assert (None if found.usd is None else str(found.usd), found.pricing) == (case["usd"], case["pricing"])

    @pytest.mark.shared
    @pytest.mark.skipif(not SHARED.exists(), reason="no ../shared")
    def test_all_of_googles_answers_that_genai_prices_has_prices_for(self) -> None:
        compared = 0
        for case in json.loads((SHARED / "usage" / "genai-prices_usages.json").read_text()):
            model, block = case.get("model") or "", case["body"].get("usageMetadata")
            stated = [
                extractor
                for extracted in case["extracted"]
                for extractor in extracted["extractors"]
                if extractor["provider_id"] == "google" and "input_price" in extractor
            ]
            if not model.startswith("gemini-") or not block or not stated:
                continue
            usage = google_usage(block)
            images = 1 if usage.image_out else 0
            found = cost(
                replace(PRO, model=model, operation="image" if images else "text"), image(usage, images=images)
            )
            usd = Decimal(stated[0]["input_price"]) + Decimal(stated[0]["output_price"])
            assert found.usd == usd, (model, block)
            compared += 1
        assert compared > 20

    def test_a_refused_answer_with_usage_was_billed(self) -> None:
        blocked = Reading("blocked", usage=Usage(text_in=567, image_in=0, total_in=567))
        assert cost(PRO, blocked) == Cost(Decimal("0.001134"), "exact", "reported usage at the list price of google")
        assert cost(PRO, Reading("truncated", usage=GOLDEN)).usd == Decimal("0.137934")
        assert cost(PRO, Reading("no-image", usage=tokens(text_in=10, text_out=50))).usd == Decimal("0.00062")

    @pytest.mark.parametrize("reading", [Reading("status-429"), Reading("blocked"), Reading("blocked", usage=Usage())])
    def test_nothing_was_billed_for_an_error_or_a_block_without_usage(self, reading: Reading) -> None:
        assert Prices().bill(PRO, reading, at=AT).cost is None

    @pytest.mark.parametrize("refusal", ["incomplete", "image-url", "truncated", None])
    def test_an_answer_that_does_not_say_what_it_cost_is_not_free(self, refusal: str | None) -> None:
        assert cost(PRO, Reading(refusal)).pricing == "unpriced"

    def test_stored_context_and_tools_cost_more_than_tokens(self) -> None:
        assert cost(replace(PRO, never_cached="stateful"), image(GOLDEN)).pricing == "estimated"

    @pytest.mark.parametrize("total_out", [1319, 1321])
    def test_a_block_that_does_not_add_up_is_not_priced(self, total_out: int) -> None:
        assert cost(PRO, image(replace(GOLDEN, total_out=total_out))).pricing == "unpriced"
        assert cost(PRO, image(replace(GOLDEN, total_in=500))).pricing == "unpriced"

    def test_input_of_an_unknown_kind_makes_an_estimate(self) -> None:
        found = cost(PRO, image(replace(GOLDEN, total_in=667)))
        assert (found.usd, found.pricing) == (Decimal("0.138134"), "estimated")

    def test_cached_input(self) -> None:
        base = tokens(text_in=1000, image_out=4160)
        found = cost(GPT, image(replace(base, cached_in=400)))
        assert (found.usd, found.pricing) == (Decimal("0.13662"), "exact")  # 600 x 5 + 400 x 1.25 + 4160 x 32
        mixed = cost(GPT, image(replace(tokens(text_in=100, image_in=900, image_out=4160), cached_in=400)))
        assert (mixed.usd, mixed.pricing) == (Decimal("0.138645"), "estimated")  # 100 and 300 cached, 600 images
        unlisted = cost(PRO, image(replace(GOLDEN, cached_in=100)))
        assert (unlisted.usd, unlisted.pricing) == (Decimal("0.137934"), "estimated")
        assert cost(GPT, image(replace(base, cached_in=2000))).pricing == "unpriced"


class TestWithoutDetails:
    """Image tokens priced as text are ten times too cheap: $0.0146 or $0.0170 for the golden case."""

    @pytest.mark.parametrize("model", ["gemini-3-pro-image", "gemini-3-pro-image-preview", "gemini-3.1-flash-image"])
    @pytest.mark.parametrize("size", [None, "1K", "2K", "4K", "8K", "auto"])
    @pytest.mark.parametrize("total_out", [None, 0, 500, 1120, 1320, 2320, 9000])
    @pytest.mark.parametrize("images", [1, 3])
    def test_image_tokens_are_never_priced_as_text(
        self, model: str, size: str | None, total_out: int | None, images: int
    ) -> None:
        usage = Usage(text_in=567, image_in=0, total_in=567, total_out=total_out)
        found = cost(replace(PRO, model=model, size=size), image(usage, images=images))
        assert found.pricing != "exact"
        if found.usd is not None:
            least = Decimal("0.1344") if "pro" in model else Decimal("0.04482")
            assert found.usd >= least * images

    @pytest.mark.parametrize(
        ("size", "total_out", "usd"),
        [
            ("1K", 1320, "0.137934"),
            (None, 1320, "0.137934"),  # fewer than 2000: it cannot have been 4K, and 1K and 2K cost the same
            ("4K", 2200, "0.243534"),
            ("1K", 2200, "0.148494"),  # 1120 of them, as that was asked for
            (None, 2200, None),
            ("4K", 1320, None),
            (None, 1000, None),
            ("auto", 1320, "0.137934"),
            ("8K", 1320, None),  # not in the table, so what fits from the table proves nothing
        ],
    )
    def test_the_total_decides_where_it_can(self, size: str | None, total_out: int, usd: str | None) -> None:
        found = cost(replace(PRO, size=size), image(Usage(total_in=567, total_out=total_out)))
        assert (found.usd, found.pricing) == ((Decimal(usd), "estimated") if usd else (None, "unpriced"))

    def test_too_few_tokens_for_an_image_are_text(self) -> None:
        few = cost(PRO, Reading("no-image", usage=Usage(total_in=10, total_out=50)))
        assert (few.usd, few.pricing) == (Decimal("0.00062"), "estimated")
        assert cost(PRO, Reading("blocked", usage=Usage(total_in=10, total_out=1300))).pricing == "unpriced"

    def test_details_that_deny_the_image_are_not_believed(self) -> None:
        found = cost(PRO, image(tokens(text_in=567, text_out=1320)))
        assert (found.usd, found.pricing) == (Decimal("0.137934"), "estimated")

    def test_gpt_image_1_5_is_not_three_times_too_cheap(self) -> None:
        found = cost(GPT, image(Usage(text_in=10, image_in=0, total_in=10, total_out=4160)))
        assert (found.usd, found.pricing) == (Decimal("0.13317"), "estimated")

    def test_where_all_output_has_one_price_details_are_not_missed(self) -> None:
        usage = Usage(text_in=10, image_in=0, total_in=10, total_out=4160)
        found = cost(replace(GPT, model="gpt-image-1"), image(usage))
        assert (found.usd, found.pricing) == (Decimal("0.16645"), "exact")

    def test_input_that_is_not_split_is_priced_only_where_the_split_does_not_matter(self) -> None:
        usage = replace(tokens(image_out=4160), text_in=None, image_in=None, total_in=100)
        assert cost(GPT, image(usage)).usd == Decimal("0.13362")
        assert cost(replace(GPT, references=1), image(usage)).pricing == "unpriced"
        assert (
            cost(replace(PRO, references=1), image(replace(usage, image_out=1120, total_out=1120))).pricing == "exact"
        )


class TestWithoutUsage:
    @pytest.mark.parametrize(
        ("model", "size", "usd"),
        [
            ("gemini-3-pro-image", "1K", "0.1344"),
            ("gemini-3-pro-image", "2k", "0.1344"),
            ("gemini-3-pro-image-preview", "4K", "0.24"),
            ("gemini-3.1-flash-image", "512", "0.04482"),
            ("gemini-3.1-flash-image", "4K", "0.1512"),
            ("gemini-2.5-flash-image", None, "0.0387"),
            ("gemini-2.5-flash-image", "1K", "0.0387"),
            ("gemini-3-pro-image", None, None),
            ("gemini-3-pro-image", "1024x1024", None),
            ("gemini-2.5-flash", "1K", None),
            ("gemini-9-ultra-image", "1K", None),
        ],
    )
    def test_gemini_by_size(self, model: str, size: str | None, usd: str | None) -> None:
        found = cost(replace(PRO, model=model, size=size), image())
        assert (found.usd, found.pricing) == ((Decimal(usd), "estimated") if usd else (None, "unpriced"))

    def test_each_image_counts(self) -> None:
        assert cost(replace(PRO, size="1K"), image(images=4)).usd == Decimal("0.5376")

    @pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-1.5"])
    def test_gpt_image_by_size_and_quality_agrees_with_prices_per_image(self, model: str) -> None:
        stated = json.loads((DATA / "per_image.json").read_text())[model]["per_image"]
        for quality, sizes in stated.items():
            for size, usd in sizes.items():
                found = cost(replace(GPT, model=model, size=size, quality=quality), image())
                assert found.usd is not None
                assert found.pricing == "estimated"
                # The pages round, $0.008704 to $0.009 at worst.
                assert abs(found.usd - Decimal(usd)) <= Decimal("0.035") * Decimal(usd), (quality, size)

    @pytest.mark.parametrize(
        ("size", "quality"),
        [(None, "high"), ("1024x1024", None), ("auto", "high"), ("1024x1024", "auto"), ("1x1", "low")],
    )
    def test_an_unknown_size_or_quality_is_no_guess(self, size: str | None, quality: str | None) -> None:
        found = cost(replace(GPT, size=size, quality=quality), image())
        assert found.pricing == "unpriced"
        assert "of size" in found.reason

    def test_the_answers_own_size_and_quality_decide(self) -> None:
        asked = replace(GPT, size="auto", quality="auto")
        assert cost(asked, image(size="1024x1024", quality="high")).usd == Decimal("0.13312")

    @pytest.mark.parametrize("model", ["gpt-image-2", "gpt-image-1-mini", "dall-e-3", "imagen-4.0-generate-001", ""])
    def test_models_without_a_table_are_unpriced(self, model: str) -> None:
        asked = replace(GPT, model=model, size="1024x1024", quality="high")
        assert cost(asked, image()).pricing == "unpriced"


class TestListPrices:
    @pytest.mark.parametrize(("home", "pricing"), [("google", "exact"), ("openai", "estimated"), (None, "estimated")])
    def test_only_the_models_own_host_makes_it_exact(self, home: str | None, pricing: str) -> None:
        found = cost(replace(PRO, home=home), image(GOLDEN))
        assert (found.usd, found.pricing) == (Decimal("0.137934"), pricing)

    @pytest.mark.parametrize("host", ["x.openai.azure.com", "x.cognitiveservices.azure.com", "openrouter.ai"])
    def test_azure_and_aggregators_have_lists_of_their_own(self, host: str) -> None:
        usage = tokens(text_in=10, image_out=4160)
        found = cost(replace(GPT, host=host, home=None), image(usage))
        assert (found.usd, found.pricing) == (Decimal("0.13317"), "estimated")
        assert host in found.reason

    @pytest.mark.parametrize(
        "model",
        ["models/gemini-3-pro-image", "google/gemini-3-pro-image", "publishers/google/models/gemini-3-pro-image"],
    )
    def test_names_with_prefixes(self, model: str) -> None:
        assert cost(replace(PRO, model=model), image(GOLDEN)).usd == Decimal("0.137934")

    @pytest.mark.parametrize("model", ["gpt-5-image", "gemini-2.5-flash", "gpt-4o"])
    def test_an_image_of_a_model_without_a_price_for_images_is_unpriced(self, model: str) -> None:
        assert cost(replace(PRO, model=model), image(GOLDEN)).pricing == "unpriced"

    @pytest.mark.parametrize("tier", ["standard", "default", "auto", "on_demand", "ON_DEMAND", None])
    def test_plain_tiers(self, tier: str | None) -> None:
        found = cost(replace(PRO, tier=tier), image(replace(GOLDEN, tier=None)))
        assert (found.usd, found.pricing) == (Decimal("0.137934"), "exact")

    @pytest.mark.parametrize("tier", ["flex", "priority", "on_demand_flex", "scale", "something"])
    def test_a_tier_without_a_listed_price_is_an_estimate(self, tier: str) -> None:
        found = cost(PRO, image(replace(GOLDEN, tier=tier)))
        assert (found.usd, found.pricing) == (Decimal("0.137934"), "estimated")

    def test_the_tier_that_served_counts_not_the_one_asked_for(self) -> None:
        assert cost(replace(PRO, tier="flex"), image(GOLDEN)).pricing == "exact"

    def test_batch_before_its_price_was_listed_is_an_estimate(self) -> None:
        found = cost(replace(PRO, tier="batch"), image(replace(GOLDEN, tier=None)), at=1_780_000_000.0)
        assert (found.usd, found.pricing) == (Decimal("0.137934"), "estimated")

    def test_provisioned_throughput_has_no_price_a_request(self) -> None:
        assert cost(PRO, image(replace(GOLDEN, tier="provisioned_throughput"))).pricing == "unpriced"

    def test_prices_need_no_network_and_no_import_before_the_first_cost(self) -> None:
        script = (
            "import sys\n"
            "from cachelayer.ledger.prices import Prices\n"
            "Prices({'a.example': '1'})\n"
            "assert not {'genai_prices', 'pydantic'} & set(sys.modules)\n"
            "import socket\n"
            "def refuse(*a, **k): raise AssertionError('network')\n"
            "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
            "from cachelayer.core.model import Asked, Reading, Usage\n"
            "asked = Asked('', b'', 'gemini', 'image', 'gemini-3-pro-image', '', '', '', 1, False, None)\n"
            "assert Prices().bill(asked, Reading(None, 1, Usage(total_in=1, total_out=1120)), at=1.0).cost\n"
        )
        subprocess.run([sys.executable, "-c", script], check=True)


def test_the_users_price_comes_first_and_is_per_image_paid_for() -> None:
    prices = {"api.reseller.example": "0.05", "list.example:8443": "list"}
    asked = replace(PRO, host="api.reseller.example", home=None)
    for usage in (GOLDEN, None, Usage(total_out=9999), replace(GOLDEN, tier="batch")):
        assert cost(asked, image(usage), prices) == Cost(
            Decimal("0.05"), "exact", "price per image for api.reseller.example"
        )
    assert cost(asked, image(images=3), prices).usd == Decimal("0.15")
    for refusal in ("status-500", "blocked", "no-image"):
        assert Prices(prices).bill(asked, Reading(refusal, usage=Usage(total_in=5)), at=AT).cost is None
    for refusal in ("incomplete", "image-url"):
        assert cost(asked, Reading(refusal), prices).pricing == "unpriced"
    listed = cost(replace(PRO, host="list.example:8443", home=None), image(GOLDEN), prices)
    assert (listed.usd, listed.pricing) == (Decimal("0.137934"), "exact")
    assert cost(replace(PRO, host="list.example", home=None), image(GOLDEN), prices).pricing == "estimated"


def test_list_makes_no_estimate_exact_that_has_other_doubts() -> None:
    asked = replace(PRO, host="list.example", home=None, size="4K")
    assert cost(asked, image(), {"list.example": "list"}).pricing == "estimated"


def test_a_price_per_image_says_nothing_about_text() -> None:
    asked = replace(PRO, operation="text", model="gemini-2.5-flash", host="r.example", home=None)
    found = cost(asked, Reading(None, usage=tokens(text_in=100, text_out=100)), {"r.example": "0.05"})
    assert (found.usd, found.pricing) == (Decimal("0.00028"), "estimated")


counts = st.none() | st.integers(0, 10**12)


@given(
    usage=st.none()
    | st.builds(
        Usage,
        text_in=counts,
        image_in=counts,
        cached_in=counts,
        text_out=counts,
        image_out=counts,
        total_out=counts,
        total_in=counts,
        detailed=st.booleans(),
        tier=st.none() | st.sampled_from(["batch", "flex", "x", "standard"]),
    ),
    model=st.sampled_from(
        ["gemini-3-pro-image", "gpt-image-1.5", "gpt-image-1", "gpt-4o", "x/../y", "", "\ud800", "a/"]
    ),
    images=st.integers(0, 5),
    references=st.integers(0, 3),
    operation=st.sampled_from(["image", "text", "embedding"]),
    refusal=st.sampled_from([None, "blocked", "incomplete", "status-500"]),
    size=st.none() | st.text(max_size=9),
    at=st.floats(0, 4e9),
)
def test_no_answer_makes_it_raise_and_no_figure_is_negative(
    usage: Usage | None,
    model: str,
    images: int,
    references: int,
    operation: Any,
    refusal: str | None,
    size: str | None,
    at: float,
) -> None:
    asked = replace(PRO, model=model, operation=operation, references=references)
    found = Prices({"x.example": {"*": "1"}}).bill(asked, Reading(refusal, images, usage, size=size), at=at).cost
    if found is None:
        assert not images
    else:
        assert (found.usd is None) == (found.pricing == "unpriced")
        assert found.usd is None or found.usd >= 0


def google_usage(block: dict[str, Any]) -> Usage:
    """A usageMetadata as docs/savings.md reads it: details name images, the remainder is text."""

    def images(name: str, total: int) -> int | None:
        details = {entry["modality"]: entry["tokenCount"] for entry in block.get(name, [])}
        return details.get("IMAGE", 0 if sum(details.values()) == total else None)

    prompt, candidates = block["promptTokenCount"], block["candidatesTokenCount"]
    image_in, image_out = images("promptTokensDetails", prompt), images("candidatesTokensDetails", candidates)
    total_out = candidates + block.get("thoughtsTokenCount", 0)
    return Usage(
        text_in=None if image_in is None else prompt - image_in,
        image_in=image_in,
        cached_in=block.get("cachedContentTokenCount"),
        text_out=None if image_out is None else total_out - image_out,
        image_out=image_out,
        total_out=total_out,
        total_in=prompt,
        detailed=image_out is not None,
        tier=str(block.get("serviceTier") or block.get("trafficType") or "standard").lower(),
    )


def openai_usage(block: dict[str, Any]) -> Usage:
    details = block.get("output_tokens_details", {})
    return Usage(
        text_in=block["input_tokens_details"]["text_tokens"],
        image_in=block["input_tokens_details"]["image_tokens"],
        text_out=details.get("text_tokens"),
        image_out=details.get("image_tokens"),
        total_out=block["output_tokens"],
        total_in=block["input_tokens"],
        detailed=bool(details),
    )
