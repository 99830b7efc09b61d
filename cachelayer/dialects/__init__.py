"""The wire formats: one file per dialect says which requests it recognises and what they ask for, another what its
answers mean. This file asks them in turn; it is the only door for the rooms above.
"""

from __future__ import annotations

from typing import Final

from cachelayer.core.host import written_host
from cachelayer.core.model import Answer, Asked, KeyRules, Reading, Request, Unkeyed
from cachelayer.core.reasons import Reason
from cachelayer.core.scope import target_of
from cachelayer.dialects import gemini, openai_images, reading
from cachelayer.dialects.form import NotKeyed, Recognised, asked
from cachelayer.dialects.gemini.answer import understand as gemini_answer
from cachelayer.dialects.openai_images.answer import understand as openai_answer
from cachelayer.dialects.wire.envelope import is_encoded

__all__ = ["ask", "images", "names", "read"]

_REQUESTS: Final = {gemini.NAME: gemini, openai_images.NAME: openai_images}
_ANSWERS: Final = {gemini.NAME: gemini_answer, openai_images.NAME: openai_answer}


def names() -> tuple[str, ...]:
    """Every dialect's name, as entries keep it."""
    return tuple(_REQUESTS)


def ask(request: Request, rules: KeyRules) -> Asked | Unkeyed:
    """What a request asks for, with its key; or why it gets none. Never raises, never reads beyond the request.

    Takes time linear in the size of the body. Nothing of the answer is known here: whether it may be kept is
    ``read``'s word, and ``Asked.refusal`` names the requests whose answers never may.
    """
    target = target_of(request.url) if request.method == "POST" else None
    if target is None:
        return Unkeyed(Reason.UNRECOGNISED)
    for dialect in _REQUESTS.values():
        seen = dialect.recognise(target)
        if seen is not None:
            break
    else:
        return Unkeyed(Reason.UNRECOGNISED, host=written_host(request.url))
    try:
        if len(request.body) > rules.max_body:
            raise NotKeyed(Reason.BODY_TOO_LARGE)
        if is_encoded(request.headers):
            raise NotKeyed(Reason.CONTENT_ENCODING)
        return asked(seen, dialect.understand(seen, request, rules), request, rules)
    except NotKeyed as reason:
        return _unkeyed(str(reason), seen, request)
    except (ValueError, RecursionError, MemoryError):
        return _unkeyed(Reason.MALFORMED, seen, request)


def _unkeyed(reason: str, seen: Recognised, request: Request) -> Unkeyed:
    return Unkeyed(reason, seen.dialect, written_host(request.url), seen.model)


def read(asked: Asked, answer: Answer) -> Reading:
    """What an answer means: good or why not, what was billed, where its images lie. One parse; never raises."""
    if asked.stream and answer.status == 200:
        return Reading(Reason.STREAM)
    return reading.read(asked, answer, _ANSWERS[asked.dialect])


def images(asked: Asked, answer: Answer) -> list[bytes]:
    """The bytes of the images that an answer delivers whole, in its order. Never raises."""
    return reading.images(asked, answer, _ANSWERS[asked.dialect])
