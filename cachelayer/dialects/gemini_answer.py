"""What an answer of Gemini's generateContent means: good or why not, what was billed, where its images lie."""

from __future__ import annotations

from typing import Final

from cachelayer.core.model import Answer, Asked, Json, Reading
from cachelayer.core.reasons import Reason, status_reason
from cachelayer.dialects.answer import either, is_image_data, listing, mapping, open_body
from cachelayer.dialects.gemini_usage import usage_of
from cachelayer.dialects.media import Piece
from cachelayer.dialects.usage import cost_of, name_of

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
    block = either(document, "usageMetadata")
    return Reading(
        refusal=_refusal(asked, answer, document, candidates, counts, by_url),
        images=sum(found for found in counts if found > 0),
        usage=usage_of(block),
        spans=opened.spans(images),
        model=name_of(either(document, "modelVersion")),
        cost=cost_of(answer, block),
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
