"""Service tiers, by the one name that OpenAI's, Google's and Vertex's spellings of them share. Pure."""

from __future__ import annotations

from typing import Final

_STANDARD: Final = frozenset(
    {"", "standard", "default", "auto", "on_demand", "unspecified", "traffic_type_unspecified"}
)
"""Names under which OpenAI (default, auto) and Google (standard, ON_DEMAND) sell at the plain list price."""


def plain_tier(tier: str | None) -> str:
    """``standard``, ``flex``, ``priority``, ``batch``, ...: of ``SERVICE_TIER_FLEX``, ``ON_DEMAND_FLEX`` and ``flex``
    the same. None, an omitted tier, is standard."""
    if tier is None:
        return "standard"
    name = tier.strip().lower().replace("-", "_")
    name = name.removeprefix("service_tier_")
    return "standard" if name in _STANDARD else name.removeprefix("on_demand_")
