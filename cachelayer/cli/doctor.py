"""`cachelayer doctor`: looks at everything that can be wrong, changes nothing in the store, and says what it found."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from cachelayer.cli.failure import FOUND, Failure
from cachelayer.cli.format import number, size, visible
from cachelayer.cli.places import folder_of, settings_for
from cachelayer.cli.reader import Reader
from cachelayer.cli.screen import console, print_json
from cachelayer.core.errors import ConfigError, LedgerError, StoreError
from cachelayer.ledger import reports, table
from cachelayer.ledger.events import Ledger
from cachelayer.sqlite import ERRORS, inside_sqlite
from cachelayer.stores.folder import prepare

if TYPE_CHECKING:
    from cachelayer.settings import Settings

State = Literal["ok", "warn", "problem"]

LIBRARIES = ("diskcache", "genai-prices", "openai", "google-genai", "httpx", "httpx2", "aiohttp", "pillow")
"""Distributions whose versions matter when something is wrong."""
SHOWN = 3
"""Damaged things of one kind that are named; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line."""

    check: str
    state: State
    detail: str


def run(path: Path | None, *, as_json: bool) -> None:
    """The command. Exit code 1 when there is a problem; a warning is none."""
    checks = list(examine(path))
    sound = all(check.state != "problem" for check in checks)
    if as_json:
        lines = [{"check": check.check, "state": check.state, "detail": check.detail} for check in checks]
        print_json({"ok": sound, "checks": lines})
    else:
        _show(checks, sound)
    if not sound:
        raise typer.Exit(FOUND)


def examine(path: Path | None) -> Iterator[Check]:
    """All checks that can be made, in order. Never raises for what it finds."""
    yield from _versions()
    try:
        settings = settings_for(path)
    except ConfigError as error:
        yield Check("settings", "problem", str(error))
        return
    yield from _settings(settings, path)
    try:
        folder = folder_of(settings.path)
    except Failure as failure:
        yield Check("folder", "problem", str(failure))
        return
    if not os.path.lexists(folder):
        yield Check("folder", "ok", f"{folder} is not there yet; the first cached call makes it")
        return
    if not folder.is_dir():
        yield Check("folder", "problem", f"{folder} is not a folder")
        return
    yield Check("folder", "ok", str(folder))
    yield _access(folder)
    try:
        if (folder / "format").exists():
            prepare(folder)  # checks the format; writes only where there is none
        elif set(os.listdir(folder)) - {"ledger", "leases.lock", "writers.lock"}:
            raise StoreError(f"{folder} is not a cachelayer store: it holds something else")
    except StoreError as error:
        yield Check("store", "problem", str(error))
        return  # not ours, or a newer version's: neither ledger nor modes are our business
    yield from _modes(folder)
    yield from _store(folder)
    yield _ledger(folder)
    yield _leases(folder)
    yield _disk(folder, settings)


def _versions() -> Iterator[Check]:
    import cachelayer

    python = ".".join(map(str, sys.version_info[:3]))
    own = f"cachelayer {cachelayer.__version__}"
    yield Check("versions", "ok", f"{own}, Python {python}, SQLite {sqlite3.sqlite_version}")
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
    yield Check("libraries", "ok", ", ".join(found))


def _settings(settings: Settings, path: Path | None) -> Iterator[Check]:
    # Asked in the order in which they win. Values are shown: none of these settings is a secret.
    variables = {name.upper() for name, value in os.environ.items() if value}
    toml = Path("cachelayer.toml").absolute()
    in_file = tomllib.loads(toml.read_text(encoding="utf-8")) if toml.is_file() else {}
    for name in type(settings).model_fields:
        variable = f"CACHELAYER_{name.upper()}"
        if name == "path" and path is not None:
            source = "--path"
        elif variable in variables:
            source = variable
        elif name in in_file:
            source = str(toml)
        else:
            continue
        yield Check(f"setting {name}", "ok", f"{getattr(settings, name)} (from {source})")
    if settings.disabled:
        yield Check("disabled", "warn", "the cache is switched off: every call passes through")


def _access(folder: Path) -> Check:
    if not os.access(folder, os.R_OK | os.X_OK):
        return Check("access", "problem", "the folder cannot be read by this user")
    if not os.access(folder, os.W_OK):
        return Check("access", "warn", "the folder cannot be written: hits are served, nothing new is stored")
    return Check("access", "ok", "can be read and written")


def _modes(folder: Path) -> Iterator[Check]:
    """Prompts and images are nobody else's business; the folder itself may have been made by the user."""
    open_to_others = []
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            found = Path(parent, name)
            try:
                mode = found.lstat().st_mode
            except OSError:
                continue  # gone meanwhile
            if not stat.S_ISLNK(mode) and mode & 0o077:
                open_to_others.append(found.relative_to(folder))
    if open_to_others:
        found_open = f"{open_to_others[0]}" + (f" and {len(open_to_others) - 1:,} more" if open_to_others[1:] else "")
        yield Check("modes", "problem", f"others can get at {found_open}; chmod -R go-rwx {folder} closes them")
    elif folder.stat().st_mode & 0o077:
        yield Check("modes", "warn", f"others can list the folder, though not what is in it; chmod 700 {folder}")
    else:
        yield Check("modes", "ok", "only the owner can get at anything")


def _store(folder: Path) -> Iterator[Check]:
    if not (folder / "format").exists():
        yield Check("store", "ok", "nothing is stored yet")
        return
    try:
        with Reader(folder) as reader:
            entries, blobs, stored = reader.sizes()
            problems = reader.problems()
    except (StoreError, OSError) as error:
        yield Check("store", "problem", str(error))
    else:
        held = f"{number(entries, 'entry', 'entries')} and {number(blobs, 'blob')}, {size(stored)}"
        yield Check("store", "ok", f"the index can be read: {held}")
        kinds = Counter(problem.kind for problem in problems)
        for kind, count in sorted(kinds.items()):
            named = [f"{one.name[:12]} ({one.detail})" for one in problems if one.kind == kind][:SHOWN]
            more = f" and {count - SHOWN:,} more" if count > SHOWN else ""
            # An orphan is what a killed or a living writer leaves for the next clean-up; no answer is at stake.
            state: State = "warn" if kind == "orphaned-blob" else "problem"
            yield Check(kind, state, f"{count:,}: {', '.join(named)}{more}")
        if not kinds:
            yield Check("content", "ok", "every entry and every blob has its checksum")
    if (folder / "entries.aside").exists():
        yield Check("aside", "warn", f"an index that was refused lies in {folder / 'entries.aside'}")


def _ledger(folder: Path) -> Check:
    ledger = Ledger(folder / "ledger")
    if not ledger.folder.is_dir():
        return Check("ledger", "ok", "nothing was recorded yet")
    # Asked first: the ledger itself moves a file that it cannot read aside and begins anew.
    fault = _database_fault(ledger.folder / "ledger.sqlite3")
    if fault is not None:
        sentence = f"ledger.sqlite3 cannot be read: {fault}; the next outcome moves it aside and begins a new one"
        return Check("ledger", "problem", sentence)
    try:
        requests = reports.totals(ledger, since=None, store_sizes=(0, 0, 0)).requests
        damaged = ledger.damaged()
    except LedgerError as error:
        return Check("ledger", "problem", str(error))
    detail = number(requests, "outcome")
    if damaged:
        return Check("ledger", "problem", f"{detail}; {number(damaged, 'line')} could not be read and were left out")
    aside = sorted(ledger.folder.glob("ledger.sqlite3.damaged-*"))
    if aside:
        return Check("ledger", "problem", f"{detail}; an earlier ledger was damaged and lies in {aside[0]}")
    return Check("ledger", "ok", detail)


def _database_fault(file: Path) -> str | None:
    if not file.exists() or not file.stat().st_size:
        return None
    try:
        with inside_sqlite, closing(table.connect(file, "ro", 5)) as database:
            table.check_schema(database)
            (result,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except (*ERRORS, OSError, table.Unreadable) as error:
        return str(error)
    return None if result == "ok" else str(result)


def _leases(folder: Path) -> Check:
    file = folder / "leases.lock"
    if sys.platform == "win32":
        return Check("leases", "warn", "no record locks here: one flight per key within one process only")
    if not os.path.lexists(file):
        return Check("leases", "ok", "none was taken yet")
    if not stat.S_ISREG(file.lstat().st_mode):
        return Check("leases", "problem", f"{file} is not a plain file; remove it")
    if not os.access(file, os.R_OK | os.W_OK):
        return Check("leases", "warn", f"{file} cannot be written: calls are not joined across processes")
    return Check("leases", "ok", "can be taken")


def _disk(folder: Path, settings: Settings) -> Check:
    free = shutil.disk_usage(folder).free
    try:
        with Reader(folder) as reader:
            stored = reader.sizes()[2]
    except (StoreError, OSError):
        stored = 0
    wanted = max(0, settings.size_limit - stored)
    detail = f"{size(free)} free"
    if free < wanted:
        return Check("disk", "warn", f"{detail}, but size_limit lets the store grow by {size(wanted)} more")
    return Check("disk", "ok", f"{detail}, the store may grow by {size(wanted)}")


def _show(checks: list[Check], sound: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "warn": "yellow", "problem": "bold red"}
    screen = console()
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="cyan")
    table.add_column(overflow="fold")
    for check in checks:
        table.add_row(Text(check.state, style=styles[check.state]), check.check, visible(check.detail))
    screen.print(table)
    screen.print()
    warnings = sum(check.state == "warn" for check in checks)
    problems = sum(check.state == "problem" for check in checks)
    if sound:
        screen.print(Text("No problem found" + (f", {number(warnings, 'warning')}." if warnings else ".")))
    else:
        screen.print(Text(f"{number(problems, 'problem')} found.", style="bold red"))
