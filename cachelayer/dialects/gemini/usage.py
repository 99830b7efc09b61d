"""What Gemini's usageMetadata says was billed. Only its field names live here, in both spellings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from cachelayer.core.model import Json, Usage
from cachelayer.dialects.wire.loose import either, listing, mapping
from cachelayer.dialects.wire.usage import IMAGE, OTHER, TEXT, by_kind, cached_by_kind, tier_of, tokens, usage

_KINDS: Final = {"TEXT": TEXT, "IMAGE": IMAGE}
_UNSAID: Final = ("", "MODALITY_UNSPECIFIED")


def usage_of(value: Json) -> Usage | None:
    """None for what is no usage block."""
    if not isinstance(value, dict):
        return None
    prompt = tokens(either(value, "promptTokenCount"))
    tools = tokens(either(value, "toolUsePromptTokenCount")) or 0
    total_in = None if prompt is None else prompt + tools
    candidates = tokens(either(value, "candidatesTokenCount"))
    thoughts = tokens(either(value, "thoughtsTokenCount"))
    total_out = None if candidates is None and thoughts is None else (candidates or 0) + (thoughts or 0)
    told = [*_details(value, "promptTokensDetails")]
    incoming = by_kind(total_in, [*told, *_details(value, "toolUsePromptTokensDetails")] if told else [])
    outgoing = by_kind(candidates, _details(value, "candidatesTokensDetails"))
    if outgoing.text is not None:
        outgoing = replace(outgoing, text=outgoing.text + (thoughts or 0))
    cached = cached_by_kind(tokens(either(value, "cachedContentTokenCount")), [*_details(value, "cacheTokensDetails")])
    return usage(
        incoming,
        outgoing,
        cached,
        total_in=total_in,
        total_out=total_out,
        total=either(value, "totalTokenCount"),
        tier=tier_of(either(value, "serviceTier"), either(value, "trafficType")),
    )


def _details(block: dict[str, Json], name: str) -> Iterator[tuple[str, int]]:
    """(kind, tokens) of a list of modalities. An entry that names none is left out: a remainder."""
    for entry in map(mapping, listing(either(block, name))):
        modality, count = entry.get("modality"), tokens(either(entry, "tokenCount"))
        if isinstance(modality, str) and modality.upper() not in _UNSAID and count is not None:
            yield _KINDS.get(modality.upper(), OTHER), count
