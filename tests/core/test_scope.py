"""Scopes: what is one, what is not, and how pools write them."""

from __future__ import annotations

import json

import pytest

from cachelayer.core.errors import ConfigError
from cachelayer.core.model import Json
from cachelayer.core.scope import member_of, places, pool_of, target_of
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
        ("a.example/", "a.example"),
        ("https://a.example/gw/v1beta/", "a.example/gw"),
        ("https://a.example/v1/v1", "a.example/v1"),
        ("https://a.example/gw//", "a.example/gw/"),
        ("https://a.example//", "a.example/"),
        ("https://a.example/locations/us/v1", "a.example/$locations/us"),
        ("a.example/gw/v1beta", "a.example/gw/v1beta"),
        ("a.example/v1", "a.example/v1"),
        ("a.example/gw/", "a.example/gw/"),
        ("a.example/gw//", "a.example/gw//"),
        ("B\u00fccher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("http://[0:0:0:0:0:0:0:1]:5001/v1", "[::1]:5001"),
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
        f"https://gw/v1/v1/{MODEL}",
        f"https://gw/a//v1/{MODEL}",
        f"https://gw/v1//{MODEL}",
        f"https://gw/a//{MODEL}",
        f"https://b\u00fccher.example/v1/{MODEL}",
        f"https://[2001:DB8:0::1]/v1/{MODEL}",
    ],
)
def test_a_scope_names_itself_as_a_member(url: str) -> None:
    """What explain shows is what a pool takes."""
    scope = asked(gemini(url=url)).scope
    assert member_of(scope) == scope


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("b\u00fccher.example", "xn--bcher-kva.example"),
        ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
        ("[::FFFF:1]:8443", "[0:0:0:0:0:0:ffff:1]:8443"),
    ],
)
def test_two_spellings_of_a_host_are_one_scope(one: str, other: str) -> None:
    assert key(gemini(url=f"https://{one}/v1/{MODEL}")) == key(gemini(url=f"https://{other}/v1/{MODEL}"))


def test_a_name_and_the_same_with_a_dot_may_be_two_hosts() -> None:
    assert key(gemini(url=f"https://gw/{MODEL}")) != key(gemini(url=f"https://gw./{MODEL}"))


def test_a_host_that_no_name_can_be_has_a_scope_all_the_same() -> None:
    scopes = {
        asked(gemini(url=f"https://{host}/v1/{MODEL}")).scope for host in ("-\u00fc-.example", "-\u00f6-.example")
    }
    assert scopes == {"-\u00fc-.example", "-\u00f6-.example"}


def test_a_pool_that_is_none_joins_nothing() -> None:
    """The settings refuse it at start-up; whoever makes rules without them is not failed."""
    joined = ("https://a.example", "https://b.example")
    assert [scope for scope, _ in places("a.example", (("a.example",), joined))] == ["a.example", "b.example"]


class TestABareHost:
    """It is asked by http too, on its own port, unless a pool says otherwise."""

    @staticmethod
    def looked_up(url: str, *pools: tuple[str, ...]) -> list[Json]:
        scopes = [scope for scope, _ in places(asked(gemini(url=f"{url}/v1/{MODEL}")).scope, pools)]
        assert len(scopes) == len({json.dumps(scope) for scope in scopes})
        return scopes

    def test_covers_both_schemes(self) -> None:
        pool = ("a.example", "b.example")
        assert self.looked_up("http://a.example", pool) == ["a.example:80", "a.example", "b.example", "b.example:80"]
        assert self.looked_up("https://b.example:443", pool) == [
            "b.example",
            "a.example",
            "a.example:80",
            "b.example:80",
        ]
        assert self.looked_up("https://a.example:80", pool)[0] == "a.example:80"
        for url in (
            "http://a.example:443",
            "http://a.example:8080",
            "https://a.example:8443",
            "https://a.example/gw",
            "http://c.example",
        ):
            assert len(self.looked_up(url, pool)) == 1

    @pytest.mark.parametrize("written", ["https://a.example", "a.example:443", "https://a.example:443/v1"])
    def test_a_scheme_or_a_port_is_meant(self, written: str) -> None:
        pool = (written, "https://b.example")
        assert self.looked_up("https://a.example", pool) == ["a.example", "b.example"]
        assert self.looked_up("http://a.example", pool) == ["a.example:80"]

    def test_a_path_is_of_one_scheme(self) -> None:
        assert self.looked_up("http://a.example/gw", ("a.example/gw", "b.example:443")) == ["a.example:80/gw"]

    @pytest.mark.parametrize("http", ["http://a.example", "a.example:80", "http://A.example/v1"])
    def test_another_member_says_otherwise(self, http: str) -> None:
        one, other = ("a.example", "https://b.example"), (http, "https://c.example")
        for pools in ((one, other), (other, one)):
            assert self.looked_up("https://a.example", *pools) == ["a.example", "b.example"]
            assert self.looked_up("http://a.example", *pools) == ["a.example:80", "c.example"]
        assert load_settings(pools=[one, other])
        together = ("a.example", http, "https://b.example")
        assert self.looked_up("http://a.example", together) == ["a.example:80", "a.example", "b.example"]

    def test_under_a_name_both_are_kept(self) -> None:
        named = ("name:x", "a.example")
        assert self.looked_up("http://a.example", named) == [{"$pool": "x"}, "a.example:80", "a.example"]


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
        [["b\u00fccher.example", "XN--bcher-kva.example"]],
        [["[::1]", "b.example"], ["https://[0:0:0:0:0:0:0:1]/v1", "c.example"]],
        [["a.example", "b.example"], ["a.example:443", "c.example"]],
        [["gw/a", "b.example"], ["https://gw/a/v1/", "c.example"]],
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
