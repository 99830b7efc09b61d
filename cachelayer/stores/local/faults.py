"""Failures of the disk and of SQLite, named as the errors that the runtime expects of a store. Nothing else."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from cachelayer.core.errors import NoRoom, StoreError
from cachelayer.machine.sqlite import ERRORS, is_full

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_disk_full(error: BaseException) -> bool:
    """Whether room on the disk would help."""
    return is_full(error) if isinstance(error, ERRORS) else getattr(error, "errno", None) in _FULL


@contextmanager
def as_store_errors() -> Iterator[None]:
    """Raise what goes wrong inside as StoreError, as NoRoom when the disk is full."""
    try:
        yield
    except OSError as error:
        full = error.errno in (*_FULL, errno.EFBIG)
        raise (NoRoom if full else StoreError)(f"the store cannot be used: {error}") from error
    except ERRORS as error:
        raise (NoRoom if is_full(error) else StoreError)(f"the index cannot be used: {error}") from error
