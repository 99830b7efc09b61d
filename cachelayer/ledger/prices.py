"""What one forwarded request cost. Pure: the figures come from the answer, the user and tables, never a
network.

Sources in order: the user's price per image for the host (``own_prices``); the usage that the answer
reports, at the list prices bundled with genai-prices; image tokens derived from size and quality, at the
same list prices. What none of them can tell is ``unpriced``, never 0 and never a guess (docs/savings.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal, localcontext
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cachelayer.core.host import spellings
from cachelayer.core.model import Asked, Cost, Reading, Usage
from cachelayer.core.reasons import Reason
from cachelayer.ledger import own_prices

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider

_EXACT: Final = Context(prec=60)
"""Wide enough never to round tokens times prices; the caller's own context may be set to anything."""

_STANDARD_TIERS: Final = frozenset({"standard", "default", "auto", "on_demand"})
"""Names under which OpenAI (default, auto) and Google (standard, ON_DEMAND) sell at the plain list price."""

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
class _Tokens:
    """Billed tokens, and why they may be wrong."""

    text: int
    image: int
    doubts: tuple[str, ...] = ()


class _Unpriced(Exception):
    """Why there is no figure."""


class Prices:
    """Prices by the user's word and by the lists. Immutable, safe for threads.

    prices: the ``prices`` setting (grammar in ``own_prices``). Raises ConfigError when it is wrong.
    """

    def __init__(self, prices: Mapping[str, Any] | None = None) -> None:
        self._rules = own_prices.parse(prices or {})

    def cost(self, asked: Asked, reading: Reading, *, at: float) -> Cost | None:
        """What the answer cost. None: nothing was billed (an error status or a block, without tokens and
        images; at a price per image, an answer without images).

        A refused or truncated answer is priced like a good one: it was billed. at: unix seconds, as list
        prices have dates. Never raises for any answer. The first call imports genai-prices (0.3 s).
        """
        own = own_prices.find(
            self._rules,
            spellings(asked.host, asked.scope),
            _spellings(asked.model),
            asked.operation,
            reading.size or asked.size,
        )
        per_image = own if isinstance(own, Decimal) and asked.operation == "image" else None
        nothing = not reading.images if per_image is not None else not reading.images and not _has_tokens(reading.usage)
        if nothing:
            if _unbilled(reading.refusal, flat=per_image is not None):
                return None
            return Cost(None, "unpriced", "the answer does not say what was billed")
        if per_image is not None:
            usd = _EXACT.multiply(per_image, Decimal(reading.images))
            return Cost(usd, "exact", f"price per image for {asked.host}")
        try:
            return _list_cost(asked, reading, at, trusted=own == "list")
        except _Unpriced as reason:
            return Cost(None, "unpriced", str(reason))


def _list_cost(asked: Asked, reading: Reading, at: float, *, trusted: bool) -> Cost:
    provider, model = _find_model(asked.model)
    doubts: list[str] = []
    if not trusted and not _is_home(provider.id, asked.host):
        doubts.append(f"list price of {provider.id}, {asked.host or 'the host'} may charge another")
    if asked.refusal == Reason.STATEFUL:
        doubts.append("tools and stored context are not counted")
    when = datetime.fromtimestamp(at, UTC)
    usage = reading.usage or Usage()
    context, doubt = _context(model, usage.tier or asked.tier, when)
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
        with localcontext(_EXACT):
            priced = model.calc_price(counts, provider, genai_request_timestamp=when, price_context=context)
    except ValueError:
        raise _Unpriced("the usage block does not add up") from None
    if doubts:
        return Cost(priced.total_price, "estimated", "; ".join(doubts))
    return Cost(priced.total_price, "exact", f"reported usage at the list price of {provider.id}")


def _input(asked: Asked, usage: Usage, rates: ModelPrice) -> _Tokens:
    text, image, total = usage.text_in, usage.image_in, usage.total_in
    if text is None and image is None:
        if total is None:
            return _Tokens(0, 0, ("input tokens are not reported",))
        # Without a rate of its own an input image costs what text costs, and the split does not matter.
        if asked.references and rates.input_image_mtok is not None:
            raise _Unpriced("the usage block does not tell image input from text input")
        return _Tokens(total, 0)
    text, image = text or 0, image or 0
    if total is not None and total != text + image:
        if total < text + image:
            raise _Unpriced("the usage block does not add up")
        return _Tokens(total - image, image, ("some input tokens are of no known kind",))
    return _Tokens(text, image)


def _output(asked: Asked, reading: Reading, usage: Usage, model: ModelInfo, rates: ModelPrice) -> _Tokens:
    total = usage.total_out
    if total is None:
        total = (usage.text_out or 0) + (usage.image_out or 0)
    image = usage.image_out or 0
    # The Images API's models have one output rate or an image rate; of all others, an image needs a rate of its own.
    all_image = model.id.startswith(("gpt-image", "chatgpt-image"))
    if (reading.images or image) and rates.output_image_mtok is None and not all_image:
        raise _Unpriced(f"no list price for the image output of {model.id}")
    if usage.detailed and (image or not reading.images):
        text = total - image if usage.text_out is None else usage.text_out
        if text + image != total:
            raise _Unpriced("the usage block does not add up")
        return _Tokens(text, image)
    if total and rates.output_image_mtok is None:
        return _Tokens(total, 0)
    if total and all_image:
        return _Tokens(0, total, ("no output details, all output taken for image tokens",))
    if not total and not reading.images:
        return _Tokens(0, 0)
    return _derived(asked, reading, total, model)


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
    cached = usage.cached_in or 0
    if not cached:
        return {}, ()
    if rates.cache_read_mtok is None:
        return {}, ("cached input at the full price, no other is listed",)
    if incoming.image and rates.cache_image_read_mtok is not None:
        # Which of the two was cached is not said.
        image = max(0, cached - incoming.text)
        counts = {"cache_read_tokens": cached, "cache_image_read_tokens": image}
        return counts, ("cached input taken for text",)
    return {"cache_read_tokens": cached}, ()


def _context(model: ModelInfo, tier: str | None, when: datetime) -> tuple[dict[str, str], tuple[str, ...]]:
    """The price context of a service tier; a doubt where the list has no price for it (it would silently be
    the standard one)."""
    # Vertex: ON_DEMAND_FLEX, ON_DEMAND_PRIORITY.
    tier = (tier or "standard").lower().removeprefix("on_demand_")
    if tier in _STANDARD_TIERS:
        return {}, ()
    if tier == "provisioned_throughput":
        raise _Unpriced("provisioned throughput is not paid by the request")
    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    for variant in model.price_variants or ():
        if variant.when == context and (variant.constraint is None or variant.constraint.active(when)):
            return context, ()
    return {}, (f"no {tier} price is listed, standard price taken",)


def _has_tokens(usage: Usage | None) -> bool:
    if usage is None:
        return False
    return any((usage.text_in, usage.image_in, usage.total_in, usage.text_out, usage.image_out, usage.total_out))


def _unbilled(refusal: str | None, *, flat: bool) -> bool:
    """Whether an answer that reports nothing billed is known to be free. One that was cut off is not."""
    if refusal is None:
        return False
    return (
        refusal.startswith("status-")
        or refusal == Reason.BLOCKED
        or (flat and refusal in (Reason.NO_IMAGE, Reason.TRUNCATED))
    )


def _spellings(model: str) -> tuple[str, ...]:
    """A model's name as asked for, and bare: without ``models/`` or the vendor that aggregators put before
    it."""
    bare = model.rsplit("/", 1)[-1]
    return (model,) if bare == model else (model, bare)


def _named(model: str, size: str, quality: str) -> str:
    return f"{model} of size {size or 'unknown'}" + (
        f", quality {quality or 'unknown'}" if model in _GPT_TABLED else ""
    )


def _find_model(name: str) -> tuple[Provider, ModelInfo]:
    bare = _spellings(name)[-1]
    try:
        # By its name alone: an aggregator's own table (openrouter's) has no image rates and would price images as text.
        provider, model = _snapshot().find_provider_model(bare, None, None, None)
    except LookupError:
        raise _Unpriced(f"no list price for {bare or 'an unnamed model'}") from None
    return provider, model


@cache
def _snapshot() -> DataSnapshot:
    # Of our own: genai-prices' default one may have been replaced by an application that updates it over the network.
    from genai_prices.data import providers
    from genai_prices.data_snapshot import DataSnapshot

    return DataSnapshot(providers=providers, from_auto_update=False)


def _is_home(provider: str, host: str) -> bool:
    """Whether a host is the vendor's own, so that the list price is what it charges. Azure has a list of
    its own."""
    if provider == "google":
        return host == "generativelanguage.googleapis.com" or host.endswith("aiplatform.googleapis.com")
    return provider == "openai" and host == "api.openai.com"
