"""docs/key-spec.md says what the code does: its examples are vectors, its tables are the code's."""

from __future__ import annotations

import json
import re
from pathlib import Path

from cachelayer.core.model import Asked
from cachelayer.dialects import ask
from cachelayer.dialects.gemini.fields import BODY
from cachelayer.dialects.wire.envelope import HEADER_PREFIXES_OUT, HEADERS_OUT, QUERY_OUT
from cachelayer.dialects.wire.folding import Known, Many, Node
from tests.vectors.regenerate import request_of, rules_of

PAGE = (Path(__file__).parents[2] / "docs" / "key-spec.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(
    r"^`([\w-]+)`: .*?```json\n(.*?)\n```\n\ncount (\d+), key `([0-9a-f]{64})`", re.MULTILINE | re.DOTALL
)


def test_the_examples_are_what_they_say() -> None:
    examples = EXAMPLE.findall(PAGE)
    assert len(examples) == 2
    for name, canonical, count, key in examples:
        vector = json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
        got = ask(request_of(vector), rules_of(vector))
        assert isinstance(got, Asked)
        assert (got.canonical.decode(), str(got.count), got.key) == (canonical, count, key)


def section(title: str) -> set[str]:
    """Everything in backticks in a section."""
    text = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    return set(re.findall(r"`([^`]+)`", text))


def test_every_header_and_parameter_that_is_left_out_is_named() -> None:
    named = {name.lower() for name in section("5. Out of the key")}
    assert named >= HEADERS_OUT | QUERY_OUT
    assert named >= {f"{prefix}*" for prefix in HEADER_PREFIXES_OUT}


def configs(node: Node, name: str = "") -> set[str]:
    if isinstance(node, Many):
        return configs(node.item, name)
    if not isinstance(node, Known):
        return set()
    inner = {config for field, child in node.fields.items() for config in configs(child, field)}
    return inner | ({name} if node.config else set())


def test_every_config_object_is_named() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| an empty config object and absent:"))
    assert set(re.findall(r"`([^`]+)`", row.split("|")[1])) == configs(BODY)
