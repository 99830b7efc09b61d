"""What is done to a store from outside its daily work, for the command line and for programs: emptying it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path


def purge(folder: Path, key: str | None) -> list[str]:
    """Delete one entry, its request, and the images that no other entry needs; all of them where key is None.

    The keys of those that were there. Raises StoreError.
    """
    from cachelayer.stores.local import open_local

    # Without a bound: the folder may be in use with a larger size_limit than the settings here say, and opening it
    # with a smaller one would evict what nobody asked to purge.
    with closing(open_local(folder, size_limit=2**62)) as store:
        gone = [head.key for head in store.heads("" if key is None else key)]
        store.delete(gone)
        store.maintain()  # older copies in the write-ahead log go too
    return gone
