"""OpenAI-compatible images/generations and images/edits: which requests are recognised and what they ask for.

What a body may hold is in body.py and forms.py, what an answer means in answer.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cachelayer.core.model import Asked, Json, Request
from cachelayer.core.reasons import Reason
from cachelayer.core.scope import Target, scope_of
from cachelayer.dialects.dialect import Facts, Recognised, Said, Slot
from cachelayer.dialects.form import count_of, json_body
from cachelayer.dialects.openai_images import answer
from cachelayer.dialects.openai_images.body import BODY, IMAGES_OF_A_FORM, as_list, fold_body, holds_content
from cachelayer.dialects.openai_images.forms import form_body
from cachelayer.dialects.wire.envelope import content_type, is_form
from cachelayer.dialects.wire.folding import is_url, strings
from cachelayer.dialects.wire.pictures import Delivered

_ENDPOINTS: Final = ("generations", "edits")
_AUTO: Final = {
    "generations": ("quality", "background", "moderation"),
    "edits": ("quality", "background"),
}
"""Fields whose documented default is ``auto``, so that saying it and leaving it out are the same."""
_AUTO_HOST: Final = "api.openai.com"
"""Where that is documented, whatever the model. Behind the same path other hosts have defaults of their own (Azure's
quality is high), and then ``auto`` would answer for them."""
_BOOKKEEPING: Final = ("user", "safety_identifier", "metadata", "service_tier")
_STATEFUL: Final = frozenset({"tools", "previousresponseid", "previousinteractionid", "conversation"})
_REFERENCE_BY_ID: Final = ("fileid", "fileids")


class OpenAIImages:
    """Implements Dialect."""

    name: Final = "openai-images"
    homes: Final = {
        "api.openai.com": "openai",
        "generativelanguage.googleapis.com": "google",  # ai.google.dev/gemini-api/docs/openai
        "*aiplatform.googleapis.com": "google",
    }
    fields: Final = BODY

    def recognise(self, target: Target) -> Recognised | None:
        """``[/prefix][/version]/images/generations`` or ``/images/edits``, else None."""
        segments = target.path.split("/")[1:]
        slash = segments[-1:] == [""]
        if slash:
            segments.pop()
        if len(segments) < 2 or segments[-2] != "images" or segments[-1] not in _ENDPOINTS:
            return None
        before = segments[:-2]
        # Azure names the model by its deployment.
        deployment = before[-1] if before[-3:-1] == ["openai", "deployments"] else ""
        return Recognised(
            scope=scope_of(target.host, before),
            endpoint=f"images/{segments[-1]}" + "/" * slash,
            model=deployment,
            response="json",
            query=target.query,
        )

    def parse(self, seen: Recognised, request: Request) -> dict[str, Json]:
        kind = content_type(request.headers)
        if _edits(seen) and kind is not None and is_form(kind):
            return form_body(request.body, kind[1].get("boundary", ""))
        return json_body(request)

    def fold(self, seen: Recognised, raw: dict[str, Json]) -> dict[str, Json]:
        return fold_body(raw)

    def facts(self, seen: Recognised, body: dict[str, Json]) -> Facts:
        model, tier = body.get("model"), body.get("service_tier")
        size, quality = body.get("size"), body.get("quality")
        return Facts(
            operation="image",
            model=model if isinstance(model, str) else seen.model or None,
            count=count_of(body.get("n")),
            response="stream" if body.get("stream") is True else "json",
            never_cached=_never_cached(body),
            size=size if isinstance(size, str) and size != "auto" else None,
            quality=quality if isinstance(quality, str) and quality != "auto" else None,
            tier=tier.lower() if isinstance(tier, str) else None,
            references=sum(len(as_list(body.get(name))) for name in IMAGES_OF_A_FORM),
        )

    def strip(self, seen: Recognised, body: dict[str, Json], facts: Facts) -> None:
        for name in _BOOKKEEPING:
            body.pop(name, None)
        if facts.count is not None:
            body.pop("n", None)
        if isinstance(body.get("stream"), bool):
            del body["stream"]
        if isinstance(body.get("model"), str):
            del body["model"]

    def defaults(self, seen: Recognised, host: str) -> Mapping[str, str]:
        if host != _AUTO_HOST:
            return {}
        return dict.fromkeys(_AUTO["edits" if _edits(seen) else "generations"], "auto")

    def prompts(self, body: dict[str, Json]) -> Iterator[list[Slot]]:
        if isinstance(body.get("prompt"), str):
            yield [(body, "prompt")]

    def read(self, asked: Asked, document: dict[str, Json], delivered: Delivered) -> Said:
        return answer.read(asked, document, delivered)


def _edits(seen: Recognised) -> bool:
    return seen.endpoint.startswith("images/edits")


def _never_cached(body: dict[str, Json]) -> Reason | None:
    if any(_bare(name) in _STATEFUL for name in body):
        return Reason.STATEFUL
    if not all(holds_content(one) for name in IMAGES_OF_A_FORM for one in as_list(body.get(name))):
        return Reason.REFERENCE_UNKNOWN
    # A form may say it in several parts, or in one that is no plain text.
    if any(_bare(name) in _REFERENCE_BY_ID and value is not None for name, value in body.items()):
        return Reason.REFERENCE_UNKNOWN
    rest = {name: value for name, value in body.items() if name not in ("prompt", *_BOOKKEEPING)}
    if any(is_url(text) or _bare(name) in _REFERENCE_BY_ID for name, text in strings(rest)):
        return Reason.REFERENCE_UNKNOWN
    return None


def _bare(name: str) -> str:
    return name.replace("_", "").lower()
