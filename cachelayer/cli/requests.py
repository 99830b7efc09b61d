"""Requests that are not sent: what the cache would make of them, and in what two of them differ.

A request is named by a file, or by the key of an entry that answers it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachelayer.cli.failure import USAGE, Failure
from cachelayer.cli.format import json_text, visible
from cachelayer.cli.places import settings_for
from cachelayer.cli.screen import console, print_json
from cachelayer.core import canon
from cachelayer.core.model import Asked, Request, Unkeyed
from cachelayer.core.reasons import meaning_of, remedy_of
from cachelayer.questions import Difference, Explanation, differences, explanation

if TYPE_CHECKING:
    from rich.console import Console

_FIELDS = ("method", "url", "headers", "body", "body_base64")
_KEY = re.compile("[0-9a-fA-F]{1,64}")
_COUNTS_FOR_GOOD = frozenset({"accept", "host"})
"""Headers that nobody is advised to ignore: they ask for another shape of answer, or another provider."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """A request that is asked about."""

    name: str
    asked: Asked | Unkeyed
    told: Explanation

    @property
    def reason(self) -> str | None:
        """Why it is never answered from the cache, None when it may be."""
        return self.told.reason


def explain(path: Path | None, name: str, *, as_json: bool) -> None:
    """`cachelayer explain`."""
    subject = _subject(path, name)
    told = subject.told
    if as_json:
        document: dict[str, Any] = {
            "key": told.key,
            "operation": told.operation,
            "model": told.model,
            "fields": told.fields,
        }
        if subject.reason is not None:
            document["reason"] = subject.reason
        print_json(document)
        return
    from rich.text import Text

    screen = console()
    if subject.reason is not None:
        screen.print(Text(f"Not cached: {_because(subject.reason)}"))
    if told.key is not None:
        screen.print(Text(f"Key        {told.key}"), soft_wrap=True)
        screen.print(Text(f"Operation  {told.operation}"))
        screen.print(Text(f"Model      {visible(told.model)}"))
        screen.print()
        screen.print(Text(json_text(told.fields)), soft_wrap=True)
        _advise(screen, told.fields)


def diff(path: Path | None, one: str, other: str, *, as_json: bool) -> None:
    """`cachelayer diff`. A difference is an answer, not a problem: the exit code stays 0."""
    subjects = [_subject(path, one), _subject(path, other)]
    for name, subject in zip("ab", subjects, strict=True):
        if isinstance(subject.asked, Unkeyed):
            raise Failure(
                f"request {name} gets no key: {subject.asked.reason}, {meaning_of(subject.asked.reason)} "
                f"({one} is a, {other} is b)",
                USAGE,
            )
    a, b = (subject.asked for subject in subjects if isinstance(subject.asked, Asked))
    same, found = a.key == b.key, differences(a, b)
    reason = next((subject.reason for subject in subjects if subject.reason is not None), None)
    if as_json:
        print_json(
            {
                "same": same,
                "reason": reason,
                "differences": [asdict(difference) for difference in found],
            }
        )
        return
    screen = console()
    screen.print(("Same key" if same else "Two keys") + _so(same, subjects))
    _show_differences(screen, a, b, found)


def _so(same: bool, subjects: list[_Subject]) -> str:
    """What two requests mean for each other, as the end of a sentence."""
    reasons = {name: subject.reason for name, subject in zip("ab", subjects, strict=True) if subject.reason is not None}
    if not reasons:
        return ": one answer serves both." if same else ": neither answers the other."
    if len(set(reasons.values())) == 1 and len(reasons) == len(subjects):
        return f", and neither is ever answered from the cache: {_because(next(iter(reasons.values())))}."
    never = "; ".join(f"{name} is never answered from the cache: {_because(why)}" for name, why in reasons.items())
    return f"; {never}."


def _show_differences(screen: Console, a: Asked, b: Asked, found: list[Difference]) -> None:
    from rich.text import Text

    for difference in found:
        screen.print()
        screen.print(Text(visible(difference.field), style="bold"), soft_wrap=True)
        if difference.a is None and difference.b is None:
            screen.print("  null in one, absent in the other")
            continue
        for name, value in (("a", difference.a), ("b", difference.b)):
            shown = "(absent)" if value is None else json.dumps(value, ensure_ascii=False)
            screen.print(Text(f"  {name}: {visible(shown)}"), soft_wrap=True)
    # A rule says in the key that it took something out: it unites requests that both have the header, and no others.
    both = [difference.field for difference in found if difference.a is not None and difference.b is not None]
    rules = dict.fromkeys(rule for field in both for asked in (a, b) for rule in _rules_for(field, canon.fields(asked)))
    _say_rules(screen, list(rules))


def _advise(screen: Console, fields: dict[str, Any]) -> None:
    """How to leave out of the key what may change on every call."""
    names = [f"headers.{name}" for name in fields["headers"]]
    names += [f"query.{position}.0" for position in range(len(fields["query"]))]
    _say_rules(screen, [rule for name in names for rule in _rules_for(f"{name}.0", fields)])


def _rules_for(field: str, fields: dict[str, Any]) -> Iterator[str]:
    """The rule that leaves a header or a query parameter out of the key."""
    room, _, rest = field.partition(".")
    name = rest.rpartition(".")[0]
    if room == "headers" and name not in _COUNTS_FOR_GOOD:
        yield f"header:{name}"
    position = rest.partition(".")[0]
    if room == "query" and position.isdigit() and int(position) < len(fields["query"]):
        parameter = fields["query"][int(position)][0]
        if parameter is not None:
            yield f"query:{parameter}"


def _say_rules(screen: Console, rules: list[str]) -> None:
    from rich.text import Text

    if rules:
        screen.print()
        them = "it" if len(rules) == 1 else "them"
        screen.print(
            f"If {'that' if len(rules) == 1 else 'those'} cannot change the answer, leave {them} out of the key:"
        )
        screen.print(Text(f"  ignore={visible(json.dumps(rules, ensure_ascii=False))}", style="cyan"), soft_wrap=True)


def _because(reason: str) -> str:
    return f"{visible(reason)} ({meaning_of(reason)}; {remedy_of(reason)})"


def _subject(path: Path | None, name: str) -> _Subject:
    """The request that a file holds, else the one that an entry answers. Raises Failure."""
    from cachelayer.cli.answered import request_of
    from cachelayer.dialects import ask

    rules = settings_for(path).rules()
    asked: Asked | Unkeyed
    if name != "-" and _KEY.fullmatch(name) and not Path(name).exists():
        asked = request_of(path, name)
    else:
        asked = ask(read_request(name), rules.keys)
    return _Subject(name, asked, explanation(asked, rules))


def read_request(file: str) -> Request:
    """The request in a file, ``-`` for stdin: JSON {method, url, headers, body | body_base64}.

    A body that is an object or a list is serialised as compact JSON, and sent as such unless headers say otherwise.
    Raises Failure for anything else.
    """
    if not file.strip():
        raise Failure("the name of a request is empty; give a file, - for stdin, or the key of an entry", USAGE)
    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).expanduser().read_bytes()
    except OSError as error:
        raise Failure(f"{visible(file)} cannot be read: {error.strerror or error}", USAGE) from None
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
