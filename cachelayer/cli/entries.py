"""What is stored: a list, one entry in full, its images as files."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachelayer.cli.failure import Failure
from cachelayer.cli.format import age, dollars, duration, json_text, number, size, visible
from cachelayer.cli.images import extension, images_of
from cachelayer.cli.places import existing_folder
from cachelayer.cli.reader import Reader
from cachelayer.cli.screen import console, note, print_json
from cachelayer.cli.tables import Column, show_grid, show_table
from cachelayer.core import canon
from cachelayer.core.entry import Broken, Entry

if TYPE_CHECKING:
    from rich.console import Console

SHORT = 12
"""Digits of a key that are shown: enough to be unique among millions, short enough to be read out."""


def list_newest(path: Path | None, *, limit: int, as_json: bool) -> None:
    """`cachelayer ls`."""
    with Reader(existing_folder(path)) as reader:
        rows = reader.newest(limit)
        total = reader.sizes()[0]
    if as_json:
        print_json([{"key": key} | (_facts(entry) if entry else {"damaged": True}) for key, entry in rows])
        return
    screen = console()
    if not rows:
        screen.print("Nothing is stored yet.")
        return
    now = time.time()
    show_table(screen, _COLUMNS, [_row(key, entry, now) for key, entry in rows])
    if total > len(rows):
        note(f"the newest {number(len(rows), 'entry', 'entries')} of {total:,}; --limit shows more")


_COLUMNS = (
    Column("Key", "name"),
    *map(Column, ("Age", "Size", "Images", "Cost")),
    Column("Model", "name"),
    Column("Host", "name"),
)


def _row(key: str, entry: Entry | None, now: float) -> list[str]:
    if entry is None:
        return [key[:SHORT], "", "", "", "", "(damaged)", ""]
    return [
        key[:SHORT],
        age(now - entry.created),
        size(entry.body_size),
        f"{entry.images}",
        "unpriced" if entry.cost.usd is None else dollars(entry.cost.usd),
        visible(entry.model),
        visible(entry.host),
    ]


def show(path: Path | None, prefix: str, *, save: Path | None, as_json: bool) -> None:
    """`cachelayer show`."""
    with Reader(existing_folder(path)) as reader:
        key = reader.key_of(prefix)
        entry = reader.entry(key)
        if entry is None:
            raise Failure(f"the entry {key} is damaged; the next call for it will replace it")
        canonical = reader.canonical(key)
        request = None if canonical is None else canon.fields(canonical)
        saved = [] if save is None else _save(reader, entry, save.expanduser())
        head = reader.head(key)
    document = {
        "key": key,
        **_facts(entry),
        "spec": entry.spec,
        "status": entry.status,
        "headers": [list(pair) for pair in entry.headers],
        "expires": entry.expires,
        "last_use": None if head is None else head.used,
        "pricing": entry.cost.pricing,
        "pricing_reason": entry.cost.reason,
        "latency": entry.latency,
        "blobs": [
            {"digest": ref.digest, "size": ref.size, "mime": ref.mime, "image": ref.image} for ref in entry.blobs
        ],
        "request": request,
    }
    if save is not None:
        document["saved"] = [str(file) for file in saved]
    if as_json:
        print_json(document)
    elif save is not None:
        for file in saved:
            print(file)
    else:
        _describe(console(), entry, document)


def _facts(entry: Entry) -> dict[str, Any]:
    return {
        "namespace": entry.namespace,
        "operation": entry.operation,
        "model": entry.model,
        "host": entry.host,
        "created": entry.created,
        "body_size": entry.body_size,
        "images": entry.images,
        "cost_usd": None if entry.cost.usd is None else f"{entry.cost.usd:f}",
    }


def _describe(screen: Console, entry: Entry, document: dict[str, Any]) -> None:
    from rich.text import Text

    cost = "unpriced" if entry.cost.usd is None else f"${entry.cost.usd:f}, {entry.cost.pricing}"
    rows = [
        ("Key", entry.key),
        ("Model", f"{entry.model} ({entry.operation})"),
        ("Host", entry.host),
        ("Namespace", entry.namespace),
        ("Stored", f"{_moment(entry.created)}, {age(time.time() - entry.created)} ago"),
        ("Expires", "never" if entry.expires is None else _moment(entry.expires)),
        ("Last use", _moment(document["last_use"])),
        ("Cost", f"{cost} ({entry.cost.reason})"),
        ("Latency", f"{duration(entry.latency)}, when it was made"),
        ("Answer", f"status {entry.status}, {size(entry.body_size)}, {number(entry.images, 'image')}"),
    ]
    for ref in entry.blobs:
        kind = "image" if ref.image else "other"
        rows.append(("Blob", f"{ref.digest} {size(ref.size)} {ref.mime} ({kind})"))
    show_grid(screen, [(label, visible(text)) for label, text in rows])
    screen.print()
    if document["request"] is None:
        screen.print("The request was too long to be kept.")
        return
    screen.print("Request, as it counts for the key:")
    screen.print(Text(json_text(document["request"])), soft_wrap=True)


def _moment(at: float | None) -> str:
    return "unknown" if at is None else datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def _save(reader: Reader, entry: Entry, folder: Path) -> list[Path]:
    """Write the images, verified, and never over a file that is there."""
    try:
        images = images_of(entry, reader.body(entry))
    except Broken as damage:
        raise Failure(f"the entry {entry.key[:SHORT]} is damaged: {damage}") from None
    if not images:
        raise Failure(f"the entry {entry.key[:SHORT]} holds no image")
    files = [
        folder / f"{entry.key[:SHORT]}-{position}.{extension(data)}" for position, data in enumerate(images, start=1)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        if os.path.lexists(file):
            raise Failure(f"{file} is there already; nothing was written")
    for file, data in zip(files, images, strict=True):
        with file.open("xb") as out:
            out.write(data)
    return files
