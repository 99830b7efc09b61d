"""Where an answer comes from. What may live here: a URL taken apart, the scope it names, and pools of scopes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from cachelayer.core.host import one_spelling
from cachelayer.core.model import Json

_UNSENDABLE = re.compile(r"[\0- ]")
_VERSION = re.compile(r"v\d+(?:p\d+)?(?:(?:alpha|beta)\d*)?", re.ASCII)
_LOCATIONS: Final = "locations"
_NAME: Final = "name:"
_POOL: Final = "$pool"
"""Marks a pool's name in the form: an object, where a scope of hosts is a text."""


@dataclass(frozen=True, slots=True)
class Target:
    """A request's URL, taken apart. Neither userinfo nor fragment is kept."""

    host: str
    """In its one spelling (core/host.py); [:port] unless it is https on 443."""
    path: str
    query: tuple[tuple[str, str | None], ...]
    """Raw (name, value) in order; value None where there is no "="."""


@lru_cache(maxsize=128)  # as many as urlsplit itself keeps: one request asks for its URL twice, a client for one host
def target_of(url: str) -> Target | None:
    """None for what is not an absolute http(s) URL."""
    # urlsplit drops tabs and line breaks wherever they stand, so that two URLs would become one; none can be sent.
    if _UNSENDABLE.search(url):
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host:
        return None
    try:
        host = one_spelling(host)
    except ValueError:  # a client may call it all the same
        host = f"[{host}]" if ":" in host else host
    # http's own port is spelled out, so that http and https to one host never meet.
    if port is None:
        port = 80 if parts.scheme == "http" else 443
    if (parts.scheme, port) != ("https", 443):
        host = f"{host}:{port}"
    pairs = (segment.partition("=") for segment in parts.query.split("&") if segment)
    return Target(host, parts.path, tuple((name, value if mark else None) for name, mark, value in pairs))


def scope_of(host: str, before: list[str], location: str | None = None) -> str:
    """The scope: host, the path segments before the API's without a version at their end, and Vertex's location.

    Only a location is written ``locations/L``: a prefix of that name gets a "$", so that it is never taken for one.
    """
    prefix = ["$" + part if part.lstrip("$") == _LOCATIONS else part for part in _without_version(before)]
    return "/".join([host, *prefix, *([] if location is None else [_LOCATIONS, location])])


def _without_version(segments: list[str]) -> list[str]:
    return segments[:-1] if segments and _VERSION.fullmatch(segments[-1]) else segments


def authority_of(scope: str) -> str:
    """The first part of a scope: the host, its port spelled out unless it is https on 443."""
    return scope.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Pool:
    """Scopes whose entries answer each other's requests, for whoever names them."""

    name: str | None
    members: tuple[str, ...]
    bare: frozenset[str] = frozenset()
    """Of those, the ones written as a host and nothing else. Such a one is asked by http too, on its own port, unless
    a pool says otherwise of that."""


def member_of(text: str) -> str | None:
    """A pool's member as a scope is written. None for what is none.

    A URL is the beginning of those that are called: the scope of what lies under it, without the API version and the
    slash at its end. Anything else is the scope itself, as ``explain`` shows it, letter by letter (some end with a
    version, or a slash); but one slash right behind a host says nothing.
    """
    text = text.strip()
    is_url = "://" in text
    target = target_of(text if is_url else f"https://{text}")
    if target is None or not {"?", "#", "@"}.isdisjoint(text):
        return None
    if not is_url:
        return target.host + (target.path if target.path != "/" else "")
    path = target.path.removesuffix("/")
    return scope_of(target.host, path[1:].split("/") if path else [])


def _is_bare(text: str) -> bool:
    text = text.strip().removesuffix("/")
    return "/" not in text and not re.search(r":\d*$", text)


def pool_of(texts: Iterable[str]) -> Pool:
    """A pool as the settings write it; its first member may be ``name:NAME``.

    Raises ValueError, saying why, for what names no pool.
    """
    given = list(texts)
    name = None
    if given and given[0].strip().startswith(_NAME):
        name = given.pop(0).strip().removeprefix(_NAME).strip()
        if not name:
            raise ValueError("a pool's name is empty")
    members: list[str] = []
    bare = set()
    for text in given:
        scope = member_of(text)
        if scope is None:
            shown = "a member with a user name" if "@" in text else repr(text)  # never a password
            raise ValueError(f"{shown} is no scope: write a host, host:port, host/path or a URL")
        if scope in members:
            raise ValueError(f"{scope!r} stands in one pool twice")
        members.append(scope)
        if _is_bare(text):
            bare.add(scope)
    if len(members) < (2 if name is None else 1):
        raise ValueError("a pool should name two scopes or more that share, or name:NAME and one or more")
    return Pool(name, tuple(members), frozenset(bare))


@lru_cache(maxsize=64)
def _by_scope(pools: tuple[tuple[str, ...], ...]) -> dict[str, Pool]:
    """Each scope that is in a pool -> that pool, all of its scopes written out."""
    named: list[Pool] = []
    for texts in pools:
        try:
            named.append(pool_of(texts))
        except ValueError:  # the settings refuse it at start-up
            continue
    said = {member for pool in named for member in pool.members}
    found: dict[str, Pool] = {}
    for pool in named:
        scopes: list[str] = []
        for member in pool.members:
            by_http = f"{member}:80"
            scopes += [member, by_http] if member in pool.bare and by_http not in said else [member]
        found = dict.fromkeys(scopes, Pool(pool.name, tuple(scopes))) | found
    return found


def places(scope: str, pools: tuple[tuple[str, ...], ...]) -> list[tuple[Json, str]]:
    """Where entries of a request to this scope may lie: (the scope as it stands in the form, the host asked there; ""
    under a pool's name).

    The first is the asker's own, under which his answer is kept; the others are only looked up.
    """
    pool = _by_scope(pools).get(scope) if pools else None
    if pool is None:
        return [(scope, authority_of(scope))]
    # Under a pool's name no host's own defaults are folded: what one leaves out means something else at another.
    own: list[tuple[Json, str]] = [] if pool.name is None else [({_POOL: pool.name}, "")]
    members = [scope, *(member for member in pool.members if member != scope)]
    return own + [(member, authority_of(member)) for member in members]
