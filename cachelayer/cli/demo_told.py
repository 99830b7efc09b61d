"""What the demo explains when the calls are done: a hit and two near-misses, on requests that the SDKs really sent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachelayer.cli.demo_asks import Ask, Shown
from cachelayer.cli.demo_play import Clients, ask_sync
from cachelayer.cli.format import dollars, duration, size, visible
from cachelayer.cli.reader import Reader
from cachelayer.core.model import Request

if TYPE_CHECKING:
    from rich.console import Console

    from cachelayer.cache import Cache, Difference


@dataclass(frozen=True, slots=True)
class NearMiss:
    """Two requests that differ in little, and yet must not share an answer."""

    what: str
    prompt: str
    keys: tuple[str, str]
    differences: list[Difference]


@dataclass(frozen=True, slots=True)
class Told:
    """What was seen."""

    hit: Ask
    key: str
    wait: float
    """Seconds that the hit took, the SDK's own work included."""
    near_misses: list[NearMiss]


def look(cache: Cache, clients: Clients, shown: Shown) -> Told:
    """Ask again for what is shown, all of it hits by now, and have the cache explain the requests."""

    def again(ask: Ask) -> Request:
        with clients.watch() as sent:
            ask_sync(clients, ask)
        return sent[-1]

    begin = time.perf_counter()
    hit = again(shown.hit)
    wait = time.perf_counter() - begin
    near_misses = []
    for what, one, other in shown.near_misses:
        a, b = again(one), again(other)
        keys = (cache.explain(a).key or "", cache.explain(b).key or "")
        near_misses.append(NearMiss(what, one.prompt, keys, cache.diff(a, b)))
    return Told(shown.hit, cache.explain(hit).key or "", wait, near_misses)


def tell(screen: Console, reader: Reader, told: Told, folder: Path) -> None:
    """Print it, and where the images lie."""
    from rich.text import Text

    entry = reader.entry(told.key)
    screen.print(Text("One hit, explained", style="bold"))
    screen.print(Text(f"  {_quoted(told.hit.prompt)} at {told.hit.size}, {told.hit.detail} quality"))
    if entry is not None:
        paid = "an unknown price" if entry.cost.usd is None else dollars(entry.cost.usd)
        screen.print(
            f"  key {told.key[:12]}: paid once, {paid}, and {duration(entry.latency)} of waiting; "
            f"asked again, answered in {duration(told.wait)}"
        )
    for near in told.near_misses:
        screen.print()
        screen.print(Text(f"One near-miss, explained: {near.what}", style="bold"))
        screen.print(Text(f"  {_quoted(near.prompt)}"))
        for difference in near.differences:
            screen.print(Text(f"  {difference.field}: {_shown(difference.a)} | {_shown(difference.b)}"))
        costs = [entry.cost.usd for key in near.keys if (entry := reader.entry(key)) and entry.cost.usd is not None]
        paid = f", paid {' and '.join(map(dollars, costs))}" if len(costs) == 2 else ""
        screen.print(f"  two keys, {near.keys[0][:12]} and {near.keys[1][:12]}{paid}: neither answers the other")
    screen.print()
    screen.print(Text("Where the images lie", style="bold"))
    screen.print(Text(f"  {folder / 'blobs'}  ({size(_disk_use(folder))} on disk with index and ledger)"))
    screen.print(Text(f"  cachelayer show {told.key[:12]} --save . --path {folder}"))
    screen.print()
    screen.print(Text("Your own client", style="bold"))
    for line in (
        "import cachelayer",
        "cache = cachelayer.Cache()",
        "client = cache.wrap(OpenAI())  # or genai.Client()",
    ):
        screen.print(Text(f"  {line}", style="cyan"))
    screen.print()


def _quoted(prompt: str) -> str:
    text = visible(" ".join(prompt.split()))
    return f'"{text}"' if len(text) <= 60 else f'"{text[:59]}…"'


def _shown(value: Any) -> str:
    text = visible(str(value))
    return text if len(text) <= 32 else f"{text[:20]}…"


def _disk_use(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
