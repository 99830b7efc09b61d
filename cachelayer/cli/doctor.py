"""`cachelayer doctor`: looks at everything that can be wrong, changes nothing in the store, and says what it found."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from shlex import quote as shell_quote
from typing import TYPE_CHECKING, Any, Literal

import typer

from cachelayer.cli.failure import FOUND, Failure
from cachelayer.cli.format import number, size, visible
from cachelayer.cli.places import folder_of, settings_for
from cachelayer.cli.reader import Reader
from cachelayer.cli.screen import console, print_json
from cachelayer.cli.tables import show_grid
from cachelayer.core.errors import ConfigError, LedgerError, NewerFormat, StoreError
from cachelayer.core.reasons import Reason
from cachelayer.ledger import database, reports
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.prices import Prices
from cachelayer.machine.sqlite import ERRORS, inside_sqlite
from cachelayer.stores.local.folder import check

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
    remedy: str | None = None
    """What to do about it; None where all is well."""


def run(path: Path | None, *, as_json: bool) -> None:
    """The command. Exit code 1 when there is a problem; a warning is none."""
    checks = list(examine(path))
    sound = all(check.state != "problem" for check in checks)
    if as_json:
        print_json({"ok": sound, "checks": [asdict(check) for check in checks]})
    else:
        _show(checks, sound)
    if not sound:
        raise typer.Exit(FOUND)


def examine(path: Path | None) -> Iterator[Check]:
    """All checks that can be made, in order. Never raises for what it finds."""
    yield from _versions()
    try:
        settings = settings_for(path)
        Prices(settings.prices)
    except ConfigError as error:
        yield Check("settings", "problem", str(error), "correct it, or take it away")
        return
    yield from _settings(settings, path)
    try:
        folder = folder_of(settings.path)
    except Failure as failure:
        yield Check("folder", "problem", str(failure))
        return
    if not os.path.lexists(folder):
        yield _absent(folder)
        return
    if not folder.is_dir():
        yield Check("folder", "problem", f"{folder} is not a folder", f"remove it, or {_ELSEWHERE}")
        return
    yield Check("folder", "ok", str(folder))
    yield _access(folder)
    try:
        check(folder)
    except StoreError as error:
        remedy = "update cachelayer" if isinstance(error, NewerFormat) else _ELSEWHERE
        yield Check("store", "problem", str(error), remedy)
        return  # not ours, or a newer version's: neither ledger nor modes are our business
    except OSError as error:
        yield Check("store", "problem", f"{folder} cannot be read: {error.strerror}", _ELSEWHERE)
        return
    yield from _modes(folder)
    yield from _store(folder)
    yield from _ledger(folder)
    yield _leases(folder)
    yield _disk(folder, settings)


_ELSEWHERE = "name another folder with --path, CACHELAYER_PATH or the setting path"


def _absent(folder: Path) -> Check:
    """A folder that the first cached call will have to make: whether it can."""
    nearest = next(parent for parent in folder.parents if os.path.lexists(parent))
    detail = f"{folder} is not there yet"
    if not nearest.is_dir():
        return Check("folder", "problem", f"{detail} and cannot be made: {nearest} is not a folder", _ELSEWHERE)
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".cachelayer-", dir=nearest))  # rights alone do not tell: quotas, /proc
    except OSError as error:
        sentence = f"{detail} and cannot be made: {nearest} takes no new folder ({error.strerror})"
        return Check("folder", "problem", sentence, f"give this user the right to write there, or {_ELSEWHERE}")
    return Check("folder", "ok", f"{detail}; the first cached call makes it, in {nearest}")


def _quote(path: Path) -> str:
    return shell_quote(str(path))


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
    from cachelayer.settings.sources import source_of, unknown_variables

    # Values are shown: none of these settings is a secret.
    for name in type(settings).model_fields:
        source = "--path" if name == "path" and path is not None else source_of(name, ())
        if source is not None:
            yield Check(
                f"setting {name}", "ok", f"{getattr(settings, name)} (from {source.removeprefix('the variable ')})"
            )
    for variable, meant in unknown_variables(type(settings).model_fields).items():
        names = ", ".join(type(settings).model_fields)
        remedy = f"write {meant}, or unset it" if meant else f"unset it; the settings are {names}"
        yield Check("variable", "warn", f"{variable} is no setting and is ignored", remedy)
    if settings.disabled:
        sentence = "the cache is switched off: every call passes through"
        yield Check("disabled", "warn", sentence, Reason.DISABLED.remedy)


def _access(folder: Path) -> Check:
    if not os.access(folder, os.R_OK | os.X_OK):
        return Check("access", "problem", "the folder cannot be read by this user", f"chmod u+rwx {_quote(folder)}")
    if not os.access(folder, os.W_OK):
        sentence = "the folder cannot be written: hits are served, nothing new is stored"
        return Check("access", "warn", sentence, f"chmod u+w {_quote(folder)}, if something new should be")
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
        yield Check("modes", "problem", f"others can get at {found_open}", f"chmod -R go-rwx {_quote(folder)}")
    elif folder.stat().st_mode & 0o077:
        sentence = "others can list the folder, though not what is in it"
        yield Check("modes", "warn", sentence, f"chmod 700 {_quote(folder)}")
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
        remedy = "nothing to do: the next cached call moves it aside and begins a new one; an old copy may be put back"
        yield Check("store", "problem", str(error), remedy)
    else:
        held = f"{number(entries, 'entry', 'entries')} and {number(blobs, 'blob')}, {size(stored)}"
        yield Check("store", "ok", f"the index can be read: {held}")
        kinds = Counter(problem.kind for problem in problems)
        for kind, count in sorted(kinds.items()):
            named = [f"{one.name[:12]} ({one.detail})" for one in problems if one.kind == kind][:SHOWN]
            more = f" and {count - SHOWN:,} more" if count > SHOWN else ""
            # An orphan is what a killed or a living writer leaves for the next clean-up; no answer is at stake.
            state: State = "warn" if kind == "orphaned-blob" else "problem"
            remedy = "nothing to do: the next clean-up removes it" if state == "warn" else _DAMAGED
            yield Check(kind, state, f"{count:,}: {', '.join(named)}{more}", remedy)
        if not kinds:
            yield Check("content", "ok", "every entry and every blob has its checksum")
    for aside in sorted(folder.glob("entries.aside*")):
        yield Check("aside", "warn", f"an index that was refused lies in {aside}", f"remove it: rm -r {_quote(aside)}")


_DAMAGED = "nothing to do: it is never served, and the next call for it fetches it again"


def _ledger(folder: Path) -> Iterator[Check]:
    ledger = Ledger(folder / "ledger")
    if not ledger.folder.is_dir():
        yield Check("ledger", "ok", "nothing was recorded yet")
        return
    # Asked first: the ledger itself moves a file that it cannot read aside and begins anew.
    fault = _database_fault(ledger.folder / "ledger.sqlite3")
    if fault is not None:
        remedy = "put an old copy back, if there is one; else nothing: the next outcome moves it aside and begins anew"
        yield Check("ledger", "problem", f"ledger.sqlite3 cannot be read: {fault}", remedy)
        return
    try:
        totals = reports.totals(ledger, since=None, store_sizes=(0, 0, 0))
        damaged = ledger.damaged()
    except LedgerError as error:
        yield Check("ledger", "problem", str(error), f"look at the rights in {_quote(ledger.folder)}")
        return
    detail = number(totals.requests, "outcome")
    aside = sorted(ledger.folder.glob("ledger.sqlite3.damaged-*"))
    if damaged:
        sentence = f"{detail}; {number(damaged, 'line')} could not be read and were left out"
        yield Check("ledger", "problem", sentence, "nothing to do: the sums are of the rest")
    elif aside:
        remedy = f"remove it, if it is not wanted: rm {_quote(aside[0])}"
        yield Check("ledger", "problem", f"{detail}; an earlier ledger was damaged and lies in {aside[0]}", remedy)
    else:
        yield Check("ledger", "ok", detail)
    yield from _faults(totals.model_dump())


def _faults(totals: dict[str, Any]) -> Iterator[Check]:
    """What calls went on without, by the ledger."""
    for field, what, remedy in (
        (
            "faults",
            "{} of cachelayer, without which the calls went on",
            "look at the warnings of the logger cachelayer",
        ),
        ("broken", "{} found damaged and fetched again", _DAMAGED),
        ("not_kept", "{} paid for and not stored", "look at the reasons in cachelayer report"),
        ("lost", "{} begun by a program that was killed before it could book them", "end programs by close or SIGTERM"),
    ):
        count = totals.get(field) or 0
        if count:
            things = {"faults": "failure", "broken": "entry", "not_kept": "answer", "lost": "call"}[field]
            counted = number(count, things, "entries" if field == "broken" else None)
            yield Check(field.replace("_", "-"), "warn", what.format(counted), remedy)


def _database_fault(file: Path) -> str | None:
    if not file.exists() or not file.stat().st_size:
        return None
    try:
        with inside_sqlite, closing(database.connect(file, "ro", 5)) as opened:
            database.check_schema(opened)
            (result,) = opened.execute("PRAGMA quick_check(1)").fetchone()
    except (*ERRORS, OSError, LedgerError, database.Unreadable) as error:
        return str(error)
    return None if result == "ok" else str(result)


def _leases(folder: Path) -> Check:
    file = folder / "leases.lock"
    if sys.platform == "win32":
        sentence = "no record locks here: one flight per key within one process only"
        return Check("leases", "warn", sentence, "nothing to do on this platform")
    if not os.path.lexists(file):
        return Check("leases", "ok", "none was taken yet")
    if not stat.S_ISREG(file.lstat().st_mode):
        return Check("leases", "problem", f"{file} is not a plain file", "remove it")
    if not os.access(file, os.R_OK | os.W_OK):
        sentence = f"{file} cannot be written: calls are not joined across processes"
        return Check("leases", "warn", sentence, f"chmod u+rw {_quote(file)}")
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
        sentence = f"{detail}, but size_limit lets the store grow by {size(wanted)} more"
        return Check("disk", "warn", sentence, "lower the setting size_limit, or make room")
    return Check("disk", "ok", f"{detail}, the store may grow by {size(wanted)}")


def _words(check: Check) -> str:
    return visible(check.detail + (f" -> {check.remedy}" if check.remedy else ""))


def _show(checks: list[Check], sound: bool) -> None:
    from rich.text import Text

    styles = {"ok": "green", "warn": "yellow", "problem": "bold red"}
    screen = console()
    show_grid(
        screen,
        [(Text(check.state, style=styles[check.state]), check.check, _words(check)) for check in checks],
    )
    screen.print()
    warnings = sum(check.state == "warn" for check in checks)
    problems = sum(check.state == "problem" for check in checks)
    if sound:
        screen.print(Text("No problem found" + (f", {number(warnings, 'warning')}." if warnings else ".")))
    else:
        screen.print(Text(f"{number(problems, 'problem')} found.", style="bold red"))
