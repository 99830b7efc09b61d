"""Every exception cachelayer may raise, in one tree.

    CachelayerError
      ConfigError        bad settings, at start-up, in one clear sentence
      StoreError         a store could not do what it was asked; never leaves the runtime
        NotAStore        the folder holds something else; it is not touched
        NewerFormat      the folder was written by a newer cachelayer; it is not touched
        NoRoom           size limit or disk full
      LedgerError        the ledger could not be read or written; never leaves the runtime

Only ConfigError reaches a user's code, and from stats() LedgerError: the cache never breaks the call.
"""

from __future__ import annotations


class CachelayerError(Exception):
    """Base of all of them."""


class ConfigError(CachelayerError, ValueError):
    """A setting is wrong; the message is one sentence that names it and says what would be right."""


class StoreError(CachelayerError):
    """A store failed; the caller treats the tier as not there."""


class NotAStore(StoreError):
    """The folder is not a store of ours, and not empty either."""


class NewerFormat(StoreError):
    """The store on disk has a newer format than this version knows."""


class NoRoom(StoreError):
    """No room: the disk is full, or what is to be kept is larger than the size limit."""


class LedgerError(CachelayerError):
    """The ledger failed."""
