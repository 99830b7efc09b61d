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
from cachelayer.cli.tables import Column, show_grid, show_place, show_table
from cachelayer.core.errors import LedgerError, NewerFormat, StoreError
from cachelayer.core.reasons import meaning_of, remedy_of
from cachelayer.ledger import reports
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.own_prices import as_argument, as_toml

if TYPE_CHECKING:
    from rich.console import Console

NAMED_HOSTS = 3
"""Hosts with estimates that are named, those with most dollars first."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one report shows."""

    totals: reports.Stats
    groups: list[tuple[str, reports.Sums]]
    by: reports.By
    reasons: list[reports.Because]
    normalized: dict[str, int]
    estimates: list[reports.Estimates]


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

    from cachelayer.settings.kinds import Duration

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
    return Report(totals, found.groups, by, found.reasons, found.normalized, found.estimates)


def headline(totals: reports.Sums) -> str:
    """The report in one sentence."""
    spared = totals.hits + totals.coalesced
    asked = totals.requests - totals.bypassed
    calls = f"{spared:,} of {number(asked, 'call')} ({percent(totals.hit_rate)}) never reached a provider"
    if not spared:
        return f"Nothing saved yet: {calls}"
    saved = f"Saved {'about ' * bool(totals.estimated)}{dollars(totals.saved_usd)}"
    if totals.saved_seconds < 0:
        return f"{saved} for {duration(-totals.saved_seconds)} more of waiting: {calls}"
    return f"{saved} and {duration(totals.saved_seconds)}: {calls}"


def show(screen: Console, report: Report, *, where: str, limit: int | None = None) -> None:
    """Print a report. limit: the size_limit in force here, bytes; the programs that write may have another."""
    from rich.text import Text

    screen.print(Text(headline(report.totals), style="bold green"))
    show_place(screen, Text(visible(where), style="dim"))
    screen.print()
    show_grid(screen, _totals(report.totals, limit), right=(1,))
    if report.groups:
        screen.print()
        show_table(screen, [Column(f"By {report.by}", "name"), *map(Column, _FIGURES)], _groups(report.groups))
    if report.reasons:
        screen.print()
        show_table(screen, _WHY, _reasons(report.reasons))
    footers = list(_footers(report))
    if footers:
        screen.print()
    for sentence in footers:
        screen.print(Text("* " + sentence, style="dim"))


def _listed(hosts: list[str]) -> str:
    return " and ".join(visible(host) for host in hosts)


def _totals(totals: reports.Stats, limit: int | None) -> list[tuple[str, str, str]]:
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
    return rows


_FIGURES = ("Requests", "Hits", "Coalesced", "Rate", "Spent", "Saved", "Time saved")


def _groups(groups: list[tuple[str, reports.Sums]]) -> list[list[str]]:
    return [
        [
            visible(name) or "(not recognised)",
            f"{sums.requests:,}",
            f"{sums.hits:,}",
            f"{sums.coalesced:,}",
            percent(sums.hit_rate),
            dollars(sums.spent_usd),
            dollars(sums.saved_usd),
            duration(sums.saved_seconds),
        ]
        for name, sums in groups
    ]


_WHY = (
    Column("Not cached", "name"),
    Column("Outcome", "name"),
    Column("Requests"),
    Column("Spent"),
    Column("Because", "prose"),
)


def _reasons(reasons: list[reports.Because]) -> list[list[str]]:
    return [
        [
            visible(one.reason),
            one.outcome,
            f"{one.requests:,}",
            dollars(one.spent_usd) if one.spent_usd else "-",
            visible(f"{meaning_of(one.reason)}; {remedy_of(one.reason)}"),
        ]
        for one in reasons
    ]


def _footers(report: Report) -> Iterable[str]:
    totals = report.totals
    if report.normalized:
        steps = ", ".join(f"{visible(step)} {count:,}" for step, count in report.normalized.items())
        yield f"Hits that prompt normalisation may have earned: {steps}."
    if totals.estimated:
        hosts = [one.host for one in report.estimates if one.host][:NAMED_HOSTS] or ["HOST"]
        yield (
            f"{number(totals.estimated, 'request is', 'requests are')} estimated: priced by size, or by a list price "
            f'that {_listed(hosts)} may not charge. Say what an image costs there, or "list". In cachelayer.toml: '
            f"{as_toml(hosts)}; in a program: {as_argument(hosts)}."
        )
    if totals.unpriced:
        yield (
            f"{number(totals.unpriced, 'request has', 'requests have')} no known price and count as nothing in these "
            "sums: what was really spent and saved is more."
        )
    if totals.broken:
        yield f"{number(totals.broken, 'damaged entry was', 'damaged entries were')} found and fetched again."
