"""Requests that are not sent: what the cache would make of them, and in what two of them differ."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachelayer.cli.failure import USAGE, Failure
from cachelayer.cli.format import json_text, visible
from cachelayer.cli.screen import console, print_json
from cachelayer.core.model import Request
from cachelayer.core.reasons import meaning_of

if TYPE_CHECKING:
    from cachelayer.cache import Cache

_FIELDS = ("method", "url", "headers", "body", "body_base64")


def explain(path: Path | None, file: str, *, as_json: bool) -> None:
    """`cachelayer explain`."""
    request = read_request(file)
    with _cache(path) as cache:
        found = cache.explain(request)
    if as_json:
        document: dict[str, Any] = {
            "key": found.key,
            "operation": found.operation,
            "model": found.model,
            "fields": found.fields,
        }
        if found.reason is not None:
            document["reason"] = found.reason
        print_json(document)
        return
    from rich.text import Text

    screen = console()
    if found.reason is not None:
        meaning = meaning_of(found.reason)
        screen.print(Text(f"Not cached: {found.reason}" + (f" ({meaning})" if meaning else "")))
    if found.key is not None:
        screen.print(Text(f"Key        {found.key}"), soft_wrap=True)
        screen.print(Text(f"Operation  {found.operation}"))
        screen.print(Text(f"Model      {visible(found.model)}"))
        screen.print()
        screen.print(Text(json_text(found.fields)), soft_wrap=True)


def diff(path: Path | None, one: str, other: str, *, as_json: bool) -> None:
    """`cachelayer diff`. A difference is an answer, not a problem: the exit code stays 0."""
    a, b = read_request(one), read_request(other)
    with _cache(path) as cache:
        try:
            differences = cache.diff(a, b)
        except ValueError as error:
            raise Failure(f"{error} ({one} is a, {other} is b)", USAGE) from None
    if as_json:
        print_json(
            {
                "same": not differences,
                "differences": [
                    {"field": difference.field, "a": difference.a, "b": difference.b} for difference in differences
                ],
            }
        )
        return
    from rich.text import Text

    screen = console()
    if not differences:
        screen.print("Same key: one answer serves both.")
        return
    screen.print("Two keys: neither answers the other.")
    for difference in differences:
        screen.print()
        screen.print(Text(visible(difference.field), style="bold"), soft_wrap=True)
        for name, value in (("a", difference.a), ("b", difference.b)):
            screen.print(Text(f"  {name}: {visible(json.dumps(value, ensure_ascii=False))}"), soft_wrap=True)


def read_request(file: str) -> Request:
    """The request in a file, ``-`` for stdin: JSON {method, url, headers, body | body_base64}.

    A body that is an object or a list is serialised as compact JSON, and sent as such unless headers say otherwise.
    Raises Failure for anything else.
    """
    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).expanduser().read_bytes()
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror or error}", USAGE) from None
    name = "stdin" if file == "-" else file
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failure(f"{name} is not JSON: {error}", USAGE) from None
    try:
        return _request(document)
    except ValueError as error:
        raise Failure(f"{name} is no request: {error}", USAGE) from None


def _request(document: Any) -> Request:
    if not isinstance(document, dict):
        raise ValueError("it must be an object with method, url, headers, and body or body_base64")
    unknown = sorted(document.keys() - set(_FIELDS))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is none of its fields, which are {', '.join(_FIELDS)}")
    method, url = document.get("method", "POST"), document.get("url")
    if not isinstance(method, str) or not isinstance(url, str):
        raise ValueError("method and url must be strings")
    headers = _headers(document.get("headers") or {})
    body, encoded = document.get("body"), document.get("body_base64")
    if body is not None and encoded is not None:
        raise ValueError("it has both body and body_base64")
    if encoded is not None:
        try:
            return Request(method, url, headers, base64.b64decode(encoded, validate=True))
        except (binascii.Error, TypeError, ValueError):
            raise ValueError("body_base64 is not base64") from None
    if body is None or isinstance(body, str):
        return Request(method, url, headers, (body or "").encode("utf-8", "surrogatepass"))
    if not isinstance(body, dict | list):
        raise ValueError("body must be an object, a list or a string")
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("content-type", "application/json"))
    return Request(method, url, headers, json.dumps(body, separators=(",", ":")))


def _headers(headers: Any) -> list[tuple[str, str]]:
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in pairs
    ):
        raise ValueError("headers must be an object of strings, or a list of [name, value]")
    return [(name, value) for name, value in pairs]


def _cache(path: Path | None) -> Cache:
    """A cache with the settings in force that opens nothing: explaining needs the rules, not the store."""
    from cachelayer.cache import Cache

    return Cache(path=path, disabled=True)
