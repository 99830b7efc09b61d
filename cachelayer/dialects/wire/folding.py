"""Folding: how the known fields of a body are written down, and a body is put in one spelling along them. No format's
fields live here.

Along known paths a name's other spelling, null and (where said) an empty object do not count. Everything that the
table does not name is kept as it is: unknown means different.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import repeat
from typing import Final, TypeAlias

from cachelayer.core.canon import escape, number
from cachelayer.core.jsonspan import Malformed
from cachelayer.core.model import Json
from cachelayer.dialects.wire import media


class Leaf(Enum):
    """What may stand at the end of a known path."""

    VALUE = "value"
    """Kept as it is, whatever it is; nothing inside it is known."""
    BINARY = "binary"
    """Base64: its bytes count, not their spelling."""


@dataclass(frozen=True, slots=True)
class Many:
    """A list of one kind (or, as some servers take it, a single one in place of the list)."""

    item: Node


@dataclass(frozen=True, slots=True)
class Known:
    """An object with known fields: the canonical name of each, and what stands there.

    config: an empty one, or one that folding leaves empty, is as good as none.
    """

    fields: Mapping[str, Node]
    config: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    """Every accepted spelling -> canonical name."""


Node: TypeAlias = Leaf | Many | Known
VALUE: Final = Leaf.VALUE
BINARY: Final = Leaf.BINARY
ABSENT: Final = object()
"""What ``fold`` returns for a value that is as good as none."""


def known(*values: str, config: bool = False, snake_too: bool = False, **nodes: Node) -> Known:
    """An object whose fields ``values`` are VALUE and whose fields ``nodes`` are what they are said to be.

    snake_too: names are camelCase and their snake_case spelling means the same (protobuf's JSON mapping takes both).
    """
    fields: dict[str, Node] = {**dict.fromkeys(values, VALUE), **nodes}
    names = {name: name for name in fields}
    if snake_too:
        names |= {snake(name): name for name in fields}
    return Known(fields, config, names)


def snake(name: str) -> str:
    """lowerCamelCase as snake_case."""
    return re.sub(r"[A-Z]", lambda letter: "_" + letter.group().lower(), name)


def fold(node: Node, value: Json) -> Json:
    """The canonical form of a value along its known fields; ABSENT when it is as good as none.

    Raises Malformed when a field stands there in both spellings: which one a server takes is not known.
    """
    if value is None:
        return ABSENT
    if isinstance(node, Known) and isinstance(value, dict):
        return _fold_object(node, value)
    if isinstance(node, Many):
        if isinstance(value, list):
            return [_kept(node.item, item) for item in value]
        if isinstance(value, dict):
            return _kept(node.item, value)
    if node is BINARY:
        found = media.inline(value)
        if found is not None:
            return found
    return plain(value)


def _kept(node: Node, item: Json) -> Json:
    # A null in a list is an item, and so is an empty object.
    if item is None:
        return None
    folded = fold(node, item)
    return {} if folded is ABSENT else folded


def _fold_object(node: Known, value: dict[str, Json]) -> Json:
    result: dict[str, Json] = {}
    seen: set[str] = set()
    for name, item in value.items():
        canonical = node.names.get(name)
        if canonical is None:
            result[escape(name)] = plain(item)
            continue
        if canonical in seen:
            raise Malformed(f"{canonical} is there in two spellings")
        seen.add(canonical)
        folded = fold(node.fields[canonical], item)
        if folded is not ABSENT:
            result[canonical] = folded
    return ABSENT if node.config and not result else result


def plain(value: Json) -> Json:
    """A value of which nothing is known: all of it counts."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {escape(name): plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, media.Long):
        return value.text()
    if isinstance(value, media.Formed):
        return value.form
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def without(node: Node, value: Json, paths: list[list[str]]) -> Json:
    """A raw value without what stands at some dotted paths; the value itself when nothing does.

    Positions in lists are those of the value as it is given, whatever else is taken out of the list. A known name may
    be spelled either way; any other is only itself.
    """
    if isinstance(node, Many) and not isinstance(value, list):
        node = node.item
    if isinstance(value, list):
        item = node.item if isinstance(node, Many) else VALUE
        return _without_items(item, value, paths)
    if not isinstance(value, dict):
        return value
    names = node.names if isinstance(node, Known) else {}
    result: dict[str, Json] = {}
    for name, inner in value.items():
        canonical = names.get(name, name)
        below = [rest for head, *rest in paths if names.get(head, head) == canonical]
        if [] not in below:
            child = node.fields.get(canonical, VALUE) if isinstance(node, Known) else VALUE
            result[name] = without(child, inner, below) if below else inner
    return value if _is_same(result.values(), value.values()) else result


def _without_items(node: Node, items: list[Json], paths: list[list[str]]) -> list[Json]:
    result = []
    for position, item in enumerate(items):
        below = [rest for head, *rest in paths if head.isdecimal() and head.isascii() and int(head) == position]
        if [] not in below:
            result.append(without(node, item, below) if below else item)
    return items if _is_same(result, items) else result


def _is_same(left: Collection[Json], right: Collection[Json]) -> bool:
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))


def strings(value: Json) -> Iterator[tuple[str, str]]:
    """Every (name of the nearest object field, string) inside a folded value."""
    # A stack of iterators: the items of a list of millions are not all put on it at once.
    stack: list[Iterator[tuple[str, Json]]] = [iter([("", value)])]
    while stack:
        for name, item in stack[-1]:
            if isinstance(item, str):
                yield name, item
            elif isinstance(item, dict):
                stack.append(iter(item.items()))
                break
            elif isinstance(item, list):
                stack.append(zip(repeat(name), item, strict=False))
                break
        else:
            stack.pop()


def strangers(node: Node, value: Json) -> Iterator[Json]:
    """What a folded value holds that its table does not know: fields of other names, base64 that is none."""
    if isinstance(node, Many) and isinstance(value, list):
        for item in value:
            yield from strangers(node.item, item)
    elif isinstance(node, Many) and isinstance(value, dict):
        yield from strangers(node.item, value)
    elif isinstance(node, Known) and isinstance(value, dict):
        for name, item in value.items():
            child = node.fields.get(name)
            if child is None:
                yield item
            else:
                yield from strangers(child, item)
    elif node is not VALUE:
        yield value


def is_url(text: str) -> bool:
    """Whether a string points at content that it does not hold."""
    return re.match(r"\s*(?:(?:https?|gs|s3|ftp|file):|[a-z][a-z0-9+.-]*://)", text[:64], re.IGNORECASE) is not None
