"""What happens when the program forks: every hook is registered here, and nothing else lives here.

A child has one thread, the one that forked, and copies of all memory: a lock that another thread held stays held in it
for ever, and what other threads were changing is half changed. So a room either holds its lock over the fork, or
begins anew in the child. Hooks run in the order of the imports before the fork's return, and in reverse before the
fork; they can never be taken back, so each is registered once, by a module, for all its objects.

Whatever acquires or releases a lock is handed over as the lock's own C method. A hook in Python may be interrupted by a
signal handler's exception before its first line, and would leave the lock held.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


def hold(lock: threading.Lock | threading.RLock) -> None:
    """Have a lock held by the forking thread over every fork, so that the child finds what it guards whole, and free.

    Only for locks that are held for moments: every fork of the program waits for them.
    """
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


def in_child(call: Callable[[], None]) -> None:
    """Have a call made in every forked child. It must not raise, and takes no lock that is not held over forks."""
    os.register_at_fork(after_in_child=call)


def wait_before(call: Callable[[], None]) -> None:
    """Have a call made before every fork, which waits for it. Those registered later are made earlier."""
    os.register_at_fork(before=call)
