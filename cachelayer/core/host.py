"""How a host is spelled: the one place that says it, for ledger lines, reports and the settings that name hosts. Pure.

A host is written as in the URL: lower case, its port only where it is not the scheme's own. Two spellings of one name
(a trailing dot, an international name, the long form of an IPv6 address) are one. Keys go by scope (core/scope.py),
which always tells http from https, and a name from the same with a dot behind it: of one label they are two hosts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

_PORTS: Final = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """Where requests go, as somebody wrote it."""

    host: str
    """Lower case, in ASCII, an IPv6 address in brackets, no trailing dot."""
    port: int | None
    """As it was written, or the scheme's own where a scheme was; None where neither was."""
    scheme: str | None = None
    """``http`` or ``https``; None where none was written."""

    @property
    def name(self) -> str:
        """As a setting keeps it. The scheme stays only beside a port at which both are at home in some URL; elsewhere
        one port speaks one of them, and telling them apart would make two names of one place."""
        if self.port is None:
            return self.host
        told = f"{self.scheme}://" if self.scheme and self.port in _PORTS.values() else ""
        return f"{told}{self.host}:{self.port}"

    def is_spelled_like(self, other: Place) -> bool:
        """Whether a setting that names both may mean one place twice."""
        return self.name == other.name or (
            (self.host, self.port) == (other.host, other.port) and None in (self.scheme, other.scheme)
        )


def written_host(url: str) -> str:
    """The host of an absolute http(s) URL as it stands there, ``host[:port]``; "" for any other text."""
    try:
        parts = urlsplit(url)
        named, port = parts.hostname, parts.port
    except ValueError:
        return ""
    own = _PORTS.get(parts.scheme)
    if own is None or not named:
        return ""
    try:
        host = _ascii(named)
    except ValueError:  # no address and no name that DNS could hold; a client may call it all the same
        host = f"[{named}]" if ":" in named else named
    return host if port in (None, own) else f"{host}:{port}"


def place_of(text: str) -> Place | None:
    """What a setting names: a host, host:port, or the URL of one. None for anything else, a path among it, by which
    no price goes. Userinfo is dropped.
    """
    try:
        parts = _split(text)
        host, port = _ascii(parts.hostname or ""), parts.port
    except ValueError:
        return None
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return None
    if parts.scheme not in ("", *_PORTS) or not (host.startswith("[") or _NAME.fullmatch(host)):
        return None
    return Place(host, _PORTS.get(parts.scheme) if port is None else port, parts.scheme or None)


@lru_cache(maxsize=256)
def spellings(host: str, scope: str) -> tuple[str, ...]:
    """The names under which a setting may know a request's host, the most specific first: by scheme and port, by its
    port, as in its URL.

    scope: of the same request, which has every port but that of https.
    """
    place, written = place_of("https://" + scope.partition("/")[0]), place_of(host)
    if place is None:
        return (host,)
    names = [f"{place.host}:{place.port}", host]
    if written is not None and place.port in _PORTS.values():
        # A port that the URL leaves out is its scheme's own, and one that it spells out is not.
        scheme = next(name for name, port in _PORTS.items() if (port == place.port) == (written.port is None))
        names.insert(0, Place(place.host, place.port, scheme).name)
    return tuple(dict.fromkeys(names))


def _split(text: str) -> SplitResult:
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("no host has a blank")  # urlsplit would remove some of them
    if "://" in text:
        return urlsplit(text)
    try:
        return urlsplit(f"//[{ip_address(text)}]" if ":" in text else f"//{text}")
    except ValueError:
        return urlsplit(f"//{text}")


def _ascii(host: str) -> str:
    return one_spelling(host).rstrip(".")


def one_spelling(host: str) -> str:
    """A host in lower case and ASCII, an address in its short form and brackets; a dot at its end stays.

    Raises ValueError for an address that is none, and for what no name can be.
    """
    if ":" in host:
        return f"[{_short(IPv6Address(host))}]"
    host = host.lower()
    if host.isascii():
        return host
    # Late: it reads tables of all of Unicode. httpx and requests spell names for the wire by the same library.
    import idna

    return idna.encode(host, uts46=True).decode("ascii")  # IDNAError is a ValueError


def _short(address: IPv6Address) -> str:
    """The short form of RFC 5952, never with dots in it: Python 3.13 began to write them into an address that maps one
    of IPv4, and no key may depend on who asks."""
    if address.ipv4_mapped is None:
        return str(address)
    high, low = divmod(int(address.ipv4_mapped), 0x10000)
    zone = "" if address.scope_id is None else f"%{address.scope_id}"
    return f"::ffff:{high:x}:{low:x}{zone}"
