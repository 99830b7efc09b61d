"""What was saved, for people and for programs. Every figure is the ledger's; here they are only laid out."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cachelayer.cli.failure import USAGE, Failure
from cachelayer.cli.format import dollars, duration, number, percent, size, visible
from cachelayer.cli.places import existing_folder, settings_for
from cachelayer.cli.reader import Reader
from cachelayer.cli.screen import console, note, print_json
from cachelayer.core.errors import LedgerError, NewerFormat, StoreError
from cachelayer.core.reasons import meaning_of
from cachelayer.ledger import reports
from cachelayer.ledger.events import Ledger

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ROOMY = 100
"""Columns from which the table of groups has two spaces between its eight figures."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one report shows."""

    totals: reports.Stats
    groups: list[tuple[str, reports.Sums]]
    by: reports.By
    reasons: list[reports.Because]
    normalized: dict[str, int]


def run(path: Path | None, *, since: str | None, by: reports.By, as_json: bool) -> None:
    """The command."""
    begin = None if since is None else time.time() - seconds(since)
    folder = existing_folder(path)
    sizes = store_sizes(folder)
    ledger = Ledger(folder / "ledger")
    try:
        _print(ledger, folder, since, begin, by, sizes, as_json)
    except LedgerError as error:
        # Damage that reading finds has been moved aside by now; what is left can be read.
        note(f"{error}; what is left of it follows")
        _print(ledger, folder, since, begin, by, sizes, as_json)


def _print(
    ledger: Ledger,
    folder: Path,
    since: str | None,
    begin: float | None,
    by: reports.By,
    sizes: tuple[int, int, int],
    as_json: bool,
) -> None:
    if as_json:
        print_json(reports.report_json(ledger, by=by, since=begin, store_sizes=sizes))
        return
    report = collect(ledger, by=by, since=begin, sizes=sizes)
    screen = console()
    if report.totals.requests:
        where = f"{folder}, the last {since}" if since else str(folder)
        show(screen, report, where=where, limit=settings_for(folder).size_limit)
    else:
        screen.print(f"No request was recorded in {folder}" + (f" in the last {since}." if since else " yet."))


def seconds(text: str) -> float:
    """A duration as settings spell it. Raises Failure."""
    from pydantic import TypeAdapter, ValidationError

    from cachelayer.settings import Duration

    try:
        return float(TypeAdapter(Duration).validate_python(text))
    except ValidationError:
        raise Failure(f'{text!r} is no duration: write seconds, or "30s", "10m", "1h", "30d"', USAGE) from None


def store_sizes(folder: Path) -> tuple[int, int, int]:
    """(entries, blobs, bytes). Zeros and a note where only the ledger can be read: it stands alone.

    Raises StoreError for a folder that is not ours, or of a newer format: its ledger is not to be touched.
    """
    try:
        with Reader(folder) as reader:
            return reader.sizes()
    except NewerFormat:
        raise
    except StoreError as error:
        if not (folder / "ledger").is_dir():
            raise
        note(f"{error}; what is stored is shown as nothing")
        return 0, 0, 0


def collect(ledger: Ledger, *, by: reports.By, since: float | None, sizes: tuple[int, int, int]) -> Report:
    """Ask the ledger. Raises LedgerError."""
    totals, found = reports.survey(ledger, by=by, since=since, store_sizes=sizes)
    return Report(totals, found.groups, by, found.reasons, found.normalized)


def headline(totals: reports.Sums) -> str:
    """The report in one sentence."""
    spared = totals.hits + totals.coalesced
    asked = totals.requests - totals.bypassed
    calls = f"{spared:,} of {number(asked, 'call')} ({percent(totals.hit_rate)}) never reached a provider"
    if not spared:
        return f"Nothing saved yet: {calls}"
    if totals.saved_seconds < 0:
        return f"Saved {dollars(totals.saved_usd)} for {duration(-totals.saved_seconds)} more of waiting: {calls}"
    return f"Saved {dollars(totals.saved_usd)} and {duration(totals.saved_seconds)}: {calls}"


def show(screen: Console, report: Report, *, where: str, limit: int | None = None) -> None:
    """Print a report. limit: the size_limit in force here, bytes; the programs that write may have another."""
    from rich.text import Text

    screen.print(Text(headline(report.totals), style="bold green"))
    screen.print(Text(visible(where), style="dim"))
    screen.print()
    screen.print(_totals(report.totals, limit))
    if report.groups:
        screen.print()
        screen.print(_groups(report.by, report.groups, tight=screen.width < ROOMY))
    if report.reasons:
        screen.print()
        screen.print(_reasons(report.reasons))
    footers = list(_footers(report))
    if footers:
        screen.print()
    for sentence in footers:
        screen.print(Text("* " + sentence, style="dim"))


def _totals(totals: reports.Stats, limit: int | None) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(justify="left", style="cyan", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    rows = [
        ("Requests", f"{totals.requests:,}", ""),
        ("Hits", f"{totals.hits:,}", f"answered from the store: {dollars(totals.avoided_usd)} not spent"),
        (
            "Coalesced",
            f"{totals.coalesced:,}",
            f"joined a call already under way: {dollars(totals.coalesced_usd)} not spent",
        ),
        ("Misses", f"{totals.misses:,}", "asked the provider"),
    ]
    for label, count, meaning in (
        ("Stale", totals.stale, "answered by an expired entry, as the provider failed"),
        ("Bypassed", totals.bypassed, "not looked up, for the reasons below"),
        ("Errors", totals.errors, "ended without a good answer"),
        ("Lost", totals.lost, "of the errors: the program was killed during the call"),
        ("Not kept", totals.not_kept, "of the misses: paid for, but could not be stored"),
        ("Faults", totals.faults, "of cachelayer's own; calls went on without it (cachelayer doctor)"),
    ):
        if count:
            rows.append((label, f"{count:,}", meaning))
    rows += [
        ("Hit rate", percent(totals.hit_rate), "hits and coalesced, of requests that were not bypassed"),
        ("Spent", dollars(totals.spent_usd), f"on {number(totals.upstream_calls, 'call')} to providers"),
        ("Saved", dollars(totals.saved_usd), "what hits and coalesced calls would have cost"),
        ("Time saved", duration(totals.saved_seconds), "the first call's time less the caller's own wait"),
        (
            "Stored",
            size(totals.stored_bytes),
            f"{number(totals.entries, 'entry', 'entries')}, {number(totals.blobs, 'blob')}"
            + ("" if limit is None else f"; the limit is {size(limit)}"),
        ),
    ]
    if totals.evicted:
        rows.append(("Evicted", f"{totals.evicted:,}", f"to make room: had cost {dollars(totals.evicted_usd)}"))
    for row in rows:
        table.add_row(*row)
    return table


def _groups(by: reports.By, groups: list[tuple[str, reports.Sums]], *, tight: bool) -> Table:
    table = _table(tight=tight)
    table.add_column(f"By {by}", overflow="fold", min_width=12)  # the one column that gives way in a narrow window
    for title in ("Requests", "Hits", "Coalesced", "Rate", "Spent", "Saved", "Time saved"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, sums in groups:
        table.add_row(
            visible(name) or "(not recognised)",
            f"{sums.requests:,}",
            f"{sums.hits:,}",
            f"{sums.coalesced:,}",
            percent(sums.hit_rate),
            dollars(sums.spent_usd),
            dollars(sums.saved_usd),
            duration(sums.saved_seconds),
        )
    return table


def _reasons(reasons: list[reports.Because]) -> Table:
    table = _table()
    table.add_column("Not cached", no_wrap=True, overflow="ellipsis")
    table.add_column("Outcome", no_wrap=True)
    table.add_column("Requests", justify="right", no_wrap=True)
    table.add_column("Spent", justify="right", no_wrap=True)
    table.add_column("Because", style="dim", overflow="fold")
    for one in reasons:
        spent = dollars(one.spent_usd) if one.spent_usd else "-"
        table.add_row(visible(one.reason), one.outcome, f"{one.requests:,}", spent, visible(meaning_of(one.reason)))
    return table


def _table(*, tight: bool = False) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 0 if tight else 1),
        collapse_padding=True,
        pad_edge=False,
        show_edge=False,
        header_style="bold",
    )


def _footers(report: Report) -> Iterable[str]:
    totals = report.totals
    if report.normalized:
        steps = ", ".join(f"{visible(step)} {count:,}" for step, count in report.normalized.items())
        yield f"Hits that prompt normalisation may have earned: {steps}."
    if totals.estimated:
        yield (
            f"{number(totals.estimated, 'request is', 'requests are')} estimated: priced by size, or by a list price "
            "that your provider may not charge. Give your own prices to make them exact."
        )
    if totals.unpriced:
        yield (
            f"{number(totals.unpriced, 'request has', 'requests have')} no known price and count as nothing in these "
            "sums: what was really spent and saved is more."
        )
    if totals.broken:
        yield f"{number(totals.broken, 'damaged entry was', 'damaged entries were')} found and fetched again."
