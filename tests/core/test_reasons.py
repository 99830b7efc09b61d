"""One list of reasons: every one in use is a member, has its words, and stands on docs/reasons.md."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cachelayer
from cachelayer.core.model import KeyRules, Request
from cachelayer.core.policy import bypass_reason
from cachelayer.core.reasons import UNKNOWN, Reason, meaning_of, remedy_of, status_reason
from cachelayer.dialects import ask
from cachelayer.simulator import Simulator
from tests.asking import GEMINI_PATH, PATH, body, gemini_body
from tests.core.reason_texts import document

PACKAGE = Path(cachelayer.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "reasons.md"

# --- the words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_says_what_it_means_and_what_to_do(reason: Reason) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", reason)
    for words in (reason.meaning, reason.remedy):
        assert words == words.strip()
        assert words
        assert words[-1] != "."
        assert words[0].islower()
        assert "\n" not in words
    assert (meaning_of(reason), remedy_of(reason)) == (reason.meaning, reason.remedy)


def test_no_two_reasons_mean_the_same() -> None:
    assert len({reason.meaning for reason in Reason}) == len(Reason)


@given(st.text() | st.from_regex(r"status-\d+", fullmatch=True))
def test_no_reason_is_without_words(reason: str) -> None:
    assert meaning_of(reason)
    assert remedy_of(reason)


@given(st.integers(100, 599))
def test_a_status_names_itself(status: int) -> None:
    assert meaning_of(status_reason(status)).endswith(f"status {status}")


@pytest.mark.parametrize("reason", ["", "status-", "status-x", "status-²", "what-comes-later"])
def test_what_is_no_member_says_so(reason: str) -> None:
    assert meaning_of(reason) == UNKNOWN


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == document(), "python -m tests.core.reason_texts > docs/reasons.md"


# --- nothing beside the list ------------------------------------------------------------------------------------------

CARRIERS = {
    "PassThrough",
    "Unkeyed",
    "Reading",
    "NotKeyed",
    "_unkeyed",
    "Asked",
    "Facts",
    "Said",
    "Event",
    "Fresh",
    "Replay",
    "Original",
}
"""What carries a reason, and how: by one of the names, or in the first place of the first ones."""
NAMES = ("reason", "refusal", "never_cached", "against")
FIRST = {"PassThrough", "Unkeyed", "Reading", "NotKeyed", "_unkeyed", "Said"}


def spelled_out(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of every reason that is a literal and no member."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in CARRIERS:
                given = [word.value for word in node.keywords if word.arg in NAMES]
                yield from _literals(*given, *(node.args[:1] if name in FIRST else []))
            elif name.strip("_") in ("event", "answer_headers"):
                yield from _literals(*[word.value for word in node.keywords if word.arg == "reason"])
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id in NAMES for target in targets):
                yield from _literals(node.value)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and re.search(
            "refus|bypass_reason|never_cached|against", node.name
        ):
            yield from _literals(*[end.value for end in ast.walk(node) if isinstance(end, ast.Return) and end.value])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("status-"):
            yield node.lineno, node.value


def _literals(*values: ast.expr) -> Iterator[tuple[int, str]]:
    for value in values:
        if isinstance(value, ast.IfExp):
            yield from _literals(value.body, value.orelse)
        elif isinstance(value, ast.BoolOp):
            yield from _literals(*value.values)
        elif isinstance(value, ast.JoinedStr) or (
            isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value
        ):
            yield value.lineno, ast.unparse(value)


@pytest.mark.parametrize("room", ["core", "dialects", "runtime", "clients"])
def test_no_reason_is_a_literal(room: str) -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in sorted((PACKAGE / room).rglob("*.py"))
        if path.name != "reasons.py"
        for line, text in spelled_out(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        'Unkeyed("closed")',
        'PassThrough(reason="closed", asked=None)',
        'raise NotKeyed(f"{x}")',
        'Reading(Reason.BLOCKED if bad else "odd")',
        'Asked(never_cached=a or "stateful")',
        'Facts("image", None, never_cached="stateful")',
        'Said("blocked" if bad else None)',
        'Said(against=f"{x}")',
        'def _against(a):\n    return "blocked"',
        'refusal = "no-image"',
        'reason: str | None = f"status-{x}"',
        'def _refusal(a):\n    return "blocked"',
        'await Record(_event(asked, reason="raised"))',
        'x = "status-429"',
    ],
)
def test_the_scan_finds_a_literal(source: str) -> None:
    assert list(spelled_out(ast.parse(source)))


def test_every_member_is_in_use() -> None:
    used = {
        node.attr
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }
    assert used == {member.name for member in Reason}


# --- live -------------------------------------------------------------------------------------------------------------


def asks() -> list[tuple[str, dict[str, Any]]]:
    typed = {"content-type": "application/json"}
    return [
        (PATH, {"json": body()}),
        (GEMINI_PATH, {"json": gemini_body()}),
        (PATH, {"json": body(stream=True)}),
        (PATH, {"json": body(response_format="url")}),
        (PATH, {"content": b"{", "headers": typed}),
        (PATH, {"content": b"{}", "headers": {"content-type": "text/plain"}}),
        (PATH, {"content": b"{}", "headers": typed | {"content-encoding": "gzip"}}),
        (PATH, {"content": b"{" + b" " * 20_000, "headers": typed}),
        (PATH, {"content": iter([b"{}"]), "headers": typed | {"content-length": "2"}}),
        ("/v1/images/edits", {"json": body(images=[{"image_url": "https://x.example/a.png"}])}),
        (GEMINI_PATH, {"json": gemini_body() | {"tools": [{"googleSearch": {}}]}}),
        (GEMINI_PATH.replace("-image", ""), {"json": {"contents": []}}),
        ("/v1/chat/completions", {"json": {}}),
    ]


def test_every_reason_that_comes_is_a_member(tmp_path: Path) -> None:
    """Through a real client: what stands in headers and in the ledger, of every way that the simulator can fail."""
    ways: list[dict[str, Any]] = [
        {},
        {"error_rate": 1},
        {"block_rate": 1},
        {"text_only_rate": 1},
        {"truncate_rate": 1},
        {"disconnect_rate": 1},
        {"rate_limit": 1},
    ]
    seen = set()
    for number, way in enumerate(ways):
        folder = tmp_path / str(number)
        with (
            Simulator(**way) as simulator,
            cachelayer.Cache(path=folder, max_body=10_000) as cache,
            cache.wrap(httpx.Client()) as client,
        ):
            for path, request in asks():
                try:
                    seen.add(client.post(simulator.url + path, **request).headers.get("x-cachelayer-reason"))
                except httpx.TransportError:
                    pass
            cache.stats()
        for file in (folder / "ledger").glob("*.segment"):
            seen |= {json.loads(line.split(b" ", 1)[1])["reason"] for line in file.read_bytes().splitlines()}
    seen -= {None}
    assert {reason for reason in seen if meaning_of(reason) == UNKNOWN} == set()
    assert len(seen) >= 12, seen


def test_which_reason_wins() -> None:
    """The order that docs/reasons.md gives; each request has every later fault as well."""
    rules = KeyRules(max_body=200)
    typed = {"content-type": "application/json"}
    stateful = {"contents": [{"parts": [{"fileData": {"fileUri": "gs://x"}}]}], "tools": [{"googleSearch": {}}]}
    url = "https://generativelanguage.googleapis.com/v1beta/models/"
    text, image = "gemini-2.5-flash:streamGenerateContent", "gemini-2.5-flash-image:streamGenerateContent"

    def why(path: str, content: Any, headers: dict[str, str]) -> str | None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        return bypass_reason(ask(Request("POST", url + path, headers, data), rules), ("image",))

    packed = {"content-type": "text/plain", "content-encoding": "gzip"}
    assert why("x:countTokens", b"{" * 300, packed) == Reason.UNRECOGNISED
    assert why(text, b"{" * 300, packed) == Reason.BODY_TOO_LARGE
    assert why(text, b"{", packed) == Reason.CONTENT_ENCODING
    assert why(text, b"{", {"content-type": "text/plain"}) == Reason.CONTENT_TYPE
    assert why(text, b"{", typed) == Reason.MALFORMED
    assert why(text, stateful, typed) == Reason.OPERATION_OFF
    assert why(image, stateful, typed) == Reason.STATEFUL
    assert why(image, {"contents": stateful["contents"]}, typed) == Reason.REFERENCE_UNKNOWN
    assert why(image, {"contents": []}, typed) == Reason.STREAM
    assert why(image.replace("stream", "").replace("Generate", "generate"), {"contents": []}, typed) is None
