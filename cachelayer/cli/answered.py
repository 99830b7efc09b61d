"""The request that a stored entry answers, as far as its key goes: found by the key or by a unique beginning of it."""

from __future__ import annotations

from pathlib import Path

from cachelayer.cli.entries import SHORT
from cachelayer.cli.failure import Failure
from cachelayer.cli.places import existing_folder
from cachelayer.cli.reader import Reader
from cachelayer.core import canon
from cachelayer.core.model import Asked

_LARGEST_COUNT = 1024
"""Images of one request that are tried. No API that is known makes more than ten."""


def request_of(path: Path | None, prefix: str) -> Asked:
    """What was asked for. Raises Failure when there is no such entry, or its request was not kept or is damaged."""
    with Reader(existing_folder(path)) as reader:
        key = reader.key_of(prefix)
        canonical = reader.canonical(key)
        entry = reader.entry(key)
    if canonical is None:
        raise Failure(f"the request of the entry {key[:SHORT]} was too long to be kept, or is damaged")
    # The count stands outside the canonical request, in the key alone.
    count = next((n for n in range(_LARGEST_COUNT + 1) if canon.key_of(canonical, n) == key), None)
    if count is None:
        raise Failure(f"the request of the entry {key[:SHORT]} is damaged: it does not come to that key")
    fields = canon.fields(canonical)
    return Asked(
        key=key,
        canonical=canonical,
        dialect="",
        operation=fields["operation"],
        model=fields["model"] or "",
        scope=fields["scope"],
        host="" if entry is None else entry.host,
        namespace=fields["namespace"],
        count=count,
        stream=fields["response"] != "json",
        never_cached=None,
    )
