"""What the demo explains when the calls are done: a hit and two near-misses, on requests that the SDKs really sent."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachelayer.cli.entries import SHORT
from cachelayer.cli.format import dollars, duration, size, visible
from cachelayer.cli.reader import Reader
from cachelayer.core.model import Request
from cachelayer.demo.asks import Ask, Shown
from cachelayer.demo.play import Clients, ask_sync

if TYPE_CHECKING:
    from rich.console import Console

    from cachelayer.cache import Cache
    from cachelayer.questions import Difference


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
    from rich.padding import Padding
    from rich.text import Text

    def title(text: str) -> None:
        screen.print(Text(text, style="bold"))

    def say(text: str) -> None:
        screen.print(Padding(Text(text), (0, 0, 0, 2)))

    def copyable(text: str) -> None:
        screen.print(Text(f"  {text}", style="cyan"), soft_wrap=True)

    asked = 1 + 2 * len(told.near_misses)
    screen.print(Text(f"To explain it, {asked} of these calls were made again; the report does not count them.", "dim"))
    screen.print()
    title("One hit, explained")
    say(f"{_quoted(told.hit.prompt)} at {told.hit.size}, {told.hit.detail} quality")
    entry = reader.entry(told.key)
    if entry is not None:
        paid = "an unknown price" if entry.cost.usd is None else dollars(entry.cost.usd)
        say(f"paid once: {paid} and {duration(entry.latency)} of waiting")
        say(f"asked again: answered in {duration(told.wait)}, for nothing, by entry {told.key[:SHORT]}")
    for position, near in enumerate(told.near_misses):
        screen.print()
        title(f"{'Another' if position else 'One'} near-miss, explained: {near.what}")
        say(_quoted(near.prompt))
        for difference in near.differences:
            say(f"{difference.field}: {_shown(difference.a)} | {_shown(difference.b)}")
        costs = [entry.cost.usd for key in near.keys if (entry := reader.entry(key)) and entry.cost.usd is not None]
        paid = f" ({' and '.join(map(dollars, costs))})" if len(costs) == len(near.keys) else ""
        first, second = (key[:SHORT] for key in near.keys)
        say(f"two keys, {first} and {second}, each paid for{paid}: neither answers the other")
    screen.print()
    title("Where the images lie")
    copyable(str(folder / "blobs"))
    say(f"{size(_disk_use(folder))} on disk with index and ledger. They are named by content; to get one as a file:")
    copyable(f"cachelayer show {told.key[:SHORT]} --save . --path {shlex.quote(str(folder))}")
    screen.print()
    title("Your own client")
    copyable("import cachelayer")
    copyable("cache = cachelayer.Cache()")
    copyable("client = cache.wrap(OpenAI())  # or genai.Client()")
    screen.print()


def _quoted(prompt: str) -> str:
    text = visible(" ".join(prompt.split()))
    return f'"{text}"' if len(text) <= 60 else f'"{text[:59]}…"'


def _shown(value: Any) -> str:
    text = visible(str(value))
    return text if len(text) <= 32 else f"{text[:20]}…"


def _disk_use(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
