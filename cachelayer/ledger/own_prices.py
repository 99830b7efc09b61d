"""The user's own prices: the grammar of the ``prices`` setting. Pure.

    prices = {HOST: RULE}
    HOST   = "api.reseller.example" | "localhost:8080" | "https://api.reseller.example"     as in the URL (core/host.py)
    RULE   = PRICE | "list" | {MODEL or "*": RULE below it}
    below a model: PRICE | "list" | {OPERATION or "*": ...} or {SIZE or "*": PRICE | "list"}
    below an operation: PRICE | "list" | {SIZE or "*": PRICE | "list"}
    PRICE  = USD per image: "0.05", an int, or a Decimal, of at most 12 decimals and $1,000,000; never a float

The most specific rule that fits wins: a URL before a host with its port before one without, then an exact model before
"*", then an exact operation before "*", then an exact size before "*". Where nothing fits, the host has no price of its
own for that image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, Literal, get_args

from cachelayer.core.errors import ConfigError
from cachelayer.core.host import Place, place_of
from cachelayer.core.model import Operation
from cachelayer.core.money import LARGEST_USD, rounded

ListPrice = Literal["list"]
Rule = Decimal | ListPrice | Mapping[str, "Rule"]
"""A checked rule; tables have lower-case keys."""

_OPERATIONS: Final = get_args(Operation)
_AMOUNT = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?", re.ASCII)


def parse(prices: Mapping[str, Any]) -> dict[str, Rule]:
    """Checked rules by host. Raises ConfigError, in one sentence, for what the grammar does not know."""
    if not isinstance(prices, Mapping):
        raise ConfigError(
            f'prices must be a table from host to price, such as {{"api.example": "0.05"}}, not {prices!r}'
        )
    rules: dict[str, Rule] = {}
    places: list[Place] = []
    for written, rule in prices.items():
        shown = _shown(written)
        place = place_of(written) if isinstance(written, str) else None
        if place is None:
            raise ConfigError(
                f'prices: {shown} is not a host, such as "api.example", "localhost:8080" or '
                '"https://api.example"; a path does not belong to it'
            )
        for other in places:
            if place.is_spelled_like(other):
                raise ConfigError(f"prices names one host twice: {shown} is another spelling of {other.name!r}")
        places.append(place)
        rules[place.name] = _rule(rule, f"prices[{shown}]", ("model", "operation", "size"))
    return rules


def _shown(host: Any) -> str:
    """A host for a message: what stands before an @ may be a password."""
    return repr(host.rpartition("@")[2] if isinstance(host, str) else host)


def find(
    rules: Mapping[str, Rule], hosts: tuple[str, ...], models: tuple[str, ...], operation: str, size: str | None
) -> Decimal | ListPrice | None:
    """The price per image, or "list", that the user gave for this; None when he gave none.

    hosts, models: the spellings of the host's and the model's name, the one to prefer first.
    """
    for host in hosts:
        rule = rules.get(host)
        if rule is not None and (found := _find(rule, models, operation, size)) is not None:
            return found
    return None


def as_argument(hosts: Iterable[str], price: str = "0.05") -> str:
    """The setting to paste into a program, for hosts as reports name them."""
    return f"Cache(prices={{{', '.join(f'{json.dumps(host)}: {json.dumps(price)}' for host in hosts)}}})"


def as_toml(hosts: Iterable[str], price: str = "0.05") -> str:
    """The same as the line to paste into cachelayer.toml."""
    return f"prices = {{{', '.join(f'{json.dumps(host)} = {json.dumps(price)}' for host in hosts)}}}"


def _find(rule: Rule, models: tuple[str, ...], operation: str, size: str | None) -> Decimal | ListPrice | None:
    if not isinstance(rule, Mapping):
        return rule
    for model in (*models, "*"):
        below = rule.get(model.lower())
        if below is not None and (found := _below_model(below, operation, size)) is not None:
            return found
    return None


def _below_model(rule: Rule, operation: str, size: str | None) -> Decimal | ListPrice | None:
    if not isinstance(rule, Mapping):
        return rule
    for key in (operation, "*") if rule.keys() & set(_OPERATIONS) else ():
        below = rule.get(key)
        if below is not None and (found := _below_operation(below, size)) is not None:
            return found
    return None if rule.keys() & set(_OPERATIONS) else _below_operation(rule, size)


def _below_operation(rule: Rule, size: str | None) -> Decimal | ListPrice | None:
    if not isinstance(rule, Mapping):
        return rule
    exact = None if size is None else rule.get(size.lower())
    found = rule.get("*") if exact is None else exact
    return None if isinstance(found, Mapping) else found


def _rule(rule: Any, where: str, levels: tuple[str, ...]) -> Rule:
    if not isinstance(rule, Mapping):
        return _price(rule, where)
    if not rule:
        raise ConfigError(f"{where} is an empty table; give a price, or leave it out")
    if any(not isinstance(key, str) or not key for key in rule):
        raise ConfigError(f"{where} must have names of models, operations or sizes as its keys")
    keys = {key.lower() for key in rule}
    if len(keys) < len(rule):
        raise ConfigError(f"{where} names the same key twice (upper and lower case are one)")
    if levels[:1] == ("operation",) and not keys & set(_OPERATIONS):
        levels = levels[1:]
    if not levels:
        raise ConfigError(f"{where} is one table too deep; prices go down to host, model, operation and size")
    if levels[0] == "operation" and (unknown := keys - {*_OPERATIONS, "*"}):
        raise ConfigError(f"{where} mixes operations with {sorted(unknown)[0]!r}; put sizes under an operation or *")
    if levels[0] == "operation" and any(rule[key] != "list" for key in rule if key.lower() in ("text", "embedding")):
        raise ConfigError(f'{where}: a price is per image, so for text and embedding only "list" can be said')
    return {key.lower(): _rule(below, f"{where}[{key!r}]", levels[1:]) for key, below in rule.items()}


def _price(price: Any, where: str) -> Decimal | ListPrice:
    if price == "list":
        return "list"
    if isinstance(price, float):
        raise ConfigError(f'{where} is a float, which cannot hold money exactly; quote it: "{price}"')
    if isinstance(price, bool) or not isinstance(price, str | int | Decimal):
        raise ConfigError(f'{where} must be a price per image in USD such as "0.05", or "list", not {price!r}')
    if isinstance(price, Decimal):
        # Not of any exponent: written out in digits, 1E+999999999 takes a gigabyte.
        text = format(price, "f") if price.is_finite() and abs(price.adjusted()) < 30 else str(price)
    else:
        text = str(price).strip()
    if not _AMOUNT.fullmatch(text):
        raise ConfigError(f'{where} must be a price per image in USD such as "0.05", or "list", not {price!r}')
    usd = Decimal(text)
    if usd > LARGEST_USD:
        raise ConfigError(f"{where} is above ${LARGEST_USD:,} for one image, not {text}")
    if usd != rounded(usd):
        raise ConfigError(f"{where} has more than 12 decimals, which no amount here has: {text}")
    return usd
