"""How amounts of money are kept: exact decimals of USD, rounded once, where they are priced, and bounded. Pure."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from cachelayer.core.model import Cost, Pricing

LARGEST_USD: Final = Decimal(1_000_000)
"""Of one price and of one cost. What claims more is no price: a wrong count, or a joke."""

EXACT: Final = Context(prec=120, rounding=ROUND_HALF_EVEN)
"""Wide enough for whatever is multiplied here; the caller's own context may be set to anything."""

_SMALLEST: Final = Decimal("1E-12")
"""USD. All list prices are exact in it, and a sum of what is a multiple of it has a bounded number of digits."""


def rounded(usd: Decimal) -> Decimal:
    """An amount half-even to 10^-12 USD; one that has no more decimals stays as it is."""
    exponent = usd.as_tuple().exponent
    return usd.quantize(_SMALLEST, context=EXACT) if isinstance(exponent, int) and exponent < -12 else usd


def digits(usd: Decimal) -> str:
    """An amount in plain digits, never in exponent notation, without zeros that say nothing: ``0.134``."""
    text = format(usd, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def priced(usd: Decimal, pricing: Pricing, reason: str) -> Cost:
    """A cost with a figure: rounded here and nowhere later. ``unpriced`` where the figure cannot be one."""
    if usd > LARGEST_USD:
        return Cost(None, "unpriced", f"above ${LARGEST_USD:,} for one answer")
    return Cost(rounded(usd), pricing, reason)
