"""What the usage block of an OpenAI-like answer says was billed: by the Images API's names (input, output) or those of
chat completions (prompt, completion). Only its field names live here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cachelayer.core.model import Json, Usage
from cachelayer.dialects.wire.loose import mapping
from cachelayer.dialects.wire.usage import IMAGE, OTHER, TEXT, Kinds, by_kind, cached_by_kind, tier_of, tokens, usage

_IN: Final = ("input", "prompt")
_OUT: Final = ("output", "completion")
_KINDS: Final = {"text_tokens": TEXT, "image_tokens": IMAGE}
_NO_KINDS: Final = frozenset(
    {
        "cached_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "cache_creation_tokens",
        "reasoning_tokens",
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
    }
)
"""Names in the details that count tokens of some kind a second time."""


def usage_of(document: dict[str, Json]) -> Usage | None:
    """None where the answer has no usage block."""
    block = document.get("usage")
    if not isinstance(block, dict):
        return None
    total_in, total_out = _total(block, _IN), _total(block, _OUT)
    details_in, details_out = _details(block, _IN), _details(block, _OUT)
    incoming = by_kind(total_in, _named(details_in))
    outgoing = _outgoing(total_out, details_out)
    inside = mapping(details_in.get("cached_tokens_details"))
    return usage(
        incoming,
        outgoing,
        cached_by_kind(tokens(details_in.get("cached_tokens")), [*_named(inside)]),
        total_in=total_in,
        total_out=total_out,
        total=block.get("total_tokens"),
        tier=tier_of(document.get("service_tier"), block.get("service_tier")),
    )


def _total(block: dict[str, Json], sides: tuple[str, ...]) -> int | None:
    """Some gateways send both names and fill the one that they do not use with 0."""
    said = {count for side in sides if (count := tokens(block.get(f"{side}_tokens"))) is not None}
    if len(said) > 1:
        said.discard(0)
    return said.pop() if len(said) == 1 else None


def _details(block: dict[str, Json], sides: tuple[str, ...]) -> dict[str, Json]:
    return next((found for side in sides if (found := mapping(block.get(f"{side}_tokens_details")))), {})


def _named(details: dict[str, Json]) -> Iterator[tuple[str, int]]:
    for name, value in details.items():
        count = tokens(value)
        if count is not None and name.endswith("_tokens") and name not in _NO_KINDS:
            yield _KINDS.get(name, OTHER), count


def _outgoing(total: int | None, details: dict[str, Json]) -> Kinds:
    named = [*_named(details)]
    reasoning = tokens(details.get("reasoning_tokens"))
    if reasoning is not None and sum(count for _, count in named) + reasoning == total:
        # Reasoning is text. It counts apart only where that accounts for the whole; else text_tokens may include it.
        named.append((TEXT, reasoning))
    return by_kind(total, named)
