"""A wrong setting says where it came from, in our own words; a mistyped variable is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cachelayer
from cachelayer.settings import Settings
from cachelayer.settings.kinds import right
from cachelayer.settings.sources import source_of, unknown_variables

LEAKS = ("Value error", "Input", "valid ", "<class", "pydantic", "unable to", "Errno")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(**arguments: Any) -> str:
    with pytest.raises(cachelayer.ConfigError) as raised:
        cachelayer.Cache(**arguments)
    message = str(raised.value)
    assert "\n" not in message
    for leak in LEAKS:
        assert leak not in message, message
    return message


WRONG: list[tuple[str, Any, str, str]] = [
    ("path", 5, "", "path = 5"),
    ("size_limit", "plenty", "plenty", 'size_limit = "plenty"'),
    ("ttl", "soon", "soon", 'ttl = "soon"'),
    ("namespace", "x" * 201, "x" * 201, f'namespace = "{"x" * 201}"'),
    ("operations", ["audio"], "audio", 'operations = ["audio"]'),
    ("normalize", "Prompt", "Prompt", 'normalize = "Prompt"'),
    ("prices", 5, "5", "prices = 5"),
    ("prices", {"h.example": 0.05}, '{"h.example": 0.05}', '[prices]\n"h.example" = 0.05'),
    ("prices", {"h.example": "cheap"}, '{"h.example": "cheap"}', '[prices]\n"h.example" = "cheap"'),
    ("pools", [["a.example"]], '[["a.example"]]', 'pools = [["a.example"]]'),
    ("pools", ["a.example"], '["a.example"]', 'pools = ["a.example"]'),
    ("ignore", ["x-job-id"], "x-job-id", 'ignore = ["x-job-id"]'),
    ("max_body", -1, "-1", "max_body = -1"),
    ("finish_timeout", "30d", "30d", 'finish_timeout = "30d"'),
    ("hedge_after", 0, "0", "hedge_after = 0"),
    ("drain_timeout", "never", "never", 'drain_timeout = "never"'),
    ("drain_on_sigterm", "maybe", "maybe", 'drain_on_sigterm = "maybe"'),
    ("disabled", "maybe", "maybe", 'disabled = "maybe"'),
]


def test_every_setting_is_tried_and_has_its_words() -> None:
    assert {name for name, *_ in WRONG} == set(Settings.model_fields)
    assert {name for name, field in Settings.model_fields.items() if right(field) == "another value"} == set()


@pytest.mark.parametrize(("name", "value", "text", "toml"), WRONG, ids=[f"{w[0]}-{i}" for i, w in enumerate(WRONG)])
def test_a_wrong_setting_says_where_it_came_from(
    name: str, value: Any, text: str, toml: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refused(**{name: value})
    assert name in message
    assert message.endswith("(from an argument)")
    (here / "cachelayer.toml").write_text(toml)
    message = refused()
    assert name in message
    assert message.endswith(f"(from {here / 'cachelayer.toml'})")
    if text:
        monkeypatch.setenv(f"CACHELAYER_{name.upper()}", text)
        message = refused()
        assert name in message
        assert message.endswith(f"(from the variable CACHELAYER_{name.upper()})")


def test_a_variable_that_is_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHELAYER_POOLS", "a.example,b.example")
    message = refused()
    assert "written as JSON" in message
    assert message.endswith("(from the variable CACHELAYER_POOLS)")


def test_an_unknown_name_in_the_file(here: Path) -> None:
    (here / "cachelayer.toml").write_text('namespce = "x"')
    message = refused()
    assert "'namespace' may be meant" in message
    assert str(here / "cachelayer.toml") in message


def test_the_source_is_the_one_that_wins(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert source_of("ttl", ()) is None
    (here / "cachelayer.toml").write_text("ttl = 5")
    assert source_of("ttl", ()) == str(here / "cachelayer.toml")
    monkeypatch.setenv("cachelayer_ttl", "6")
    assert source_of("ttl", ()) == "the variable CACHELAYER_TTL"
    assert source_of("ttl", ["ttl"]) == "an argument"
    monkeypatch.setenv("cachelayer_ttl", "")
    assert source_of("ttl", ()) == str(here / "cachelayer.toml")


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CACHELAYER_NAMESPCE", "CACHELAYER_NAMESPACE"),
        ("CACHELAYER_DISABLE", "CACHELAYER_DISABLED"),
        ("CACHE_LAYER_PATH", "CACHELAYER_PATH"),
        ("CACHELAYR_SIZE_LIMIT", "CACHELAYER_SIZE_LIMIT"),
        ("CACHELAYER_FROB", None),
        ("CACHELAYER_", None),
    ],
)
def test_a_mistyped_variable_is_noticed(variable: str, meant: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unknown_variables(Settings.model_fields) == {}
    monkeypatch.setenv("CACHELAYER_TTL", "5")
    monkeypatch.setenv(variable, "1")
    assert unknown_variables(Settings.model_fields) == {variable: meant}


def test_the_folder_may_be_given_by_position(here: Path) -> None:
    with cachelayer.Cache("mine") as cache:
        assert cache.path == here / "mine"
    with cachelayer.Cache(here / "other") as cache:
        assert cache.path == here / "other"
    make: Any = cachelayer.Cache
    with pytest.raises(TypeError):
        make("mine", "10GB")


def test_an_argument_that_is_no_setting() -> None:
    message = refused(namespce="x")
    assert "'namespace' may be meant" in message
    assert message.endswith("(from an argument)")
