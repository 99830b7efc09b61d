"""Failures of the disk and of SQLite, named as the errors that the runtime expects of a store. Nothing else."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from cachelayer.core.errors import NoRoom, StoreError
from cachelayer.sqlite import ERRORS, is_full


@contextmanager
def as_store_errors() -> Iterator[None]:
    """Raise what goes wrong inside as StoreError, as NoRoom when the disk is full."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise (NoRoom if full else StoreError)(f"the store cannot be used: {error}") from error
    except ERRORS as error:
        raise (NoRoom if is_full(error) else StoreError)(f"the index cannot be used: {error}") from error
