"""A hit's body, rebuilt through a buffer that its thread keeps. Only the keeping of buffers lives here.

What a large answer costs is fresh memory, a page fault for every 4 KB of it, not reading, checking and encoding
(PERF-FACTS). So blobs are read into memory that is warm, and the body is the only large allocation of a hit.
"""

from __future__ import annotations

import mmap
import threading

from cachelayer.core.entry import PIECE, Entry, Pour, Text, join, rebuild

_kept = threading.local()


def body_of(entry: Entry, pour: Pour) -> bytes:
    """The body of an entry, each blob checked on its way. Raises Broken."""
    if all(isinstance(piece, Text) for piece in entry.template):
        return join(entry.template, {})
    # Taken, not looked at: a signal handler or a finalizer may ask for a body of its own while we rebuild ours.
    buffer: mmap.mmap | None = _kept.__dict__.pop("buffer", None)
    if buffer is None:
        # Private: a forked child must not write into its parent's. Not a bytearray: the kernel copies into memory that
        # does not begin at a multiple of 64 at a fraction of the speed.
        buffer = mmap.mmap(-1, PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        return rebuild(entry, pour, memoryview(buffer))
    finally:
        _kept.buffer = buffer
