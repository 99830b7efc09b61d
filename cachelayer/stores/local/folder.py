"""The store's folder as a whole: its format, and which index stands in it. Nothing of its content is read here.

format        which layout this is (formats.py); locked while an index is opened or replaced
entries/      the index (index.py, tables.py)
entries.aside, entries.aside-2 ...   what was refused or damaged, for who wants to look at it
blobs/ incoming/ trash/   (blobs.py)
writers.lock  (writers.py)
maintained    (maintenance.py)
ledger/ leases.lock       other rooms'
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cachelayer.core.errors import NotAStore, StoreError
from cachelayer.machine.files import make_folder, sync_folder
from cachelayer.machine.locks import locked
from cachelayer.machine.sqlite import ERRORS, is_damage
from cachelayer.stores.local import formats, index
from cachelayer.stores.local.blobs import BlobFiles

OPEN_WAIT = 10.0
"""Seconds that opening waits for another process that opens; it takes milliseconds, seconds with a new index beside a
million blobs."""

_BEFORE_US = frozenset({"ledger", "leases.lock", "writers.lock"})
"""What other rooms may have put into the folder before the store is opened."""


def prepare(path: Path) -> bool:
    """Check the format, or write it into a new folder; True when the folder can only be read.

    Raises NewerFormat and NotAStore without touching anything.
    """
    if path.is_symlink() and not path.exists():
        raise StoreError(f"{path} is a link to nowhere")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make_folder(path)
    number = check(path)
    if number is None:
        formats.write_new(path)
        number = check(path) or 0
    if not _may_write(path):
        _refuse_older(path, number)
        return True
    return False


def check(path: Path) -> int | None:
    """The format of a folder, None where nothing is stored in it yet. Changes nothing.

    Raises NotAStore where it is somebody else's, NewerFormat where a newer version's.
    """
    number = formats.read_number(path)
    if number is not None:
        formats.refuse_newer(path, number)
        return number
    foreign = {name for name in os.listdir(path) if not name.startswith(".")} - _BEFORE_US
    if foreign and not (path / "format").exists():
        raise NotAStore(f"{path} is not a cachelayer store: it is not empty ({min(foreign)}) and has no format file")
    return None


def check_to_look(path: Path) -> None:
    """Raise StoreError where there is no store that this version can read as it is. Changes nothing."""
    number = check(path) if path.is_dir() else None
    if number is None:
        raise StoreError(f"there is no store in {path}")
    _refuse_older(path, number)


def _refuse_older(path: Path, number: int) -> None:
    if number < formats.FORMAT:
        raise StoreError(
            f"{path} has store format {number}: open it once where it can be written, to bring it up to date"
        )


def _may_write(path: Path) -> bool:
    folders = [path, *(path / name for name in ("entries", "blobs") if (path / name).is_dir())]
    return all(os.access(folder, os.W_OK | os.X_OK) for folder in folders)


def ensure_index(path: Path, files: BlobFiles, damaged: tuple[int, int] | None, warn: Callable[[str], None]) -> None:
    """Leave an index in place that may be opened, replacing one that may not.

    damaged: identity of an index that was found damaged in use. Every replacement is one call of ``warn``.
    """
    entries = path / "entries"
    with _locked(path):
        files.create()
        fault: str | None = None
        if os.path.lexists(entries):
            now = index.identity(entries)
            fault = "it is damaged" if now is not None and now == damaged else _upgrade(path) or find_fault(entries)
            if fault is None:
                return
            aside = _place_aside(path)
            os.rename(entries, aside)
        elif next(files.walk(), None) is not None:
            fault = "it is missing"
        # Built aside and renamed, so that a process killed here leaves no half index.
        fresh = path / "entries.new"
        with suppress(FileNotFoundError):
            shutil.rmtree(fresh)
        make_folder(fresh)

        def fill(connection: sqlite3.Connection) -> None:
            # Files of the index that is gone are counted from the start, as blobs that nothing needs.
            connection.executemany("INSERT INTO Shelf VALUES (?, ?)", files.shelves())
            connection.executemany(
                "INSERT INTO Blob VALUES (?, ?, ?, 1)", ((name, one.size, one.disk) for name, one in files.walk())
            )

        index.build(fresh, fill=fill)
        os.rename(fresh, entries)
        sync_folder(path)
        _upgrade(path)  # an older folder whose index is today's only now
    if fault is not None:
        where = "a fresh one was begun" if fault == "it is missing" else f"it was moved to {aside}"
        warn(f"the index of {path} was not used because {fault}; {where}")


def _upgrade(path: Path) -> str | None:
    """Bring an older folder up to date; why its index could not be, where it is damaged."""
    number = formats.read_number(path)
    if number is None or number == formats.FORMAT:
        return None
    formats.refuse_newer(path, number)
    try:
        with index.to_upgrade(path / "entries") as sql:
            formats.upgrade(sql, path, formats.UPGRADES)
    except ERRORS as error:
        if not is_damage(error):
            raise
        return str(error)
    return None


def _place_aside(path: Path) -> Path:
    """Where an index is moved that may not be used. What was moved there before stays if it holds entries: it may be
    dear, and who set it aside may have been wrong about it."""
    number = 1
    while True:
        aside = path / ("entries.aside" if number == 1 else f"entries.aside-{number}")
        if not os.path.lexists(aside):
            return aside
        if aside.is_symlink() or aside.is_file():
            aside.unlink()
            return aside
        if not index.holds_entries(aside):
            shutil.rmtree(aside)
            return aside
        number += 1


def find_fault(entries: Path) -> str | None:
    """Why the index in this folder must not be opened; None when it may. Changes nothing. Raises NewerFormat."""
    if entries.is_symlink() or not entries.is_dir():
        return "it is not a folder"
    if index.identity(entries) is None:
        return "it is missing"
    return index.find_fault(entries)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path / "format", OPEN_WAIT))
        except TimeoutError:
            raise StoreError(f"{path} is being opened by another process that does not finish") from None
        yield
