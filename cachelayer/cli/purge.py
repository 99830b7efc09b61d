"""`cachelayer purge`: the end of entries, their requests, and the images that no other entry needs."""

from __future__ import annotations

import sys
from pathlib import Path

from cachelayer.cli.failure import FOUND, USAGE, Failure
from cachelayer.cli.format import number, size, visible
from cachelayer.cli.places import existing_folder
from cachelayer.cli.reader import Reader
from cachelayer.cli.screen import print_json
from cachelayer.upkeep import purge


def run(path: Path | None, prefix: str | None, *, yes: bool, as_json: bool) -> None:
    """The command. prefix: of the key; None: everything. Raises Failure."""
    folder = existing_folder(path)
    with Reader(folder) as reader:
        key = None if prefix is None else reader.key_of(prefix)
        entries, _, stored = reader.sizes()
        entry = None if key is None else reader.entry(key)
    if not yes:
        what = f"all of {folder}, {number(entries, 'entry', 'entries')} and {size(stored)}"
        if key is not None:
            what = f"the entry {key}" + ("" if entry is None else f" of {visible(entry.model)}")
        _ask(what)
    gone = purge(folder, key)
    if key is not None and not gone:
        raise Failure(f"no entry has the key {key}", FOUND)
    if as_json:
        print_json({"purged": gone})
    else:
        what = number(len(gone), "entry", "entries") if key is None else key
        print(f"purged {what}; the ledger keeps its figures, which hold no prompt and no image")


def _ask(what: str) -> None:
    """Raises Failure unless somebody says yes."""
    if not sys.stdin.isatty():
        raise Failure(f"nothing was purged: this would delete {what}; say --yes, as there is no terminal to ask", USAGE)
    print(f"Delete {what}? It will be paid for again when it is asked for. [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("nothing was purged", FOUND)
