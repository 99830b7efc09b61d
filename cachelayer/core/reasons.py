"""Why a request was not looked up, an answer not stored, or nothing good came: the one list of reasons.

Every reason that stands in a header, a ledger line, a report or a log is a member here, with what it means and what to
do about it; all of those take their words from this file. Only the list lives here, no decision.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self

_STATUS = "status-"


class Reason(StrEnum):
    """A reason. Its value is the word in headers, ledger and JSON.

    meaning: one clause for people. remedy: what the reader can do about it, one clause; "" where there is nothing.
    """

    meaning: str
    remedy: str

    def __new__(cls, value: str, meaning: str, remedy: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning, member.remedy = meaning, remedy
        return member

    # A request that is not looked up
    UNRECOGNISED = "unrecognised", "no image call that cachelayer knows"
    MALFORMED = "malformed", "the request cannot be read", "compare its body with the provider's documentation"
    CONTENT_TYPE = "content-type", "the body is neither JSON nor a form", "send content-type: application/json"
    CONTENT_ENCODING = "content-encoding", "the request's body is compressed", "send the body uncompressed"
    BODY_TOO_LARGE = "body-too-large", "the request is larger than max_body", "raise the setting max_body"
    BODY_NOT_REPLAYABLE = (
        "body-not-replayable",
        "the body is a stream that can be sent only once",
        "give the body as bytes",
    )
    OPERATION_OFF = "operation-off", "an operation that is not cached", "name it in the setting operations"
    STATEFUL = "stateful", "the answer depends on more than the request"
    REFERENCE_UNKNOWN = (
        "reference-unknown",
        "a reference image by URL, whose content is not known",
        "send the image's bytes with the request",
    )
    STREAM = "stream", "streams are passed through", "ask without streaming"
    NOT_ASYNCIO = "not-asyncio", "an event loop that is not asyncio's", "run the client under asyncio"
    DISABLED = "disabled", "the cache is switched off", "unset CACHELAYER_DISABLED"
    CLOSED = "closed", "the cache was closed", "make a new Cache"

    # An answer that is not stored
    BLOCKED = "blocked", "the provider refused the content"
    TRUNCATED = "truncated", "the answer was cut short by a limit"
    NO_IMAGE = "no-image", "the answer has fewer images than were asked for"
    INCOMPLETE = "incomplete", "the answer broke off"
    IMAGE_URL = "image-url", "the answer holds links that expire, not images", 'ask for response_format="b64_json"'
    NO_ROOM = (
        "no-room",
        "the answer does not fit in the size limit, or the disk is full",
        "raise the setting size_limit",
    )
    TIER_DOWN = "tier-down", "the store could not be used", "run cachelayer doctor"

    # No good answer
    RAISED = "raised", "the call raised an exception"
    READ_TIMEOUT = "read-timeout", "the caller's own read timeout ran out", "ask again: the paid answer is stored"
    CANCELLED = "cancelled", "the caller left before his answer", "ask again: the paid answer is stored"
    ABANDONED = "abandoned", "the call was given up after all its callers had left"
    LOST = (
        "lost",
        "the program was killed while the call was under way; what it cost is not known",
        "let the program end in its own time: close() waits for answers that are paid for",
    )
    INTERNAL_ERROR = "internal-error", "a fault of cachelayer; the call went on without it", "please report it"


def status_reason(status: int) -> str:
    """The reason of an answer that has another status than 200: ``status-429``."""
    return f"{_STATUS}{status}"


def meaning_of(reason: str) -> str:
    """What a reason of the ledger means; "" for one that only another version of cachelayer knows."""
    if reason.startswith(_STATUS):
        return f"the provider answered with status {reason.removeprefix(_STATUS)}"
    known = _BY_NAME.get(reason)
    return "" if known is None else known.meaning


def remedy_of(reason: str) -> str:
    """What can be done about a reason; "" where there is nothing, or the reason is not known."""
    known = _BY_NAME.get(reason)
    return "" if known is None else known.remedy


_BY_NAME: Final = {str(member): member for member in Reason}
