"""What an answer of Gemini's generateContent means: good or why not, what was billed, where its images lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cachelayer.core.model import Asked, Json
from cachelayer.core.reasons import Reason
from cachelayer.dialects.dialect import Said
from cachelayer.dialects.gemini.usage import usage_of
from cachelayer.dialects.wire import verdict
from cachelayer.dialects.wire.loose import either, listing, mapping
from cachelayer.dialects.wire.pictures import Delivered, container_in

_ANY_TYPE: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""Types that say nothing: what is asked for as an image and comes as one of them claims to be one."""
_CONTENT: Final = frozenset({"content", "candidates"})
_OF_A_PART: Final = frozenset({"text", "functionResponse", "function_response", "codeExecutionResult"})


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One of the answers in an answer."""

    images: int
    """Delivered whole."""
    against: Reason | None
    has_finished: bool
    """Whether it says how it ended."""
    says: bool
    """Whether it holds more than thoughts."""


def read(asked: Asked, document: dict[str, Json], delivered: Delivered) -> Said:
    """What a document says; its images are added to what is delivered."""
    candidates = [_candidate(asked, mapping(one), delivered) for one in listing(document.get("candidates"))]
    block = either(document, "usageMetadata")
    against = _against(asked, document, candidates, delivered)
    return Said(against, usage_of(block), block, model=either(document, "modelVersion"))


def _candidate(asked: Asked, fields: dict[str, Json], delivered: Delivered) -> _Candidate:
    before = delivered.whole
    says = False
    against: list[Reason | None] = [*verdict.of_fields(fields, without=_CONTENT)]
    for part in map(mapping, listing(mapping(fields.get("content")).get("parts"))):
        if part.get("thought") is True:
            continue
        says = True
        against += verdict.of_fields(part, without=_OF_A_PART)
        delivered.links += bool(either(part, "fileData"))
        blob = mapping(either(part, "inlineData"))
        if blob and _is_claimed_image(asked, blob):
            delivered.add(blob.get("data"))
    finish = either(fields, "finishReason")
    has_finished = isinstance(finish, str) and finish != "" and not verdict.is_unspecified(finish)
    return _Candidate(delivered.whole - before, verdict.worst(against), has_finished, says)


def _is_claimed_image(asked: Asked, blob: dict[str, Json]) -> bool:
    """Whether a blob is an image by its content, or claims to be one."""
    said = either(blob, "mimeType")
    mime = said.strip().lower() if isinstance(said, str) else ""
    if mime.startswith("image/") or (mime in _ANY_TYPE and asked.operation == "image"):
        return True
    return container_in(blob.get("data"))[1] is not None


def _against(asked: Asked, document: dict[str, Json], candidates: list[_Candidate], delivered: Delivered) -> str | None:
    against = verdict.worst([*verdict.of_fields(document, without=_CONTENT), *(one.against for one in candidates)])
    if against is not None:
        return against
    if not candidates or delivered.unreadable:
        return Reason.INCOMPLETE
    if delivered.not_whole:
        return Reason.NOT_AN_IMAGE
    # A whole image is whole, whether or not its candidate says that it has ended; of text nothing else tells.
    if any(not one.has_finished and not (one.images and asked.operation == "image") for one in candidates):
        return Reason.INCOMPLETE
    if asked.operation != "image":
        return None if all(one.says for one in candidates) and len(candidates) >= asked.count else Reason.INCOMPLETE
    if delivered.links:
        return Reason.IMAGE_URL
    if not delivered.whole:
        return Reason.NO_IMAGE
    return None if all(one.images for one in candidates) and len(candidates) >= asked.count else Reason.INCOMPLETE
