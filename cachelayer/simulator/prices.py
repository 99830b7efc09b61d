"""List prices by which the simulator bills its own usage blocks. A second opinion on the ledger: it shares
no code with it and asks no price library.

Source: the vendors' pricing pages, as collected in genai-prices 0.2.3 (SDK-FACTS). USD per million tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one answer, disjoint. Thinking is text output."""

    text_in: int = 0
    image_in: int = 0
    text_out: int = 0
    image_out: int = 0


_PER_MILLION: dict[str, tuple[str, str, str, str]] = {
    # model: text in, image in, text out, image out; a longer name wins over its own beginning
    "gemini-3-pro-image": ("2", "2", "12", "120"),
    "gemini-3.1-flash-image": ("0.5", "0.5", "3", "60"),
    "gemini-2.5-flash-image": ("0.3", "0.3", "2.5", "30"),
    "gemini-2.5-flash": ("0.3", "0.3", "2.5", "2.5"),
    "gpt-image-1": ("5", "10", "40", "40"),
    "gpt-image-1-mini": ("2", "2.5", "8", "8"),
    "gpt-image-1.5": ("5", "8", "10", "32"),
    "gpt-image-2": ("5", "8", "30", "30"),
}


def bill(model: str, tokens: Tokens) -> Decimal:
    """What an answer costs at list price, USD; 0 for a model that is not in the list above."""
    known = max((name for name in _PER_MILLION if model.startswith(name)), key=len, default=None)
    if known is None:
        return Decimal(0)
    text_in, image_in, text_out, image_out = (Decimal(price) for price in _PER_MILLION[known])
    return (
        tokens.text_in * text_in
        + tokens.image_in * image_in
        + tokens.text_out * text_out
        + tokens.image_out * image_out
    ) / 1_000_000
