"""A hit's body, rebuilt through a buffer that its thread keeps. Only the keeping of buffers lives here.

What a large answer costs is fresh memory, a page fault for every 4 KB of it, not reading, checking and encoding
(PERF-FACTS). So blobs are read into memory that is warm, and the body is the only large allocation of a hit.
"""

from __future__ import annotations

import mmap
import threading

from cachelayer.core.entry import Entry, ReadBlob, rebuild

_LARGEST = 8 * 1024 * 1024
"""Bytes that a thread keeps at most. A larger blob is read in pieces."""
_SMALLEST = 256 * 1024

_kept = threading.local()


def body_of(entry: Entry, read: ReadBlob) -> bytes:
    """The body of an entry, each blob checked on its way. Raises Broken."""
    wanted = max((ref.size + 1 for ref in entry.blobs), default=0)
    # Taken, not looked at: a signal handler or a finalizer may ask for a body of its own while we rebuild ours.
    buffer: mmap.mmap | None = _kept.__dict__.pop("buffer", None)
    size = min(max(1 << (wanted - 1).bit_length() if wanted else 0, _SMALLEST), _LARGEST)
    if wanted and (buffer is None or len(buffer) < size):
        # Private: a forked child must not write into its parent's. Not a bytearray: the kernel copies into memory that
        # does not begin at a multiple of 64 at a fraction of the speed.
        buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        return rebuild(entry, read, memoryview(buffer or b""))
    finally:
        _kept.buffer = buffer
