"""Scopes: what is one, what is not, and how pools write them."""

from __future__ import annotations

import pytest

from cachelayer.core.errors import ConfigError
from cachelayer.core.scope import member_of, pool_of, target_of
from cachelayer.settings import load_settings
from tests.dialects.asks import asked, gemini, generate, key

MODEL = "models/m-image:generateContent"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"https://gw/locations/us/v1/{MODEL}", f"https://gw/v1/projects/p/locations/us/publishers/google/{MODEL}"),
        (f"https://gw/locations/us/{MODEL}", f"https://gw/projects/p/locations/us/{MODEL}"),
        (f"https://gw/a/locations/us/{MODEL}", f"https://gw/a/projects/p/locations/us/{MODEL}"),
        (f"https://gw/$locations/us/{MODEL}", f"https://gw/locations/us/{MODEL}"),
        (f"https://gw/projects/p/locations/us/v1/{MODEL}", f"https://gw/v1/projects/p/locations/us/{MODEL}"),
        (f"https://gw/v2-experimental/{MODEL}", f"https://gw/{MODEL}"),
        (f"https://gw/v1.5/{MODEL}", f"https://gw/{MODEL}"),
        (f"https://gw/V1/{MODEL}", f"https://gw/{MODEL}"),
        (f"https://gw/v/{MODEL}", f"https://gw/{MODEL}"),
        (f"https://gw/v1/v1/{MODEL}", f"https://gw/v1/{MODEL}"),
        (f"https://gw/v1//{MODEL}", f"https://gw/v1/{MODEL}"),
    ],
)
def test_two_scopes(one: str, other: str) -> None:
    first, second = asked(gemini(url=one)), asked(gemini(url=other))
    assert first.scope != second.scope
    assert first.key != second.key


def test_the_project_is_left_out_and_the_location_stays() -> None:
    scopes = {
        asked(gemini(url=f"https://gw/a/{version}projects/{project}/locations/us/publishers/google/{MODEL}")).scope
        for project in ("p", "q")
        for version in ("", "v1/", "v1beta1/")
    }
    assert scopes == {"gw/a/locations/us"}


def test_a_prefix_like_a_version_counts_for_both_dialects() -> None:
    plain, odd = "https://gw/images/generations", "https://gw/v2-experimental/images/generations"
    assert asked(generate(url=odd)).scope == "gw/v2-experimental"
    assert key(generate(url=odd)) != key(generate(url=plain))


@pytest.mark.parametrize(
    "url", [f"https://gw\t/{MODEL}", f"https://g\nw/{MODEL}", f" https://gw/{MODEL}", f"https://gw/{MODEL} "]
)
def test_what_a_parser_would_drop_makes_no_url(url: str) -> None:
    assert target_of(url) is None


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("A.Example", "a.example"),
        ("https://a.example:443/", "a.example"),
        ("http://a.example", "a.example:80"),
        ("a.example:80", "a.example:80"),
        ("a.example/gw/v1beta/", "a.example/gw"),
        ("a.example/gw/v2-experimental", "a.example/gw/v2-experimental"),
        ("[::1]:5001", "[::1]:5001"),
        ("gw/a/locations/us", "gw/a/locations/us"),
        ("gw/$locations/us", "gw/$locations/us"),
        ("", None),
        ("a b", None),
        ("a.example?x=1", None),
        ("a.example#x", None),
        ("https://user:secret@a.example", None),
        ("ftp://a.example", None),
        ("a.example:port", None),
        ("name:x", None),
    ],
)
def test_members(text: str, scope: str | None) -> None:
    assert member_of(text) == scope


@pytest.mark.parametrize(
    "url",
    [
        f"https://gw/locations/us/v1/{MODEL}",
        f"https://gw/v1/projects/p/locations/us/{MODEL}",
        f"http://h:8080/a/v1/{MODEL}",
    ],
)
def test_a_scope_names_itself_as_a_member(url: str) -> None:
    """What explain shows is what a pool takes."""
    scope = asked(gemini(url=url)).scope
    assert member_of(scope) == scope


def test_only_the_first_may_be_a_name() -> None:
    assert pool_of([" name: the simulator ", "a.example"]).name == "the simulator"
    assert pool_of(["name:5001", "a.example"]).name == "5001"
    assert pool_of(["a.example", "name:5001"]).members == ("a.example", "name:5001")  # a host called so
    assert pool_of(["name.example", "a.example"]).name is None


@pytest.mark.parametrize(
    "pools",
    [
        [["a.example", "A.Example:443"]],
        [["a.example", "https://a.example/v1"]],
        [["a.example", "b.example"], ["https://B.example/v1/", "c.example"]],
        [["name:x", "a.example"], ["b.example", "A.EXAMPLE"]],
        [["name:x", "a.example"], ["name: x ", "b.example"]],
        [["name:x", "a.example", "a.example/"]],
        [["name:x"]],
        [["name:", "a.example"]],
        [["name: ", "a.example"]],
        [["a.example", "name:x"]],
        [["a.example", "https://user:hunter2@b.example"]],
        [["a.example", "b.example?x=1"]],
        [["a.example"]],
    ],
)
def test_pools_that_say_two_things_are_refused_at_start_up(pools: list[list[str]]) -> None:
    with pytest.raises(ConfigError, match="pools") as refused:
        load_settings(pools=pools)
    assert "hunter2" not in str(refused.value)


def test_a_pool_of_one_member_may_have_a_name() -> None:
    assert load_settings(pools=[["name:simulator", "127.0.0.1:5001"]]).pools == (("name:simulator", "127.0.0.1:5001"),)
