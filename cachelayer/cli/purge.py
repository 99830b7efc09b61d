"""`cachelayer purge`: the end of entries, their requests, and the images that no other entry needs."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from cachelayer.cli.failure import FOUND, USAGE, Failure
from cachelayer.cli.format import number, size, visible
from cachelayer.cli.places import existing_folder
from cachelayer.cli.reader import Reader
from cachelayer.cli.screen import print_json


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
    gone = delete(folder, key)
    if key is not None and not gone:
        raise Failure(f"no entry has the key {key}", FOUND)
    if as_json:
        print_json({"purged": gone})
    else:
        what = number(len(gone), "entry", "entries") if key is None else key
        print(f"purged {what}; the ledger keeps its figures, which hold no prompt and no image")


def delete(folder: Path, key: str | None) -> list[str]:
    """Delete one entry, or all of them where key is None; the keys of those that were there."""
    from cachelayer.stores.local import open_local

    # Without a bound: the folder may be in use with a larger size_limit than the settings here say, and opening it
    # with a smaller one would evict what nobody asked to purge.
    with closing(open_local(folder, size_limit=2**62)) as store:
        gone = [one.key for one in store.heads("" if key is None else key)]
        store.delete(gone)
        store.maintain()  # older copies in the write-ahead log go too
    return gone


def _ask(what: str) -> None:
    """Raises Failure unless somebody says yes."""
    if not sys.stdin.isatty():
        raise Failure(f"nothing was purged: this would delete {what}; say --yes, as there is no terminal to ask", USAGE)
    print(f"Delete {what}? It will be paid for again when it is asked for. [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("nothing was purged", FOUND)
