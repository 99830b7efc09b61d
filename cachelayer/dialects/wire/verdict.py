"""How answers of any format say that they were withheld or cut short: finish reasons, errors, statuses and flags. What
may live here: the words for it, in the names that providers and gateways use; no place of one wire format.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from typing import Final

from cachelayer.core.model import Json
from cachelayer.core.reasons import Reason

_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORD: Final = re.compile(r"[A-Z]+")
_ENDED: Final = frozenset(
    {
        "STOP", "END_TURN", "EOS", "EOS_TOKEN", "STOP_SEQUENCE", "UNSPECIFIED", "SUCCESS", "SUCCEEDED", "COMPLETED",
        "COMPLETE", "FINISHED", "DONE",
    }
)  # fmt: skip
_LIMIT: Final = frozenset({"MAX_TOKENS", "MAX_OUTPUT_TOKENS", "LENGTH", "TRUNCATED"})
_NO_IMAGE: Final = frozenset({"NO_IMAGE", "IMAGE_OTHER"})
_WITHHELD: Final = frozenset(
    {
        "SAFETY", "RECITATION", "BLOCK", "BLOCKED", "BLOCKLIST", "PROHIBITED", "SPII", "ARMOR", "ESCALATION",
        "JAILBREAK", "FILTER", "FILTERED", "REFUSAL", "REFUSED", "REJECTED", "DENIED", "MODERATION", "MODERATED",
        "CENSORED", "FLAGGED", "POLICY", "VIOLATION", "UNSAFE", "NSFW", "SENSITIVE",
    }
)  # fmt: skip
"""Words of finish reasons (google-genai 3.6.1, types.py, FinishReason; ``content_filter``, ``CONTENT_FILTERED``,
``refusal``) and of errors that say the content was refused."""
_WITHHELD_STATUS: Final = _WITHHELD - {"SAFETY", "MODERATION", "POLICY", "FILTER", "BLOCK"}
"""A status may name what was looked at without saying that it failed: ``safety_passed``."""
_FAILED: Final = frozenset(
    {
        "FAILED", "FAILURE", "ERROR", "INCOMPLETE", "CANCELLED", "CANCELED", "EXPIRED", "PENDING", "QUEUED", "PROGRESS",
        "PROCESSING", "RUNNING", "STARTED", "PARTIAL", "TIMEOUT", "ABORTED",
    }
)  # fmt: skip
_DENIAL: Final = frozenset({"NOT", "NO", "NON", "NONE"})
_CLEARED: Final = frozenset({"SAFE", "PASSED", "ALLOWED", "APPROVED", "ACCEPTED"})
_DONE: Final = frozenset(
    {"OK", "COMPLETED", "COMPLETE", "SUCCEEDED", "SUCCESS", "SUCCESSFUL", "FINISHED", "DONE", "READY"}
)
"""Words of which a status says the contrary by denying them."""

_FINISH: Final = frozenset({"finishreason", "stopreason"})
_ERROR: Final = frozenset({"error", "errors", "errorcode", "errortype", "errormessage", "incompletedetails"})
_WHY: Final = frozenset(
    {
        "refusal", "refusalreason", "rejectionreason", "blockreason", "blockreasons", "blockedreason", "blockedreasons",
        "raifilteredreason", "raifilteredreasons", "raimediafilteredreason", "raimediafilteredreasons", "filterreason",
        "filteredreason", "safetyviolation", "safetyviolations", "policyviolation", "policyviolations",
    }
)  # fmt: skip
"""Fields that are there only where something was refused, with the reason in them."""
_TOLD: Final = frozenset({"code", "finishmessage", "finishdetails"})
"""Fields that may say anything: only words of refusal count."""
_FLAG: Final = frozenset(
    {
        "blocked", "isblocked", "filtered", "isfiltered", "flagged", "isflagged", "refused", "rejected", "nsfw",
        "isnsfw", "hasnsfwconcepts", "nsfwcontentdetected", "contentfiltered", "moderationblocked",
        "raifilteredcount", "raimediafilteredcount",
    }
)  # fmt: skip
"""Flags and counts, or lists of them, one an image."""
_PASSED: Final = frozenset({"respectmoderation", "issafe", "moderationpassed", "safetypassed"})
"""Flags that say the same by being false."""
_SUCCESS: Final = frozenset({"success", "issuccess", "succeeded"})
_STATUS: Final = frozenset(
    {"status", "state", "moderation", "moderationstatus", "moderationresult", "safetystatus", "safetyresult"}
)
_INSIDE: Final = re.compile("moderation|safety|filter|feedback|refus|block|rating|result")
"""Names under which such fields may stand further down."""
_DEEPEST: Final = 8
"""Levels that are looked into: no answer has as many, and a hostile one must not exhaust the stack."""


def of_finish(reason: Json) -> Reason | None:
    """What a finish reason says against an answer. None: it ended by itself, or does not say how."""
    if reason is None or reason == "":
        return None
    if not isinstance(reason, str):
        # Google's enum-encoding=int: 1 is STOP, 2 MAX_TOKENS.
        return (
            {1: None, 2: Reason.TRUNCATED}.get(reason, Reason.INCOMPLETE) if type(reason) is int else Reason.INCOMPLETE
        )
    name = _name(reason).removeprefix("FINISH_REASON_")
    if name in _ENDED:
        return None
    if name in _LIMIT:
        return Reason.TRUNCATED
    if name in _NO_IMAGE:
        return Reason.NO_IMAGE
    return Reason.INCOMPLETE if _WITHHELD.isdisjoint(_WORD.findall(name)) else Reason.BLOCKED


def is_unspecified(value: str) -> bool:
    """Whether a member of an enumeration is the one that says nothing."""
    return _name(value).endswith("UNSPECIFIED")


def of_fields(fields: dict[str, Json], *, without: Container[str] = ()) -> Iterator[Reason]:
    """All that the fields of an answer, a candidate or an item say against it.

    without: names of fields that hold content and not what became of it. What a field of an unknown name says is not
    known; it says nothing.
    """
    for spelled, value in fields.items():
        if spelled in without:
            continue
        name = _plain(spelled)
        found = _of_field(name, value)
        if found is not None:
            yield found
        elif _INSIDE.search(name):
            yield from _inside(value)


def says_nothing(value: Json, depth: int = 0) -> bool:
    """Whether a value is null, false, 0, empty or blank, or holds nothing else."""
    if isinstance(value, str):
        return not value.strip()
    if depth == _DEEPEST or not isinstance(value, dict | list):
        return not value
    return all(says_nothing(below, depth + 1) for below in (value.values() if isinstance(value, dict) else value))


def worst(reasons: Iterable[Reason | None]) -> Reason | None:
    """The reason that says most of several."""
    found = {*reasons}
    order = (Reason.BLOCKED, Reason.TRUNCATED, Reason.NO_IMAGE, Reason.INCOMPLETE)
    return next((reason for reason in order if reason in found), None)


def _of_field(name: str, value: Json) -> Reason | None:
    if name in _FINISH:
        return of_finish(value)
    if name in _ERROR | _WHY and says_nothing(value):
        return None
    if name in _ERROR:
        return Reason.INCOMPLETE if _WITHHELD.isdisjoint(_words(value)) else Reason.BLOCKED
    if name in _WHY:
        return None if isinstance(value, str) and is_unspecified(value) else Reason.BLOCKED
    if name in _TOLD:
        words = {*_words(value)}
        withheld = _WITHHELD_STATUS if name == "finishmessage" else _WITHHELD  # prose may name what was looked at
        return Reason.BLOCKED if words & withheld and not words & _DENIAL else None
    if name in _FLAG:
        return Reason.BLOCKED if _is_set(value) else None
    if name in _PASSED | _SUCCESS:
        return None if value is not False else Reason.BLOCKED if name in _PASSED else Reason.INCOMPLETE
    if name in _STATUS and isinstance(value, str):
        words = {*_words(value)}
        if words & _DENIAL:
            return Reason.BLOCKED if words & _CLEARED else Reason.INCOMPLETE if words & _DONE else None
        return Reason.BLOCKED if words & _WITHHELD_STATUS else Reason.INCOMPLETE if words & _FAILED else None
    return None


def _is_set(value: Json) -> bool:
    if isinstance(value, list):
        return any(_is_set(one) for one in value if not isinstance(one, list))
    if isinstance(value, str):
        return value.strip().lower() in ("true", "yes", "1")
    return value is True or (isinstance(value, (int, float)) and value > 0)


def _inside(value: Json, depth: int = 0) -> Iterator[Reason]:
    if depth == _DEEPEST:
        return
    if isinstance(value, dict):
        for name, below in value.items():
            found = _of_field(_plain(name), below)
            if found is not None:
                yield found
            else:
                yield from _inside(below, depth + 1)
    elif isinstance(value, list):
        for below in value:
            yield from _inside(below, depth + 1)


def _words(value: Json, depth: int = 0) -> Iterator[str]:
    """The words of all strings in a value, upper case."""
    if isinstance(value, str):
        yield from _WORD.findall(_name(value))
    elif isinstance(value, dict | list) and depth < _DEEPEST:
        for below in value.values() if isinstance(value, dict) else value:
            yield from _words(below, depth + 1)


def _plain(name: str) -> str:
    """A field's name without its spelling: ``finish_reason`` and ``finishReason`` are one."""
    return name.replace("_", "").replace("-", "").lower()


def _name(text: str) -> str:
    """``contentFilter``, ``content-filter`` and ``content filter`` as an enumeration has it."""
    return re.sub(r"[\s-]+", "_", _HUMP.sub("_", text.strip())).upper()
