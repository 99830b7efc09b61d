"""What usage blocks of all formats have in common: kinds of tokens, tiers, and what an answer says it cost. What may
live here: arithmetic on what a block names; no wire format's field names, except those by which gateways of any format
tell a cost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from cachelayer.core.model import Answer, Json, Usage

TEXT: Final = "text"
IMAGE: Final = "image"
OTHER: Final = "other"
_GREATEST_COST: Final = Decimal(1_000_000)
"""USD. What claims to have cost more is no cost (DESIGN section 6)."""
_LONGEST_NAME: Final = 200
_NUMBER = re.compile(r"[0-9]{1,40}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,3})?")
_TICKS: Final = Decimal("1e-10")
"""USD; the unit of xAI's ``cost_in_usd_ticks``."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """Tokens of one total by kind. None: not said. What they leave of the total is of no known kind."""

    text: int | None = None
    image: int | None = None
    other: int | None = None
    """Audio, video, documents and whatever else a block names. None where it names none."""
    overfull: bool = False
    """More is named than there is."""


def by_kind(total: int | None, named: Iterable[tuple[str, int]]) -> Kinds:
    """What a block names of a total. Text and images that it does not name are 0 where the named kinds account for the
    whole, and unknown otherwise: a remainder is never taken for a kind. Nothing is known where it names more than there
    is.
    """
    sums: dict[str, int] = {}
    for kind, count in named:
        sums[kind] = sums.get(kind, 0) + count
    whole = sum(sums.values())
    if total is None or not sums:
        return Kinds()
    if whole > total:
        return Kinds(overfull=True)
    rest = 0 if whole == total else None
    return Kinds(sums.get(TEXT, rest), sums.get(IMAGE, rest), sums.get(OTHER))


def cached_by_kind(total: int | None, named: list[tuple[str, int]]) -> tuple[int | None, Kinds]:
    """Cached input and its kinds. Where only the kinds are named, the total is theirs."""
    if total is None and named:
        total = sum(count for _, count in named)
    return total, by_kind(total, named)


def usage(
    incoming: Kinds,
    outgoing: Kinds,
    cached: tuple[int | None, Kinds],
    *,
    total_in: int | None,
    total_out: int | None,
    total: Json,
    tier: str | None,
) -> Usage:
    """The usage of an answer. total: of input and output together, as the block says it."""
    cached_in, cached_kinds = cached
    return Usage(
        text_in=incoming.text,
        image_in=incoming.image,
        other_in=incoming.other,
        cached_in=cached_in,
        cached_text_in=cached_kinds.text,
        cached_image_in=cached_kinds.image,
        cached_other_in=cached_kinds.other,
        text_out=outgoing.text,
        image_out=outgoing.image,
        other_out=outgoing.other,
        total_out=total_out,
        total_in=total_in,
        detailed=outgoing.image is not None,
        tier=tier,
        overfull=incoming.overfull or outgoing.overfull,
        adds_up=adds_up(total, total_in, total_out),
    )


def adds_up(total: Json, incoming: int | None, outgoing: int | None) -> bool:
    """Whether a block's own total of everything is the sum of its parts. True where it does not say all three."""
    said = tokens(total)
    return said is None or incoming is None or outgoing is None or said == incoming + outgoing


def tokens(value: Json) -> int | None:
    """A token count; None for anything but an integer of at least 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def tier_of(*values: Json) -> str | None:
    """The first service tier that is named, lower case and without its enum's prefix: ``SERVICE_TIER_FLEX`` is
    ``flex``. Vertex' traffic types keep theirs (``on_demand_flex``)."""
    for value in values:
        if isinstance(value, str):
            tier = value.strip().lower().replace("-", "_").removeprefix("service_tier_")
            if tier and not tier.endswith("unspecified"):
                return tier
    return None


def name_of(value: Json) -> str | None:
    """A name (of a model, a size) as an answer spells it; None for what is none that could be written down."""
    name = value.strip() if isinstance(value, str) else ""
    return name if name and name.isprintable() and len(name) <= _LONGEST_NAME else None


def cost_of(answer: Answer, block: Json) -> Decimal | None:
    """What an answer itself says it cost, in USD; None when it does not say, or says what no cost can be.

    block: its usage block, whose fractions were parsed to Decimals. The body goes before the header: the one who
    charges wrote it, while a gateway on the way only reckoned.
    """
    named = block if isinstance(block, dict) else {}
    cost = _usd(named.get("cost"))
    if cost is not None and named.get("is_byok") is True:
        # OpenRouter with the user's own key at the vendor: `cost` is its fee, the vendor charges the rest himself.
        details = named.get("cost_details")
        upstream = _usd(details.get("upstream_inference_cost")) if isinstance(details, dict) else None
        cost = None if upstream is None else _usd(cost + upstream)
    if cost is None:
        ticks = tokens(named.get("cost_in_usd_ticks"))
        cost = None if ticks is None or ticks > _GREATEST_COST / _TICKS else _usd(ticks * _TICKS)
    return _usd(answer.header("x-litellm-response-cost")) if cost is None else cost


def _usd(value: Json) -> Decimal | None:
    if isinstance(value, str):
        value = value.strip()
        if not _NUMBER.fullmatch(value):
            return None
    elif isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    try:
        cost = Decimal(value)
    except InvalidOperation:
        return None
    return cost if cost.is_finite() and 0 <= cost <= _GREATEST_COST else None
