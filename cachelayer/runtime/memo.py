"""A memo of exact small requests: what was worked out for one is not worked out again. Nothing else lives here.

The very same request, method, URL, all headers in their order and body, byte for byte, gets the same key by the same
rules: there is nothing to decide. Compared as they are, never by a hash alone (DESIGN section 4). In memory only: URLs
and headers hold credentials.
"""

from __future__ import annotations

import threading
import weakref

from cachelayer import dialects
from cachelayer.core.model import Asked, Headers, KeyRules, Request, Unkeyed
from cachelayer.machine import forks

LARGEST_BODY = 65_536
"""Bytes. A larger body costs more to keep than its key to work out."""
LIMIT = 16_000_000
"""Bytes that a memo takes at most, by its own estimate, which is on the high side."""

_ENTRY, _HEADER = 2_000, 250
"""Bytes: what the objects of an entry and of a header take besides their text."""

_Exact = tuple[str, str, Headers, bytes]


class Memo:
    """The memo of one set of rules, the namespace among them. Safe for threads, and across fork.

    Two generations: what is new or asked again goes into the young one; when that holds half of LIMIT, the old one goes
    and the young one is old. So what is asked often stays, and nobody writes down on the way of a hit when it was used.
    """

    _young: dict[_Exact, Asked]
    _old: dict[_Exact, Asked]
    _held: int
    """Bytes of the young generation."""

    def __init__(self, rules: KeyRules) -> None:
        self._rules = rules
        self._forget()
        _all.add(self)

    def ask(self, request: Request) -> Asked | Unkeyed:
        """As dialects.ask, which it asks where it does not know."""
        if len(request.body) > LARGEST_BODY:
            return dialects.ask(request, self._rules)
        exact = (request.method, request.url, request.headers, request.body)
        known = self._young.get(exact)
        if known is not None:
            return known
        known = self._old.get(exact)
        if known is None:
            found = dialects.ask(request, self._rules)
            if not isinstance(found, Asked):  # said at once, and there may be many that nobody caches
                return found
            known = found
        self._keep(exact, known)
        return known

    def _keep(self, exact: _Exact, asked: Asked) -> None:
        size = _size(exact, asked)
        with self._lock:
            if exact in self._young or size > LIMIT // 2:
                return
            if self._held + size > LIMIT // 2:
                self._old, self._young, self._held = self._young, {}, 0
            self._young[exact] = asked
            self._held += size

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._young, self._old, self._held = {}, {}, 0


def memo_of(rules: KeyRules) -> Memo:
    """The one memo of a set of rules in this process, as long as anybody uses it."""
    memo = _memos.get(rules)
    if memo is None:
        memo = _memos.setdefault(rules, Memo(rules))
    return memo


def _size(exact: _Exact, asked: Asked) -> int:
    _, url, headers, body = exact
    text = sum(len(name) + len(value) + _HEADER for name, value in headers)
    # Up to four bytes a character, in Python and in a JSON text that the form repeats.
    return _ENTRY + 4 * (len(url) + text) + len(body) + 2 * len(asked.canonical)


_all: weakref.WeakSet[Memo] = weakref.WeakSet()
_memos: weakref.WeakValueDictionary[KeyRules, Memo] = weakref.WeakValueDictionary()


def _forked() -> None:
    for memo in list(_all):  # another thread may have been half-way through a change, and hold the lock for ever
        memo._forget()


forks.in_child(_forked)
