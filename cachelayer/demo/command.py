"""`cachelayer demo`: what stands around the calls. A store of its own, a simulator, the report, and the proof.

What is asked is in asks.py, how it is played in play.py, what is explained afterwards in told.py.
"""

from __future__ import annotations

import os
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachelayer.cli.failure import USAGE, Failure
from cachelayer.cli.format import dollars, duration, number, percent
from cachelayer.cli.places import folder_of
from cachelayer.cli.reader import Reader
from cachelayer.cli.report import Report, collect, headline, show
from cachelayer.cli.screen import console, print_json
from cachelayer.demo.asks import draw
from cachelayer.ledger import reports
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.reports import report_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from cachelayer.demo.asks import Ask, Shown
    from cachelayer.demo.play import Clients
    from cachelayer.demo.told import Told

LATENCY = (4.0, 14.0)
"""Seconds that image models take, about. The simulator takes these times ``latency_scale``."""
NAMESPACE = "demo"
SCOPE = "name:simulator"
"""Names the simulator in keys, whatever port it listens on, so that a second run finds the answers of the first."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of the calls."""

    report: Report
    document: dict[str, Any]
    """The same report as JSON."""
    told: Told
    called: int
    """Calls that the simulator counted."""
    billed: Decimal
    """What it says they cost, USD."""
    took: float
    """Seconds."""


def run(path: Path | None, *, repeat_rate: float, calls: int, latency_scale: float, fresh: bool, as_json: bool) -> None:
    """The command."""
    folder = _folder(path)
    _leave_the_users_settings()
    asks, shown = draw(calls, repeat_rate)
    screen = console(stderr=as_json)
    with screen.status("Loading the SDKs of OpenAI and Google"):
        try:
            import openai  # noqa: F401
            import PIL  # noqa: F401
            from google import genai  # noqa: F401
        except ImportError as error:
            raise Failure(f"the demo needs {error.name}: pip install 'cachelayer[demo]'", USAGE) from None
        from cachelayer.demo.told import tell
    if fresh:
        _forget(folder)

    low, high = (seconds * latency_scale for seconds in LATENCY)
    repeats = percent(1 - len(set(asks)) / calls)
    screen.print(
        f"{calls} calls of real prompts through the SDKs of OpenAI and Google, by threads and tasks at once, {repeats} "
        "of them repeats (the figure quoted for such traffic is 15 to 30 %, one production trace shows at most 24 %; "
        "--repeat-rate sets it)."
    )
    screen.print(
        f"The simulator answers within {duration(low)} to {duration(high)}: what image models take "
        f"({LATENCY[0]:g} to {LATENCY[1]:g} s), times {latency_scale:g}."
    )
    seen = _make_calls(screen, folder, asks, shown, (low, high))
    if as_json:
        print_json(seen.document | {"simulator_calls": seen.called, "path": str(folder)})
    else:
        screen.print()
        show(screen, seen.report, where=f"this run, {duration(seen.took)}")
        screen.print()
        with Reader(folder) as reader:
            tell(screen, reader, seen.told, folder)
    totals = seen.report.totals
    if (totals.upstream_calls, totals.requests) != (seen.called, len(asks)):
        raise Failure(
            f"the report is wrong: {len(asks)} requests were made and the simulator was called {seen.called} times, "
            f"the report says {totals.requests} and {totals.upstream_calls}"
        )
    if not as_json:
        _prove(screen, totals, seen.called, seen.billed)


def _make_calls(screen: Console, folder: Path, asks: list[Ask], shown: Shown, latency: tuple[float, float]) -> Seen:
    """Play against a simulator of our own. Raises Failure when a call failed: there is nothing to be proud of then."""
    from cachelayer.cache import Cache
    from cachelayer.demo.play import connect
    from cachelayer.demo.told import look
    from cachelayer.simulator import Simulator

    begin = time.time()
    with Simulator(latency=latency, seed=1) as simulator:
        host = f"127.0.0.1:{simulator.port}"
        with Cache(path=folder, namespace=NAMESPACE, pools=[[SCOPE, host]], prices={host: "list"}) as cache:
            clients = connect(simulator.url, cache.wrap)
            failures = _play(screen, clients, asks, give_up=simulator.stop)
            took = time.time() - begin
            if failures:
                first = failures[0]
                failed = number(len(failures), "call")
                raise Failure(f"{failed} of {len(asks)} failed; the first: {type(first).__name__}: {first}")
            # Before anything is asked again for the explanations: the report is of the calls above.
            ledger = Ledger(folder / "ledger")
            with Reader(folder) as reader:
                sizes = reader.sizes()
            report = collect(ledger, by="model", since=begin, sizes=sizes)
            document = report_json(ledger, by="model", since=begin, store_sizes=sizes)
            told = look(cache, clients, shown)
            clients.close()
        return Seen(report, document, told, simulator.calls, simulator.billed_usd, took)


def _prove(screen: Console, totals: reports.Sums, called: int, billed: Decimal) -> None:
    # Only the counts decide: list prices change between releases of genai-prices, the simulator's do not.
    screen.print(
        f"Proof: the simulator was called {number(called, 'time')} and billed {dollars(billed)}; "
        f"the report says {totals.upstream_calls:,} and {dollars(totals.spent_usd)}."
    )
    average = sum(LATENCY) / 2
    if totals.upstream_calls == 0:
        screen.print("Every call was a hit: an earlier run had paid for them all. --fresh begins anew.")
    else:
        screen.print(
            f"At full latency, {average:g} s a call on average, the {number(totals.hits, 'hit')} alone would have "
            f"saved about {duration(totals.hits * average)}. Run it again: every call will be a hit."
        )
    screen.print(headline(totals), style="bold green")


def _folder(path: Path | None) -> Path:
    """The demo's own folder. Raises Failure for one that holds something else: the demo never mixes with real work."""
    from platformdirs import user_cache_path

    from cachelayer.settings.kinds import expanded

    if path is None:
        with suppress(RuntimeError):  # no home folder; folder_of says so
            path = user_cache_path("cachelayer-demo", appauthor=False)
    else:
        try:
            path = expanded(str(path))
        except ValueError as error:
            raise Failure(str(error), USAGE) from None
    folder = folder_of(path)
    if not folder.exists():
        return folder
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise Failure(f"{folder} is not a folder that can be written")
    if (folder / "format").exists():
        with Reader(folder) as reader:
            strangers = {entry.namespace for _, entry in reader.newest(100) if entry} - {NAMESPACE}
        strangers |= {name for name, _ in reports.groups(Ledger(folder / "ledger"), "namespace")} - {NAMESPACE}
        if strangers:
            raise Failure(f"{folder} is a store in use; give the demo a --path of its own")
    elif any(folder.iterdir()):
        raise Failure(f"{folder} holds something else; give the demo a --path of its own")
    return folder


def _leave_the_users_settings() -> None:
    """Nothing that is set for real work may lead the demo astray: this process is the demo's alone.

    Variables of cachelayer and of the SDKs go, and those of proxies, which would be asked for 127.0.0.1; the working
    folder goes too, as it may hold a cachelayer.toml.
    """
    for name in list(os.environ):
        if name.upper().startswith(("CACHELAYER_", "OPENAI_", "GOOGLE_", "GEMINI_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.chdir("/")
    warnings.simplefilter("ignore")  # those of the SDKs; ours are raised in the tests


def _forget(folder: Path) -> None:
    from cachelayer.upkeep import purge

    if (folder / "format").exists():
        purge(folder, None)


def _play(screen: Console, clients: Clients, asks: list[Ask], *, give_up: Callable[[], None]) -> list[Exception]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from cachelayer.demo.play import play

    columns = (TextColumn("Asking"), BarColumn(), MofNCompleteColumn(), TextColumn("calls"), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("", total=len(asks))
        return play(clients, asks, advance=lambda: progress.advance(task), give_up=give_up)
