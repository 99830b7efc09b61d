"""The golden vectors of key spec v1. A failure here is never mended by a new vector: read regenerate.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from cachelayer.core.canon import KEY_VERSION
from cachelayer.core.model import Asked
from cachelayer.dialects import ask, names
from tests.vectors.regenerate import VECTORS, request_of, rules_of

FILES = sorted(Path(__file__).parent.glob("*.json"))

SAME = [
    {
        "gemini-text-prompt",
        "gemini-key-order-whitespace-escapes",
        "gemini-null-and-empty-config",
        "gemini-bookkeeping",
        "gemini-behind-gateways-and-tracers",
        "gemini-nothing-to-ignore",
        "gemini-pooled-without-a-name",
    },
    {"gemini-model-with-a-slash", "gemini-model-with-a-slash-encoded"},
    {"gemini-base64-url-safe-unpadded", "gemini-base64-standard-padded"},
    {"openai-generate", "openai-defaults-spelled-out", "openai-bookkeeping"},
    {"openai-no-model", "openai-auto-of-no-model"},
    {"openai-edit-form", "openai-edit-json"},
    {"openai-edit-form-one-image", "openai-edit-form-extended-filename"},
]
"""Vectors that share a key; all others have one of their own."""


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_vector(path: Path) -> None:
    vector = load(path)
    got = ask(request_of(vector), rules_of(vector))
    assert isinstance(got, Asked)
    assert got.canonical.decode() == vector["canonical"]
    assert (got.count, got.key, KEY_VERSION) == (vector["count"], vector["key"], vector["spec"])
    assert list(got.elsewhere) == vector["elsewhere"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_key_is_the_documented_hash(path: Path) -> None:
    vector = load(path)
    form = vector["canonical"].encode()
    framed = b"".join([(1).to_bytes(8, "big"), len(form).to_bytes(8, "big"), form, vector["count"].to_bytes(8, "big")])
    assert blake3(framed).hexdigest() == vector["key"]


def test_the_files_are_those_of_the_table() -> None:
    assert {path.stem for path in FILES} == VECTORS.keys()


@pytest.mark.parametrize("dialect", names())
def test_every_dialect_has_vectors(dialect: str) -> None:
    """Whatever is in the table: a dialect whose keys nothing pins could change them unseen."""
    asked = [ask(request_of(load(path)), rules_of(load(path))) for path in FILES]
    own = {path.stem for path, one in zip(FILES, asked, strict=True) if one.dialect == dialect}
    assert len(own) >= 10
    assert {name.partition("-")[0] for name in own} == {dialect.partition("-")[0]}


def test_which_share_a_key() -> None:
    by_key: dict[str, set[str]] = {}
    for path in FILES:
        by_key.setdefault(load(path)["key"], set()).add(path.stem)
    assert sorted(map(sorted, (names for names in by_key.values() if len(names) > 1))) == sorted(map(sorted, SAME))
