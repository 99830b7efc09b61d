"""What an answer of Gemini's generateContent means: good or why not, what was billed, where its images lie."""

from __future__ import annotations

from typing import Final

from cachelayer.core.model import Answer, Asked, Json, Reading, Usage
from cachelayer.core.reasons import Reason, status_reason
from cachelayer.dialects.answer import is_image_data, listing, mapping, open_body, tokens
from cachelayer.dialects.media import Piece

_BLOCKED: Final = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "MODEL_ARMOR",
        "ESCALATION",
    }
)
"""Finish reasons that say the answer was withheld (google-genai 3.6.1, types.py, FinishReason)."""
_NO_IMAGE: Final = frozenset({"NO_IMAGE", "IMAGE_OTHER"})


def read(asked: Asked, answer: Answer) -> Reading:
    """Judge an answer. Takes one parse; never raises."""
    opened = open_body(answer)
    if opened is None:
        return Reading(status_reason(answer.status) if answer.status != 200 else Reason.INCOMPLETE)
    document = opened.document
    candidates = [mapping(candidate) for candidate in listing(document.get("candidates"))]
    images: dict[int, str] = {}
    counts = []
    by_url = False
    for candidate in candidates:
        found = 0
        for part in listing(mapping(candidate.get("content")).get("parts")):
            by_url = by_url or bool(mapping(part).get("fileData"))
            blob = mapping(mapping(part).get("inlineData"))
            mime = blob.get("mimeType")
            if not isinstance(mime, str) or not mime.startswith("image/") or part.get("thought") is True:
                continue
            data = blob.get("data")
            if not is_image_data(data):
                found = -1
                break
            found += 1
            if isinstance(data, Piece):
                images[data.start] = mime
        counts.append(found)
    return Reading(
        refusal=_refusal(asked, answer, document, candidates, counts, by_url),
        images=sum(found for found in counts if found > 0),
        usage=_usage(document.get("usageMetadata")),
        spans=opened.spans(images),
    )


def _refusal(
    asked: Asked, answer: Answer, document: Json, candidates: list[dict[str, Json]], counts: list[int], by_url: bool
) -> str | None:
    if answer.status != 200:
        return status_reason(answer.status)
    if mapping(document.get("promptFeedback")).get("blockReason"):
        return Reason.BLOCKED
    reasons = [candidate.get("finishReason") for candidate in candidates]
    if any(reason in _BLOCKED for reason in reasons if isinstance(reason, str)):
        return Reason.BLOCKED
    if "MAX_TOKENS" in reasons:
        return Reason.TRUNCATED
    if any(reason in _NO_IMAGE for reason in reasons if isinstance(reason, str)):
        return Reason.NO_IMAGE
    if not candidates or "error" in document or any(reason != "STOP" for reason in reasons) or -1 in counts:
        return Reason.INCOMPLETE
    if asked.operation != "image":
        said = [
            any(mapping(part).get("thought") is not True for part in listing(mapping(one.get("content")).get("parts")))
            for one in candidates
        ]
        return None if all(said) and len(candidates) >= asked.count else Reason.INCOMPLETE
    if by_url:
        return Reason.IMAGE_URL
    if not any(counts):
        return Reason.NO_IMAGE
    return None if all(counts) and len(candidates) >= asked.count else Reason.INCOMPLETE


def _usage(value: Json) -> Usage | None:
    if not isinstance(value, dict):
        return None
    prompt = tokens(value.get("promptTokenCount"))
    tools = tokens(value.get("toolUsePromptTokenCount"))
    total_in = None if prompt is None else prompt + (tools or 0)
    candidates, thoughts = tokens(value.get("candidatesTokenCount")), tokens(value.get("thoughtsTokenCount"))
    total_out = None if candidates is None and thoughts is None else (candidates or 0) + (thoughts or 0)
    image_in = _image_tokens(value.get("promptTokensDetails"), prompt)
    image_out = _image_tokens(value.get("candidatesTokensDetails"), candidates)
    tier = value.get("serviceTier") or value.get("trafficType")
    return Usage(
        text_in=None if image_in is None or total_in is None else total_in - image_in,
        image_in=image_in,
        cached_in=tokens(value.get("cachedContentTokenCount")),
        text_out=None if image_out is None or total_out is None else total_out - image_out,
        image_out=image_out,
        total_out=total_out,
        total_in=total_in,
        detailed=image_out is not None,
        tier=tier.lower() if isinstance(tier, str) else None,
    )


def _image_tokens(details: Json, total: int | None) -> int | None:
    """Image tokens of a total, by its details; None when they do not say.

    Details need not add up: recorded answers list IMAGE 1120 of 1283 and leave the text out. Without an IMAGE entry
    they say "none" only if the others account for the whole.
    """
    if total is None:
        return None
    entries = [(mapping(entry).get("modality"), tokens(mapping(entry).get("tokenCount"))) for entry in listing(details)]
    named = [count for modality, count in entries if modality == "IMAGE"]
    if named:
        image = sum(count or 0 for count in named)
        return image if image <= total else None
    return 0 if entries and sum(count or 0 for _, count in entries) == total else None
