"""Why a request was not looked up, an answer not stored, or nothing good came: the one list of reasons.

Every reason that stands in a header, a ledger line, a report or a log is a member here, with what it means and what to
do about it; all of those, and docs/reasons.md, take their words from this file. Only the list lives here, no decision.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self

_STATUS = "status-"


class Reason(StrEnum):
    """A reason. Its value is the word in headers, ledger and JSON.

    meaning: one clause for people. remedy: what the reader can do about it, one clause.
    """

    meaning: str
    remedy: str

    def __new__(cls, value: str, meaning: str = "", remedy: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning, member.remedy = meaning, remedy
        return member

    # A request that is not looked up
    UNRECOGNISED = (
        "unrecognised",
        "no image call that cachelayer knows",
        "nothing, if it is no image call; else look at docs/key-spec.md for what is recognised",
    )
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
    STATEFUL = (
        "stateful",
        "the answer depends on more than the request",
        "leave out search tools, cachedContent and stored conversations, if they are not needed",
    )
    REFERENCE_UNKNOWN = (
        "reference-unknown",
        "a reference image by URL, whose content is not known",
        "send the image's bytes with the request",
    )
    STREAM = "stream", "streams are passed through", "ask without streaming"
    NOT_ASYNCIO = "not-asyncio", "an event loop that is not asyncio's", "run the client under asyncio"
    DISABLED = "disabled", "the cache is switched off", "unset CACHELAYER_DISABLED, or the setting disabled"
    CLOSED = "closed", "the cache was closed", "make a new Cache"

    # An answer that is not stored
    BLOCKED = "blocked", "the provider refused the content", "change the prompt or the reference images"
    TRUNCATED = "truncated", "the answer was cut short by a limit", "raise the limit on output tokens in the request"
    NO_IMAGE = (
        "no-image",
        "the answer has fewer images than were asked for",
        "say in the prompt that an image is wanted, or ask again",
    )
    NOT_AN_IMAGE = (
        "not-an-image",
        "what came as an image is none, or not a whole one",
        "look at the answer: an error page, or an image cut short",
    )
    INCOMPLETE = "incomplete", "the answer broke off", "ask again"
    IMAGE_URL = (
        "image-url",
        "the answer holds links that expire, not images",
        'ask for the bytes: response_format="b64_json"',
    )
    NO_ROOM = (
        "no-room",
        "the answer does not fit in the size limit, or the disk is full",
        "raise the setting size_limit, or make room on the disk",
    )
    TIER_DOWN = "tier-down", "the store could not be used", "run cachelayer doctor"
    LATE = (
        "late",
        "the answer came after another call for the same image had been answered",
        "raise the setting hedge_after if the provider is often slower",
    )

    # No good answer
    RAISED = "raised", "the call raised an exception", "look at the exception, it is the client library's own"
    READ_TIMEOUT = "read-timeout", "the caller's own read timeout ran out", "ask again: the paid answer is stored"
    CANCELLED = "cancelled", "the caller left before his answer", "ask again: the paid answer is stored"
    ABANDONED = (
        "abandoned",
        "the call was given up after all its callers had left",
        "raise the setting finish_timeout, or drain_timeout where the program ended",
    )
    LOST = (
        "lost",
        "the program was killed while the call was under way; what it cost is not known",
        "let the program end in its own time: close() waits for answers that are paid for",
    )
    INTERNAL_ERROR = (
        "internal-error",
        "a fault of cachelayer; the call went on without it",
        "please report it, with the warning in the log",
    )


def status_reason(status: int) -> str:
    """The reason of an answer that has another status than 200: ``status-429``."""
    return f"{_STATUS}{status}"


def meaning_of(reason: str) -> str:
    """What a reason of the ledger means; never empty. One that is no member says that it is unknown here."""
    status = _status_of(reason)
    if status:
        return f"the provider answered with status {status}"
    known = _BY_NAME.get(reason)
    return UNKNOWN if known is None else known.meaning


def remedy_of(reason: str) -> str:
    """What can be done about a reason; never empty."""
    status = _status_of(reason)
    if status:
        return _STATUS_REMEDIES.get(status) or _STATUS_CLASS_REMEDIES.get(status[0], "look at the answer's body")
    known = _BY_NAME.get(reason)
    return "use the version of cachelayer that wrote it" if known is None else known.remedy


UNKNOWN: Final = "a reason that this version of cachelayer does not know"

_STATUS_REMEDIES: Final = {
    "401": "check the API key",
    "402": "look at the account's balance",
    "403": "check what the API key may do",
    "404": "check the model's name and the URL",
    "413": "send less, or smaller reference images",
    "429": "ask more slowly, or have the provider raise the rate limit",
}
_STATUS_CLASS_REMEDIES: Final = {
    "3": "check the URL, or let the client follow redirects",
    "4": "look at the answer's body: it says what the provider did not like",
    "5": "ask again: the provider failed",
}


def _status_of(reason: str) -> str:
    digits = reason.removeprefix(_STATUS)
    return digits if reason.startswith(_STATUS) and digits.isascii() and digits.isdigit() else ""


_BY_NAME: Final = {str(member): member for member in Reason}
