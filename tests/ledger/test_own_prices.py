"""The grammar of the ``prices`` setting: the most specific rule wins, and what it does not know is refused clearly."""

from __future__ import annotations

import ast
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cachelayer.core.errors import ConfigError
from cachelayer.core.host import spellings, written_host
from cachelayer.core.scope import target_of
from cachelayer.ledger.own_prices import as_argument, as_toml, find, parse

SETTING = {
    "Flat.example": "0.05",
    "one.example:8080": 1,
    "listed.example": "list",
    "deep.example": {
        "gemini-3-pro-image": {"4K": "0.24", "*": "0.134"},
        "gemini-3.1-flash-image": {"4K": "0.151"},
        "imagen": {"image": {"1K": Decimal("0.04"), "*": "0.06"}, "text": "list", "*": "0.09"},
        "mixed": {"image": {"1K": "0.01"}, "*": "0.02"},
        "google/vendored": "0.07",
        "vendored": "0.08",
        "*": {"4k": "0.30"},
    },
}


@pytest.mark.parametrize(
    ("host", "model", "operation", "size", "price"),
    [
        ("flat.example", "anything", "image", None, "0.05"),
        ("flat.example:8080", "anything", "image", None, None),
        ("other.example", "anything", "image", None, None),
        ("one.example:8080", "m", "image", None, "1"),
        ("one.example", "m", "image", None, None),
        ("listed.example", "m", "image", None, "list"),
        ("deep.example", "gemini-3-pro-image", "image", "4K", "0.24"),
        ("deep.example", "Gemini-3-Pro-Image", "image", "4k", "0.24"),
        ("deep.example", "gemini-3-pro-image", "image", "1K", "0.134"),
        ("deep.example", "gemini-3-pro-image", "image", None, "0.134"),
        ("deep.example", "gemini-3.1-flash-image", "image", "4K", "0.151"),
        ("deep.example", "gemini-3.1-flash-image", "image", "1K", None),
        ("deep.example", "unheard-of", "image", "4K", "0.30"),
        ("deep.example", "unheard-of", "image", "1K", None),
        ("deep.example", "imagen", "image", "1K", "0.04"),
        ("deep.example", "imagen", "image", "2K", "0.06"),
        ("deep.example", "imagen", "text", None, "list"),
        ("deep.example", "imagen", "embedding", None, "0.09"),
        ("deep.example", "mixed", "image", "1K", "0.01"),
        ("deep.example", "mixed", "image", "2K", "0.02"),
        ("deep.example", "google/vendored", "image", None, "0.07"),
        ("deep.example", "models/vendored", "image", None, "0.08"),
    ],
)
def test_the_most_specific_rule_wins(
    host: str, model: str, operation: str, size: str | None, price: str | None
) -> None:
    spellings = (model, model.rsplit("/", 1)[-1])
    found = find(parse(SETTING), (host,), spellings, operation, size)
    assert (None if found is None else str(found)) == price


def test_a_host_with_its_port_wins_and_what_it_leaves_open_falls_to_the_host() -> None:
    rules = parse({"a.example": "1", "a.example:8080": {"m": {"4K": "2"}}})
    assert find(rules, ("a.example:8080", "a.example"), ("m",), "image", "4K") == 2
    assert find(rules, ("a.example:8080", "a.example"), ("m",), "image", "1K") == 1
    assert find(rules, ("a.example:443", "a.example"), ("m",), "image", "4K") == 1


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("0.05", "prices must be a table"),
        ({"https://a.example/gateway/v1": "0.05"}, "not a host"),
        ({"a.example?x": "0.05"}, "not a host"),
        ({"ftp://a.example": "0.05"}, "not a host"),
        ({"a.example:99999": "0.05"}, "not a host"),
        ({"*": "0.05"}, "not a host"),
        (
            {"a.example": "1", "A.example.": "2"},
            "names one host twice: 'A.example.' is another spelling of 'a.example'",
        ),
        ({"https://a.example": "1", "a.example:443": "2"}, "names one host twice"),
        ({"a.example:80": "1", "http://a.example": "2"}, "names one host twice"),
        ({"https://a.example": "1", "https://a.example:443": "2"}, "names one host twice"),
        ({"https://a.example:8443": "1", "http://a.example:8443": "2"}, "names one host twice"),
        ({"": "0.05"}, "not a host"),
        ({5: "0.05"}, "not a host"),
        ({"a.example": 0.05}, 'is a float, which cannot hold money exactly; quote it: "0.05"'),
        ({"a.example": True}, "must be a price"),
        ({"a.example": None}, "must be a price"),
        ({"a.example": "free"}, "must be a price"),
        ({"a.example": "-1"}, "must be a price"),
        ({"a.example": -1}, "must be a price"),
        ({"a.example": "NaN"}, "must be a price"),
        ({"a.example": Decimal("Infinity")}, "must be a price"),
        ({"a.example": "1e9"}, "must be a price"),
        ({"a.example": "$0.05"}, "must be a price"),
        ({"a.example": "1000000.01"}, "above $1,000,000 for one image"),
        ({"a.example": 10**9}, "above $1,000,000"),
        ({"a.example": Decimal("1E+999999999")}, "must be a price"),
        ({"a.example": Decimal("1E-999999999")}, "must be a price"),
        ({"a.example": "0.0000000000001"}, "more than 12 decimals"),
        ({"a.example": Decimal("1E-13")}, "more than 12 decimals"),
        ({"a.example": {"m": {"4K": "0.1234567890125"}}}, "more than 12 decimals"),
        ({"a.example": "0,05"}, "must be a price"),
        ({"a.example": "\u0661"}, "must be a price"),
        ({"a.example": ["0.05"]}, "must be a price"),
        ({"a.example": {}}, "empty table"),
        ({"a.example": {"m": {"": "1"}}}, "names of models"),
        ({"a.example": {"m": {"4K": "1", "4k": "2"}}}, "twice"),
        ({"a.example": {"m": {"image": "1", "4K": "2"}}}, "mixes operations with '4k'"),
        ({"a.example": {"m": {"text": "0.05"}}}, 'only "list" can be said'),
        ({"a.example": {"m": {"4K": {"high": "1"}}}}, "one table too deep"),
        ({"a.example": {"m": {"image": {"4K": {"high": "1"}}}}}, "one table too deep"),
    ],
)
def test_what_the_grammar_does_not_know_is_refused_in_one_sentence(setting: Any, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(setting)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_the_largest_and_the_finest_price_are_prices() -> None:
    rules = parse({"a.example": "1000000", "b.example": "0.000000000001", "c.example": "0.0500000000000000"})
    prices = [find(rules, (host,), ("m",), "image", None) for host in ("a.example", "b.example", "c.example")]
    assert prices == [Decimal(1_000_000), Decimal("1E-12"), Decimal("0.05")]


def test_a_password_in_a_wrong_host_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as error:
        parse({"https://me:hunter2@a.example/gateway": "0.05"})
    assert "hunter2" not in str(error.value)


def test_the_example_in_the_docs_is_right() -> None:
    page = (Path(__file__).parents[2] / "docs" / "savings.md").read_text()
    example = page[page.index("    prices = {") : page.index("- A host is written")]
    rules = parse(ast.literal_eval(example.removeprefix("    prices = ").strip()))
    assert find(rules, ("api.reseller.example",), ("m",), "image", None) == Decimal("0.05")
    assert find(rules, ("localhost",), ("m",), "image", None) is None
    assert find(rules, ("api.other.example",), ("gemini-3-pro-image",), "image", "2K") == Decimal("0.134")
    assert find(rules, ("api.other.example",), ("gpt-image-1.5",), "text", None) == "list"
    assert find(rules, ("api.other.example",), ("m",), "image", None) == Decimal("0.08")


def test_one_port_under_two_schemes_is_two_places() -> None:
    rules = parse({"https://a.example": "1", "http://a.example:443": "2", "http://a.example": "3"})
    for url, price in (("https://a.example", 1), ("http://a.example:443", 2), ("http://a.example", 3)):
        target = target_of(url)
        assert target is not None
        assert find(rules, spellings(written_host(url), target.host), ("m",), "image", None) == price


@pytest.mark.parametrize("hosts", [["a.example"], ["a.example:8080", "[::1]"], ['"odd"\\host']])
def test_what_is_to_be_pasted_says_what_it_is_meant_to_say(hosts: list[str]) -> None:
    meant = dict.fromkeys(hosts, "0.05")
    assert tomllib.loads(as_toml(hosts)) == {"prices": meant}
    argument = as_argument(hosts).removeprefix("Cache(prices=").removesuffix(")")
    assert ast.literal_eval(argument) == meant
