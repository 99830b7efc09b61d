"""A dialect of a made-up image API, whole: what adding one takes.

POST /v2/sketch  {"about": "a cat", "pictures": 2, "pen": {"ink": "blue"}, "like": "<base64>", "whoAmI": "me"}
->               {"sketches": ["<base64>", ...], "charged": "0.04", "pen": "p-1"}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cachelayer.core.model import Asked, Json, Request
from cachelayer.core.reasons import Reason
from cachelayer.core.scope import Target, scope_of
from cachelayer.dialects.dialect import Facts, Recognised, Said, Slot
from cachelayer.dialects.form import count_of, json_body
from cachelayer.dialects.wire import verdict
from cachelayer.dialects.wire.folding import BINARY, fold, known
from cachelayer.dialects.wire.loose import listing
from cachelayer.dialects.wire.pictures import Delivered

_BODY: Final = known("about", "pictures", "whoAmI", snake_too=True, like=BINARY, pen=known("ink", "model", config=True))


class Sketch:
    """Implements Dialect."""

    name: Final = "sketch"
    homes: Final = {"api.sketch.example": "sketch"}
    fields: Final = _BODY

    def recognise(self, target: Target) -> Recognised | None:
        *before, last = target.path.split("/")[1:]
        if last != "sketch":
            return None
        return Recognised(
            scope_of(target.host, before), endpoint="sketch", model="", response="json", query=target.query
        )

    def parse(self, seen: Recognised, request: Request) -> dict[str, Json]:
        return json_body(request)

    def fold(self, seen: Recognised, raw: dict[str, Json]) -> dict[str, Json]:
        body: dict[str, Json] = fold(_BODY, raw)
        return body

    def facts(self, seen: Recognised, body: dict[str, Json]) -> Facts:
        model = body["pen"].get("model") if isinstance(body.get("pen"), dict) else None
        never = Reason.STATEFUL if "continue" in body else None
        count = count_of(body.get("pictures"))
        return Facts("image", model, count, never_cached=never, references=int("like" in body))

    def strip(self, seen: Recognised, body: dict[str, Json], facts: Facts) -> None:
        body.pop("whoAmI", None)
        if facts.count is not None:
            body.pop("pictures", None)

    def defaults(self, seen: Recognised, host: str) -> Mapping[str, str]:
        return {}

    def prompts(self, body: dict[str, Json]) -> Iterator[list[Slot]]:
        if isinstance(body.get("about"), str):
            yield [(body, "about")]

    def read(self, asked: Asked, document: dict[str, Json], delivered: Delivered) -> Said:
        for sketch in listing(document.get("sketches")):
            delivered.add(sketch)
        against = verdict.worst(verdict.of_fields(document, without=("sketches",)))
        if against is None and delivered.not_whole:
            against = Reason.NOT_AN_IMAGE
        if against is None and delivered.whole < asked.count:
            against = Reason.INCOMPLETE if delivered.whole else Reason.NO_IMAGE
        return Said(against, block={"cost": document.get("charged")}, model=document.get("pen"))
