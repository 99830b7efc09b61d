"""Gemini's generateContent, Developer API and Vertex paths: which requests are recognised and what they ask for.

What an answer means is in answer.py, the table of fields in fields.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

from cachelayer.core.model import Asked, Json, Operation, Request
from cachelayer.core.reasons import Reason
from cachelayer.core.scope import Target, scope_of
from cachelayer.dialects.dialect import Facts, Recognised, Said, Slot
from cachelayer.dialects.form import count_of, json_body
from cachelayer.dialects.gemini import answer
from cachelayer.dialects.gemini.fields import BODY, TOOL
from cachelayer.dialects.wire.folding import fold, is_url, strangers, strings
from cachelayer.dialects.wire.pictures import Delivered

_METHODS: Final = ("generateContent", "streamGenerateContent")
_STATEFUL: Final = frozenset(
    {"cachedcontent", "continuationtoken", "previousresponseid", "previousinteractionid", "conversation"}
)
"""Fields that make an answer depend on more than the request, without underscores and in lower case."""
_REFERENCE_BY_NAME: Final = ("fileuri", "fileid")
_BOOKKEEPING: Final = ("labels", "serviceTier")


class Gemini:
    """Implements Dialect."""

    name: Final = "gemini"
    homes: Final = {"generativelanguage.googleapis.com": "google", "*aiplatform.googleapis.com": "google"}
    fields: Final = BODY

    def recognise(self, target: Target) -> Recognised | None:
        """``[/prefix][/version][/projects/P/locations/L][/publishers/P]/models/M:generateContent``, else None."""
        segments = target.path.split("/")[1:]
        slash = segments[-1:] == [""]
        if slash:
            segments.pop()
        if "models" not in segments:
            return None
        after = len(segments) - segments[::-1].index("models")
        spelled, colon, method = "/".join(segments[after:]).rpartition(":")
        model = _model(spelled)
        if not colon or model is None or method not in _METHODS:
            return None
        before = segments[: after - 1]
        if before[-2:-1] == ["publishers"]:
            if before[-1] != "google":
                model = f"publishers/{before[-1]}/models/{model}"
            before = before[:-2]
        location = None
        if len(before) >= 4 and before[-4] == "projects" and before[-2] == "locations":
            location = before[-1]
            before = before[:-4]
        stream = method == _METHODS[1]
        # Of several ``alt`` it is the server's secret which one counts.
        sse = stream and [value for name, value in target.query if name == "alt"] == ["sse"]
        return Recognised(
            scope=scope_of(target.host, before, location),
            endpoint=_METHODS[0] + "/" * slash,
            model=model,
            # A stream is a JSON array unless it is asked for as events: two shapes of one answer.
            response="stream" if sse else "array" if stream else "json",
            query=tuple(pair for pair in target.query if not (sse and pair[0] == "alt")),
        )

    def parse(self, seen: Recognised, request: Request) -> dict[str, Json]:
        return json_body(request)

    def fold(self, seen: Recognised, raw: dict[str, Json]) -> dict[str, Json]:
        body: dict[str, Json] = fold(BODY, raw)
        return body

    def facts(self, seen: Recognised, body: dict[str, Json]) -> Facts:
        config = _mapping(body.get("generationConfig"))
        size = _mapping(config.get("imageConfig")).get("imageSize")
        tier = body.get("serviceTier")
        return Facts(
            operation=_operation(seen.model, config),
            model=seen.model,
            count=count_of(config.get("candidateCount")),
            response=seen.response,
            never_cached=_never_cached(body),
            size=size if isinstance(size, str) else None,
            tier=tier.lower() if isinstance(tier, str) else None,
            references=sum(1 for part in _parts(body) for blob in _blobs(part) if _is_image(blob)),
        )

    def strip(self, seen: Recognised, body: dict[str, Json], facts: Facts) -> None:
        for name in _BOOKKEEPING:
            body.pop(name, None)
        config = _mapping(body.get("generationConfig"))
        if facts.count is not None and config.pop("candidateCount", None) is not None and not config:
            body.pop("generationConfig")
        model = body.get("model")
        if isinstance(model, str):
            body["model"] = model.removeprefix("models/")

    def defaults(self, seen: Recognised, host: str) -> Mapping[str, str]:
        return {}

    def prompts(self, body: dict[str, Json]) -> Iterator[list[Slot]]:
        for content in _contents(body):
            yield [
                (part, "text")
                for part in _items(content.get("parts"))
                if isinstance(part, dict) and isinstance(part.get("text"), str)
            ]

    def read(self, asked: Asked, document: dict[str, Json], delivered: Delivered) -> Said:
        return answer.read(asked, document, delivered)


def _model(spelled: str) -> str | None:
    """A model as its path names it, percent-decoded once; it may have slashes (``vertex_ai/gemini-3-pro-image``).

    None for what names none, or says in an escape what only a path can say: which model a server takes is not known.
    """
    try:
        model = unquote(spelled, errors="strict")
    except UnicodeDecodeError:
        return None
    hidden = model.count("/") != spelled.count("/") and "models" in model.split("/")
    return None if not model or hidden else model


def _operation(model: str, config: dict[str, Json]) -> Operation:
    modalities = config.get("responseModalities")
    wanted = modalities if isinstance(modalities, list) else [modalities]
    formats = config.get("responseFormat")
    if (
        "image" in model.lower()
        or config.get("imageConfig") is not None
        or any(isinstance(one, str) and one.upper() == "IMAGE" for one in wanted)
        or any("image" in one for one in _items(formats) if isinstance(one, dict))
    ):
        return "image"
    return "text"


def _never_cached(body: dict[str, Json]) -> Reason | None:
    for name, value in body.items():
        bare = _bare(name)
        if bare in _STATEFUL or (bare == "tools" and (name != "tools" or not _tools_are_local(value))):
            return Reason.STATEFUL
    parts = [part for part in _parts(body) if isinstance(part, dict)]
    # A file's address counts wherever it stands; any other address only where nobody knows what it says, because
    # prompts, arguments and tool answers speak of addresses too. Some gateways take an address for inlineData.data.
    if (
        any("fileData" in part for part in parts)
        or any(_bare(name) in _REFERENCE_BY_NAME for name, _ in strings(body))
        or any(is_url(text) for unknown in strangers(BODY, body) for _, text in strings(unknown))
    ):
        return Reason.REFERENCE_UNKNOWN
    return None


def _bare(name: str) -> str:
    """A field name without regard to spelling: some gateways match names without regard to case."""
    return name.replace("_", "").lower()


def _tools_are_local(tools: Json) -> bool:
    return isinstance(tools, (list, dict)) and all(
        isinstance(tool, dict) and tool.keys() <= TOOL.fields.keys() for tool in _items(tools)
    )


def _is_image(blob: Json) -> bool:
    mime = blob.get("mimeType")
    return not isinstance(mime, str) or mime.lower().startswith("image/")


def _blobs(part: Json) -> Iterator[dict[str, Json]]:
    if not isinstance(part, dict):
        return
    answer = _mapping(part.get("functionResponse"))
    for holder in [part, *_items(answer.get("parts"))]:
        blob = holder.get("inlineData") if isinstance(holder, dict) else None
        if isinstance(blob, dict) and "data" in blob:
            yield blob


def _contents(body: dict[str, Json]) -> list[dict[str, Json]]:
    everything = [*_items(body.get("contents")), body.get("systemInstruction")]
    return [content for content in everything if isinstance(content, dict)]


def _parts(body: dict[str, Json]) -> Iterator[Json]:
    for content in _contents(body):
        yield from _items(content.get("parts"))


def _items(value: Json) -> list[Json]:
    """A list's items; a single object may stand in place of a list of one."""
    return value if isinstance(value, list) else [value] if isinstance(value, dict) else []


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}
