"""No fork while a thread of ours is inside SQLite. Only that gate lives here.

SQLite's allocator has one mutex for the whole process and no fork handler: a child forked while another thread holds
it waits for ever in its first sqlite3_open(). So every use of SQLite passes this gate, and a fork waits until nobody is
inside. Costs a hit 0.3 us.
"""

from __future__ import annotations

import os
import threading

FORK_WAIT = 1.0
"""Seconds that a fork waits. Who is inside for longer sleeps until another process has written, and holds no mutex."""


class Gate:
    """Counts the threads inside; shut while this process forks."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0
        self._shut = False

    def __enter__(self) -> None:
        with self._changed:
            while self._shut:
                self._changed.wait()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            if self._shut:
                self._changed.notify_all()

    def shut(self) -> None:
        with self._changed:
            while self._shut:  # another thread forks
                self._changed.wait()
            self._shut = True
            self._changed.wait_for(lambda: self._inside == 0, FORK_WAIT)

    def open(self) -> None:
        with self._changed:
            self._shut = False
            self._changed.notify_all()


inside_sqlite = Gate()

os.register_at_fork(
    before=inside_sqlite.shut,
    after_in_parent=inside_sqlite.open,
    after_in_child=inside_sqlite.__init__,  # type: ignore[misc]  # those who were inside are not in the child
)
