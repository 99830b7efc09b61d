"""What the demo asks for: the bundled prompts and edits, and which of them come again. Pure but for reading the data.

Real prompts, from the sources named in data/SOURCES.md. The list is the same on every machine, so that the second
run finds all of the first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any, Literal

SEED = 7
FEWEST = 5
"""Calls that are always made: those that are explained afterwards."""
RECENT = 16
"""Half of the repeats ask for one of this many calls before: several people press the same button at once."""

_OPENAI = tuple((size, quality) for size in ("1024x1024", "1536x1024", "1024x1536") for quality in ("medium", "low"))
_GOOGLE = tuple((aspect, size) for size in ("1K", "2K") for aspect in ("1:1", "16:9", "4:3", "9:16"))
_FORMATS = ("jpeg", "jpeg", "webp", "jpeg", "png")
"""What OpenAI calls ask for. Mostly JPEG: it renders four times faster than the others."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One image call, before an SDK spells it."""

    sdk: Literal["openai", "google"]
    prompt: str
    references: tuple[str, ...]
    """Names of bundled reference images, in order."""
    size: str
    """``1024x1024`` for openai, ``2K`` for google."""
    detail: str
    """Quality for openai, aspect ratio for google."""
    format: str = "jpeg"


@dataclass(frozen=True, slots=True)
class Shown:
    """The asks that the demo explains afterwards; all of them are among the first that are played."""

    hit: Ask
    near_misses: tuple[tuple[str, Ask, Ask], ...]
    """(what differs, one, the other)."""


@cache
def reference(name: str) -> bytes:
    """The bytes of a bundled reference image."""
    return (files("cachelayer.demo.data") / "references" / name).read_bytes()


def draw(calls: int, repeat_rate: float) -> tuple[list[Ask], Shown]:
    """The calls in the order in which they are made, round(calls * repeat_rate) of them repeats.

    calls: from FEWEST, which are all different, to 1,500, for which there are enough prompts, sizes and qualities.
    """
    repeats = min(round(calls * repeat_rate), calls - FEWEST)
    fresh, shown = _different(calls - repeats)
    random = Random(f"{SEED}:{calls}:{repeat_rate}")  # noqa: S311
    lead = 1 + 2 * len(shown.near_misses)
    again = [False] * (len(fresh) - lead) + [True] * repeats
    random.shuffle(again)
    coming = iter(fresh)
    asks = [next(coming) for _ in range(lead)]
    for repeat in again:
        if repeat:
            recent = asks[-RECENT:] if random.random() < 0.5 else asks
            asks.append(random.choice(recent))
        else:
            asks.append(next(coming))
    return asks, shown


def _different(number: int) -> tuple[list[Ask], Shown]:
    prompts, edits = _lines("prompts.jsonl"), _lines("edits.jsonl")
    random = Random(SEED)  # noqa: S311
    random.shuffle(prompts)
    two = next(edit for edit in edits if len(edit.get("images", ())) == 2)
    edits.remove(two)
    first, second = [prompt for prompt in prompts if prompt["source"] == "parti-prompts"][:2]
    prompts = [prompt for prompt in prompts if prompt not in (first, second)]
    portrait = Ask("google", first["prompt"], (), "2K", "1:1")
    pair = Ask("openai", two["prompt"], tuple(two["images"]), "1024x1024", "medium")
    shown = Shown(
        hit=Ask("openai", second["prompt"], (), "1024x1024", "medium"),
        near_misses=(
            ("2K against 4K", portrait, replace(portrait, size="4K")),
            ("the two reference images swapped", pair, replace(pair, references=pair.references[::-1])),
        ),
    )
    asks = [shown.hit, *(ask for _, one, other in shown.near_misses for ask in (one, other))]
    # Edits spread evenly among the prompts. A further round asks for the same at other sizes.
    step = len(prompts) // len(edits)
    pool: list[dict[str, Any]] = []
    for at, prompt in enumerate(prompts):
        pool.append(prompt)
        if at % step == 0:
            pool += edits[at // step : at // step + 1]
    for position in range(len(_OPENAI) * len(pool)):
        if len(asks) >= number:
            break
        turn, index = divmod(position, len(pool))
        asks.append(_ask(pool[index], index, turn))
    return asks, shown


def _ask(item: dict[str, Any], index: int, turn: int) -> Ask:
    references = tuple(item.get("images", ()))
    if index % 2:
        aspect, size = _GOOGLE[(index // 2 + turn) % len(_GOOGLE)]
        return Ask("google", item["prompt"], references, size, aspect)
    size, quality = _OPENAI[(index // 2 + turn) % len(_OPENAI)]
    return Ask("openai", item["prompt"], references, size, quality, _FORMATS[index // 2 % len(_FORMATS)])


def _lines(name: str) -> list[dict[str, Any]]:
    text = (files("cachelayer.demo.data") / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line]
