"""Everything of a request outside its body: scope, query, headers, content type. What may live here: what all wire
formats have in common; nothing about bodies. The tables are those of docs/key-spec.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from cachelayer.core.canon import digest_of
from cachelayer.core.model import Headers, Json, KeyRules, Request

_VERSION = re.compile(r"v\d+(?:p\d+)?(?:(?:alpha|beta)\d*)?")

_WHO_PAYS = """
    authorization proxy-authorization x-goog-api-key api-key x-api-key cookie
    openai-organization openai-project x-goog-user-project
"""
_HOW_IT_IS_SENT = """
    content-length content-type content-encoding transfer-encoding connection proxy-connection keep-alive te
    trailer upgrade expect accept-encoding user-agent
    x-goog-api-client x-server-timeout idempotency-key x-idempotency-key referer http-referer x-title
"""
_TRACING = """
    traceparent tracestate baggage b3 sentry-trace x-request-id x-correlation-id x-amzn-trace-id
    x-cloud-trace-context
"""
HEADERS_OUT: Final = frozenset((_WHO_PAYS + _HOW_IT_IS_SENT + _TRACING).split())
_OTHER_SHAPES: Final = ("image/", "text/event-stream")
"""Media ranges of answers that are no JSON: an ``accept`` of nothing else asks for another shape of answer. Whatever
else it says is how a request is sent."""
HEADER_PREFIXES_OUT: Final = ("x-stainless-", "x-b3-", "x-datadog-", "x-cachelayer-")
QUERY_OUT: Final = frozenset({"key", "api_key", "api-key", "access_token", "sig", "api-version"})
QUERY_PREFIXES_OUT: Final = ("x-amz-", "x-goog-")


@dataclass(frozen=True, slots=True)
class Target:
    """A request's URL, taken apart. Neither userinfo nor fragment is kept."""

    host: str
    """Lower case; [:port] unless it is https on 443."""
    path: str
    query: tuple[tuple[str, str | None], ...]
    """Raw (name, value) in order; value None where there is no "="."""


@lru_cache(maxsize=128)  # as many as urlsplit itself keeps: one request asks for its URL twice, a client for one host
def target_of(url: str) -> Target | None:
    """None for what is not an absolute http(s) URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host:
        return None
    if ":" in host:
        host = f"[{host}]"
    # http's own port is spelled out, so that http and https to one host never meet.
    if port is None:
        port = 80 if parts.scheme == "http" else 443
    if (parts.scheme, port) != ("https", 443):
        host = f"{host}:{port}"
    pairs = (segment.partition("=") for segment in parts.query.split("&") if segment)
    return Target(host, parts.path, tuple((name, value if mark else None) for name, mark, value in pairs))


def without_version(segments: list[str]) -> list[str]:
    """Path segments before the API path, the API version dropped if it stands last."""
    return segments[:-1] if segments and _VERSION.fullmatch(segments[-1]) else segments


def pooled(scope: str, rules: KeyRules) -> str:
    """The scope that enters the key: the first member of its pool, or itself."""
    for pool in rules.pools:
        if any(scope == _member(member) for member in pool):
            return _member(pool[0])
    return scope


def _member(text: str) -> str:
    """A pool's member as a scope is written. A member may be a URL, a bare host with a path, or just a name."""
    text = text.strip()
    target = target_of(text if "://" in text else f"https://{text}")
    if target is None:
        return text
    return "/".join([target.host, *without_version([part for part in target.path.split("/") if part])])


def query_form(query: Iterable[tuple[str, str | None]], rules: KeyRules) -> Json:
    """The query as it counts: [name, digest of value], sorted by name, the values of one name in their order.

    A parameter without a value is [null, digest of it all]: its name may be a token, with the padding of base64 or a
    client's "=" behind it, and no unknown token is written down.
    """
    kept = sorted((pair for pair in query if not _query_is_out(pair[0], rules)), key=lambda pair: pair[0])
    return [
        [name, _digest(value)]
        if value is not None and value.strip("=")
        else [None, _digest(name if value is None else f"{name}={value}")]
        for name, value in kept
    ]


def _query_is_out(name: str, rules: KeyRules) -> bool:
    lower = name.lower()
    return lower in QUERY_OUT or lower.startswith(QUERY_PREFIXES_OUT) or f"query:{name}" in rules.ignore


def header_form(request: Request, rules: KeyRules) -> Json:
    """The headers as they count: name -> digests of its values, in their order."""
    headers = [(name.lower(), value.strip(" \t")) for name, value in request.headers]
    ignored = {rule.removeprefix("header:").lower() for rule in rules.ignore if rule.startswith("header:")}
    form: dict[str, list[str]] = {}
    for name, value in headers:
        if name in HEADERS_OUT or name.startswith(HEADER_PREFIXES_OUT) or name in ignored:
            continue
        if (name == "host" and _is_host_of(request.url, value)) or (name == "accept" and not _asks_other_shape(value)):
            continue
        form.setdefault(name, []).append(_digest(value))
    return form


def _is_host_of(url: str, host: str) -> bool:
    """Whether a host header repeats the URL. Behind one address another name may be another provider."""
    own, named = target_of(url), target_of(f"{url.partition('://')[0]}://{host}")
    return own is not None and named == Target(own.host, "", ()) and "@" not in host and "#" not in host


def _asks_other_shape(accept: str) -> bool:
    return all(item.strip().lower().startswith(_OTHER_SHAPES) for item in accept.split(","))


def _digest(text: str) -> str:
    return digest_of(text.encode("utf-8", "surrogatepass"))


_PARAMETER = re.compile(r';\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]+)\s*')


def parameters(header: str) -> tuple[str, dict[str, str]] | None:
    """A header like ``form-data; name="x"`` as its value and parameters, both names lower case, quotes removed.

    None when it is not written that way, or a parameter repeats. Backslash escapes stay as they are written.
    """
    value, separator, _ = header.partition(";")
    found: dict[str, str] = {}
    position = len(value)
    while separator and position < len(header):
        match = _PARAMETER.match(header, position)
        if match is None or match[1].lower() in found:
            return None
        found[match[1].lower()] = match[2][1:-1] if match[2].startswith('"') else match[2]
        position = match.end()
    return value.strip().lower(), found


def content_type(headers: Headers) -> tuple[str, dict[str, str]] | None:
    """The one content type of a message and its parameters; None when there is none, or more than one."""
    values = [value for name, value in headers if name.lower() == "content-type"]
    return parameters(values[0]) if len(values) == 1 else None


def is_json(kind: tuple[str, dict[str, str]] | None) -> bool:
    """Whether a content type is JSON in UTF-8."""
    return kind is not None and kind[0] == "application/json" and kind[1].keys() <= {"charset"} and is_utf8(kind[1])


def is_form(kind: tuple[str, dict[str, str]]) -> bool:
    """Whether a content type is a form with text in UTF-8."""
    return kind[0] == "multipart/form-data" and kind[1].keys() <= {"boundary", "charset"} and is_utf8(kind[1])


def is_utf8(given: dict[str, str]) -> bool:
    """Whether the parameters of a content type name UTF-8, or no charset at all."""
    return given.get("charset", "utf-8").lower() in ("utf-8", "utf8")


def is_encoded(headers: Headers) -> bool:
    """Whether a body is compressed."""
    return any(
        coding.strip().lower() not in ("", "identity")
        for name, value in headers
        if name.lower() == "content-encoding"
        for coding in value.split(",")
    )
