"""The store's folder as a whole: its format, and which index stands in it. Nothing of its content is read here.

format        which layout this is; locked while an index is opened or replaced
entries/      the index (index.py, tables.py)
entries.aside the last index that was refused, for who wants to look at it
blobs/ incoming/ trash/   (blobs.py)
writers.lock  (writers.py)
ledger/ leases.lock       other rooms'
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cachelayer.core.errors import NewerFormat, NotAStore, StoreError
from cachelayer.machine.files import make_folder, sync_folder
from cachelayer.machine.locks import locked
from cachelayer.stores.local import index
from cachelayer.stores.local.blobs import BlobFiles

FORMAT = 1
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
    try:
        text = (path / "format").read_bytes()
    except FileNotFoundError:
        foreign = {name for name in os.listdir(path) if not name.startswith(".")} - _BEFORE_US
        if foreign and not (path / "format").exists():
            raise NotAStore(
                f"{path} is not a cachelayer store: it is not empty ({min(foreign)}) and has no format file"
            ) from None
        _write_format(path)
        text = (path / "format").read_bytes()
    match = re.fullmatch(rb"cachelayer store ([0-9]{1,9})\n", text)
    if match is None:
        raise NotAStore(f"{path} is not a cachelayer store: its format file is not one")
    if int(match[1]) > FORMAT:
        raise NewerFormat(
            f"{path} has store format {int(match[1])}, this version knows {FORMAT}: update cachelayer or use another"
            " path"
        )
    folders = [path, *(path / name for name in ("entries", "blobs") if (path / name).is_dir())]
    return not all(os.access(folder, os.W_OK | os.X_OK) for folder in folders)


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
            fault = "it is damaged" if now is not None and now == damaged else find_fault(entries)
            if fault is None:
                return
            aside = path / "entries.aside"
            if aside.is_symlink() or aside.is_file():
                aside.unlink()
            elif aside.exists():
                shutil.rmtree(aside)
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
    if fault is not None:
        where = "a fresh one was begun" if fault == "it is missing" else f"it was moved to {path / 'entries.aside'}"
        warn(f"the index of {path} was not used because {fault}; {where}")


def find_fault(entries: Path) -> str | None:
    """Why the index in this folder must not be opened; None when it may. Changes nothing."""
    if entries.is_symlink() or not entries.is_dir():
        return "it is not a folder"
    if index.identity(entries) is None:
        return "it is missing"
    return index.find_fault(entries)


def _write_format(path: Path) -> None:
    temporary = path / f".format-{os.getpid()}-{time.monotonic_ns()}"
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(file, 0o600)
            os.write(file, b"cachelayer store %d\n" % FORMAT)
            os.fsync(file)
        finally:
            os.close(file)
        with suppress(FileExistsError):  # another process was first
            os.link(temporary, path / "format")
        sync_folder(path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path / "format", OPEN_WAIT))
        except TimeoutError:
            raise StoreError(f"{path} is being opened by another process that does not finish") from None
        yield
