"""Where a Cache's folder really is, and what stands in for one that is not to be had. Nothing in it is read here.

The user's path is resolved once, links and all: the cache folder may be a link to a larger disk, while links inside it
stay forbidden. The resolved path is the folder's identity: two names of one folder share flights, leases and ledger.

A makeshift folder keeps the outcomes of this process where the real one cannot take them.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from cachelayer.core.errors import NewerFormat, NotAStore, StoreError
from cachelayer.machine import forks

NOWHERE = Path(os.devnull)
"""Stands in for a folder that cannot be made: nothing is ever there."""

_makeshift: dict[Path, Path] = {}
_lock = threading.Lock()


class NoPlace(StoreError):
    """No folder may be made there now."""


class Place:
    """One folder, there or not. Making one never raises for what lies on disk, and touches nothing."""

    def __init__(self, path: Path | None) -> None:
        """path: as the settings have it; None: this user has no home folder."""
        self._given: Path | None = None
        self.path = NOWHERE
        """The folder's one absolute name; NOWHERE where there is none to be had."""
        if path is None:
            self._fault = "this user has no home folder; set path, CACHELAYER_PATH or XDG_CACHE_HOME"
            return
        try:
            # Now: a program that changes its working folder goes on with the same store.
            self._given = path.absolute()
            self.path = Path(os.path.realpath(self._given))
        except OSError:
            self._fault = f"{path} is relative to a working folder that is gone"

    def check(self) -> None:
        """Raise NoPlace, in one sentence, where no folder may be made."""
        if self._given is None:
            raise NoPlace(self._fault)
        for link in (self._given, *self._given.parents):
            # What it points to may be a disk that is not mounted yet; made now, it would fill another one.
            if link.is_symlink() and not os.path.exists(link):
                raise NoPlace(f"{link} is a link to nowhere")

    def for_outcomes(self, fault: Exception | None) -> Path:
        """The folder in which this process can keep its outcomes: this one, where a ledger can be written in it, else
        a makeshift one.

        fault: why the store could not be opened. In somebody else's folder nothing at all may be written.
        """
        if not isinstance(fault, NoPlace | NotAStore | NewerFormat):
            ledger = self.path / "ledger"
            with suppress(OSError):
                os.mkdir(ledger, 0o700)
            if os.access(ledger, os.W_OK | os.X_OK):
                return self.path
        return _makeshift_for(self.path)


def _makeshift_for(folder: Path) -> Path:
    """One for each folder and process, so that the Caches on it share their flights; NOWHERE when the system has no
    room for temporary files either."""
    with _lock:
        if folder not in _makeshift:
            try:
                _makeshift[folder] = Path(tempfile.mkdtemp(prefix="cachelayer-"))
            except OSError:
                return NOWHERE
        return _makeshift[folder]


def _remove(pid: int) -> None:
    if os.getpid() == pid:  # a forked child may end before us
        for folder in _makeshift.values():
            shutil.rmtree(folder, ignore_errors=True)


def _forked() -> None:
    global _lock
    _lock = threading.Lock()


# Here, not with the first folder: what is registered later runs earlier, and the flights that the program's end waits
# for have outcomes too.
atexit.register(_remove, os.getpid())
forks.in_child(_forked)
