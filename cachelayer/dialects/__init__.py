"""The wire formats. What each must know is in dialect.py; this file has the table of them, asks them in turn, and is
the only door for the rooms above.
"""

from __future__ import annotations

from cachelayer.core.host import written_host
from cachelayer.core.model import Answer, Asked, KeyRules, Reading, Request, Unkeyed
from cachelayer.core.reasons import Reason
from cachelayer.core.scope import Target, target_of
from cachelayer.dialects import reading
from cachelayer.dialects.dialect import Dialect, NotKeyed, Recognised
from cachelayer.dialects.form import asked
from cachelayer.dialects.gemini import Gemini
from cachelayer.dialects.openai_images import OpenAIImages
from cachelayer.dialects.wire.envelope import is_encoded

__all__ = ["ask", "images", "names", "read", "recognise"]

DIALECTS: tuple[Dialect, ...] = (
    Gemini(),
    OpenAIImages(),
)
"""In the order in which they are asked; no two recognise one URL. Another one is a line here."""


def names() -> tuple[str, ...]:
    """Every dialect's name, as entries keep it."""
    return tuple(dialect.name for dialect in DIALECTS)


def recognise(url: str) -> tuple[str, Recognised] | None:
    """The dialect that a POST to a URL is in, by its name, and what it sees there; None for any other request."""
    target = target_of(url)
    found = None if target is None else _recognised(target)
    return None if found is None else (found[0].name, found[1])


def _recognised(target: Target) -> tuple[Dialect, Recognised] | None:
    for dialect in DIALECTS:
        seen = dialect.recognise(target)
        if seen is not None:
            return dialect, seen
    return None


def ask(request: Request, rules: KeyRules) -> Asked | Unkeyed:
    """What a request asks for, with its key; or why it gets none. Never raises, never reads beyond the request.

    Takes time linear in the size of the body. Nothing of the answer is known here: whether it may be kept is
    ``read``'s word, and ``Asked.never_cached`` names the requests whose answers never may.
    """
    target = target_of(request.url) if request.method == "POST" else None
    if target is None:
        return Unkeyed(Reason.UNRECOGNISED)
    found = _recognised(target)
    if found is None:
        return Unkeyed(Reason.UNRECOGNISED, host=written_host(request.url))
    dialect, seen = found
    try:
        if len(request.body) > rules.max_body:
            raise NotKeyed(Reason.BODY_TOO_LARGE)
        if is_encoded(request.headers):
            raise NotKeyed(Reason.CONTENT_ENCODING)
        return asked(dialect, seen, request, rules)
    except NotKeyed as reason:
        return _unkeyed(str(reason), dialect, seen, request)
    except (ValueError, RecursionError, MemoryError):
        return _unkeyed(Reason.MALFORMED, dialect, seen, request)


def _unkeyed(reason: str, dialect: Dialect, seen: Recognised, request: Request) -> Unkeyed:
    return Unkeyed(reason, dialect.name, written_host(request.url), seen.model)


def read(asked: Asked, answer: Answer) -> Reading:
    """What an answer means: good or why not, what was billed, where its images lie. One parse; never raises."""
    if asked.stream and answer.status == 200:
        return Reading(Reason.STREAM)
    return reading.read(asked, answer, _named(asked.dialect))


def images(asked: Asked, answer: Answer) -> list[bytes]:
    """The bytes of the images that an answer delivers whole, in its order. Never raises."""
    return reading.images(asked, answer, _named(asked.dialect))


def _named(name: str) -> Dialect:
    return next(dialect for dialect in DIALECTS if dialect.name == name)
