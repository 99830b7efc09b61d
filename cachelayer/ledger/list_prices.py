"""List prices: what a vendor charges for the tokens that an answer reports, or that its size and quality stand for.
Pure, and offline: the figures are those bundled with genai-prices, for the model and the day.

What may live here: from tokens to a figure, and every doubt about it. Whose price counts is decided in prices.py.
A figure without doubts is ``exact``; tokens of which the price is not known are a doubt, or no figure at all where the
error could be tenfold (an image token costs ten times a text token).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import localcontext
from functools import cache
from typing import TYPE_CHECKING, Final

from cachelayer.core.model import Asked, Cost, Reading, Usage
from cachelayer.core.money import EXACT, priced
from cachelayer.core.reasons import Reason
from cachelayer.ledger.tiers import plain_tier

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider

_GEMINI_IMAGE_TOKENS: Final[Mapping[str, Mapping[str, int]]] = {
    # By the id genai-prices gives a model and its previews; "*" where every size takes the same.
    # https://ai.google.dev/gemini-api/docs/pricing (a 1K or 2K image is 1120 tokens, a 4K image 2000)
    "gemini-3-pro-image-preview": {"1k": 1120, "2k": 1120, "4k": 2000},
    # https://docs.cloud.google.com/vertex-ai/generative-ai/docs/models/gemini/3-1-flash-image
    "gemini-3.1-flash-image-preview": {"512": 747, "1k": 1120, "2k": 1680, "4k": 2520},
    # https://ai.google.dev/gemini-api/docs/image-generation (1290 at every aspect ratio)
    "gemini-2.5-flash-image": {"*": 1290},
}
_GPT_SIZES: Final = ("1024x1024", "1024x1536", "1536x1024")
_GPT_IMAGE_TOKENS: Final[Mapping[str, Mapping[str, int]]] = {
    # https://platform.openai.com/docs/guides/image-generation#cost-and-latency. gpt-image-1-mini is left out, as its
    # page gives prices per image that these counts do not yield; gpt-image-2 takes any size and publishes no table.
    "low": dict(zip(_GPT_SIZES, (272, 408, 400), strict=True)),
    "medium": dict(zip(_GPT_SIZES, (1056, 1584, 1568), strict=True)),
    "high": dict(zip(_GPT_SIZES, (4160, 6240, 6208), strict=True)),
}
_GPT_TABLED: Final = ("gpt-image-1", "gpt-image-1.5")


@dataclass(frozen=True, slots=True)
class Listed:
    """A figure at the list price, as if the host that was called charged it. vendor: whose list, None without one."""

    cost: Cost
    vendor: str | None = None


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Billed tokens, and why they may be wrong."""

    text: int
    image: int
    doubts: tuple[str, ...] = ()


class _Unpriced(Exception):
    """Why there is no figure."""


class _NotListed(_Unpriced):
    """The list has no price for this model."""


def list_cost(asked: Asked, reading: Reading, *, at: float) -> Listed:
    """What the answer cost at the list price of its model. Never raises for any answer.

    The model is the one asked for; where that has no price (an alias, a deployment), the one the answer names.
    at: unix seconds, as list prices have dates. The first call imports genai-prices (0.3 s).
    """
    try:
        return _list_cost(asked, reading, asked.model, at)
    except _NotListed as reason:
        if reading.model is None or bare_name(reading.model) == bare_name(asked.model):
            return Listed(Cost(None, "unpriced", str(reason)))
        try:
            return _list_cost(asked, reading, reading.model, at)
        except _NotListed:
            return Listed(Cost(None, "unpriced", str(reason)))
        except _Unpriced as other:
            return Listed(Cost(None, "unpriced", str(other)))
    except _Unpriced as reason:
        return Listed(Cost(None, "unpriced", str(reason)))


def bare_name(model: str) -> str:
    """A model's name without ``models/`` or the vendor that aggregators put before it."""
    return model.rsplit("/", 1)[-1]


def _list_cost(asked: Asked, reading: Reading, named: str, at: float) -> Listed:
    provider, model = _find_model(named)
    doubts: list[str] = []
    if asked.never_cached == Reason.STATEFUL:
        doubts.append("tools and stored context are not counted")
    when = datetime.fromtimestamp(at, UTC)
    usage = reading.usage or Usage()
    if usage.overfull:
        raise _Unpriced("the usage block names more tokens by kind than in all")
    if not usage.adds_up:
        doubts.append("the usage block's total is not the sum of its parts")
    context, doubt = _context(model, plain_tier(usage.tier or asked.tier), when)
    doubts += doubt
    rates = model.get_prices(when, context)
    incoming = _input(asked, usage, rates)
    outgoing = _output(asked, reading, usage, model, rates)
    cached, doubt = _cached(usage, incoming, rates)
    doubts += (*incoming.doubts, *outgoing.doubts, *doubt)

    from genai_prices import Usage as Counts

    counts = Counts(
        input_tokens=incoming.text + incoming.image,
        input_image_tokens=incoming.image,
        output_tokens=outgoing.text + outgoing.image,
        output_image_tokens=outgoing.image,
        **cached,
    )
    try:
        with localcontext(EXACT):
            usd = model.calc_price(counts, provider, genai_request_timestamp=when, price_context=context).total_price
    except ValueError:
        raise _Unpriced("the usage block does not add up") from None
    facts = [] if doubts else [f"reported usage at the list price of {provider.id}"]
    if named != asked.model:
        facts.append(f"priced as {bare_name(named)}, the model that the answer names")
    return Listed(priced(usd, "estimated" if doubts else "exact", "; ".join(facts + doubts)), provider.id)


def _input(asked: Asked, usage: Usage, rates: ModelPrice) -> _Tokens:
    text, image, other = usage.text_in or 0, usage.image_in or 0, usage.other_in or 0
    total = usage.total_in
    if total is None and not (text or image or other):
        if usage.text_in is None and usage.image_in is None:
            return _Tokens(0, 0, ("input tokens are not reported",))
        total = 0
    total = text + image + other if total is None else total
    rest = total - text - image - other
    if rest < 0:
        raise _Unpriced("the usage block does not add up")
    split = usage.text_in is not None or usage.image_in is not None
    # Without a rate of its own an input image costs what text costs, and the split does not matter.
    if not split and asked.references and rates.input_image_mtok is not None:
        raise _Unpriced("the usage block does not tell image input from text input")
    doubts = _other_kinds(other, "input")
    if rest and (split or other):
        doubts += ("some input tokens are of no known kind",)
    return _Tokens(total - image, image, doubts)


def _output(asked: Asked, reading: Reading, usage: Usage, model: ModelInfo, rates: ModelPrice) -> _Tokens:
    image, other = usage.image_out or 0, usage.other_out or 0
    total = (usage.text_out or 0) + image + other if usage.total_out is None else usage.total_out
    # The Images API's models have one output rate or an image rate; of all others, an image needs a rate of its own.
    all_image = model.id.startswith(("gpt-image", "chatgpt-image"))
    if (reading.images or image) and rates.output_image_mtok is None and not all_image:
        raise _NotListed(f"no list price for the image output of {model.id}")
    doubts = _other_kinds(other, "output")
    if usage.detailed and (image or not reading.images):
        # What the details of an image leave out is text: so Google's recorded answers count it, 1120 of 1283 as IMAGE.
        text = total - image - other if usage.text_out is None else usage.text_out
        if text < 0 or text + image + other != total:
            raise _Unpriced("the usage block does not add up")
        return _Tokens(text + other, image, doubts)
    if total and rates.output_image_mtok is None:
        return _Tokens(total, 0, doubts)
    if total and all_image:
        return _Tokens(0, total, ("no output details, all output taken for image tokens", *doubts))
    if not total and not reading.images:
        return _Tokens(0, 0)
    return _derived(asked, reading, total, model)


def _other_kinds(tokens: int, side: str) -> tuple[str, ...]:
    """The doubt about audio, video and their like: no image model's list has a price for them."""
    # No figure in a reason: the ledger keeps each one once.
    return (f"{side} tokens of a kind without a price of its own, taken for text",) if tokens else ()


def _derived(asked: Asked, reading: Reading, total: int, model: ModelInfo) -> _Tokens:
    """Image tokens by size and quality, held against the total where that is known."""
    size = (reading.size or asked.size or "").lower()
    quality = (reading.quality or asked.quality or "").lower()
    tabled = _GEMINI_IMAGE_TOKENS.get(model.id, {})
    if model.id in _GPT_TABLED:
        tabled = _GPT_IMAGE_TOKENS.get(quality, {})
    each = tabled.get(size, tabled.get("*"))
    if not total:
        if each is None:
            raise _Unpriced(f"no usage in the answer, and no image tokens known for {_named(model.id, size, quality)}")
        return _Tokens(0, each * reading.images, ("no usage in the answer, image tokens by size and quality",))
    if not reading.images:
        if not tabled or total >= min(tabled.values()):
            raise _Unpriced("the usage block does not tell image output from text output")
        return _Tokens(total, 0, ("no modality details, too few tokens for an image",))
    # A size that was left open may still be the only one that fits into the total.
    possible = tabled.values() if size in ("", "auto") else ()
    fitting = {each} if each is not None else set(possible)
    fitting = {tokens for tokens in fitting if tokens * reading.images <= total}
    if len(fitting) != 1:
        raise _Unpriced("the usage block does not tell image output from text output")
    image = fitting.pop() * reading.images
    return _Tokens(total - image, image, ("no modality details, image tokens by size",))


def _cached(usage: Usage, incoming: _Tokens, rates: ModelPrice) -> tuple[dict[str, int], tuple[str, ...]]:
    """The part of the input that the provider had cached, for genai-prices, and the doubts about it."""
    cached = usage.cached_in or 0
    if not cached:
        return {}, ()
    if rates.cache_read_mtok is None:
        return {}, ("cached input at the full price, no other is listed",)
    doubts = _other_kinds(usage.cached_other_in or 0, "cached")
    if rates.cache_image_read_mtok is None or not incoming.image:
        # One price for all that was cached; where images have a price of their own when they are not, a doubt.
        if incoming.image and rates.input_image_mtok is not None:
            doubts += ("cached images at the price of cached text, no other is listed",)
        return {"cache_read_tokens": cached}, doubts
    image = usage.cached_image_in
    if not incoming.text:
        image = cached
    elif image is None or (usage.cached_text_in or 0) + image + (usage.cached_other_in or 0) != cached:
        image = max(image or 0, cached - incoming.text)
        doubts += ("cached input taken for text, its kinds are not told apart",)
    return {"cache_read_tokens": cached, "cache_image_read_tokens": image}, doubts


def _context(model: ModelInfo, tier: str, when: datetime) -> tuple[dict[str, str], tuple[str, ...]]:
    """The price context of a service tier; a doubt where the list has no price for it (it would silently be
    the standard one)."""
    if tier == "standard":
        return {}, ()
    if tier == "provisioned_throughput":
        raise _Unpriced("provisioned throughput is not paid by the request")
    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    for variant in model.price_variants or ():
        if variant.when == context and (variant.constraint is None or variant.constraint.active(when)):
            return context, ()
    return {}, (f"no {tier} price is listed, standard price taken",)


def _named(model: str, size: str, quality: str) -> str:
    return f"{model} of size {size or 'unknown'}" + (
        f", quality {quality or 'unknown'}" if model in _GPT_TABLED else ""
    )


def _find_model(name: str) -> tuple[Provider, ModelInfo]:
    bare = bare_name(name)
    try:
        # By its name alone: an aggregator's own table (openrouter's) has no image rates and would price images as text.
        provider, model = _snapshot().find_provider_model(bare, None, None, None)
    except LookupError:
        raise _NotListed(f"no list price for {bare or 'an unnamed model'}") from None
    return provider, model


@cache
def _snapshot() -> DataSnapshot:
    # Of our own: genai-prices' default one may have been replaced by an application that updates it over the network.
    from genai_prices.data import providers
    from genai_prices.data_snapshot import DataSnapshot

    return DataSnapshot(providers=providers, from_auto_update=False)
