"""Failures of the disk and of SQLite, named as the errors that the runtime expects of a store. Nothing else."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from cachelayer.core.errors import NoRoom, StoreError
from cachelayer.stores.index import ERRORS, code


@contextmanager
def as_store_errors() -> Iterator[None]:
    """Raise what goes wrong inside as StoreError, as NoRoom when the disk is full."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise (NoRoom if full else StoreError)(f"the store cannot be used: {error}") from error
    except ERRORS as error:
        # A failed COMMIT is followed by a ROLLBACK that fails as well and hides it.
        causes: list[BaseException] = [error]
        while causes[-1].__context__ is not None:
            causes.append(causes[-1].__context__)
        full = any(isinstance(cause, sqlite3.Error) and code(cause) == sqlite3.SQLITE_FULL for cause in causes)
        raise (NoRoom if full else StoreError)(f"the index cannot be used: {error}") from error
