"""What one forwarded request cost, and what the answer saves another who asks the same. Pure: the figures come from
the answer, the user and tables, never a network.

Sources in order: the user's own price for the host (own_prices.py); what the answer itself says it cost; the list price
of what the answer reports, or of what its size and quality stand for (list_prices.py). What none of them can tell is
``unpriced``, never 0 and never a guess (docs/savings.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from cachelayer.core.host import spellings
from cachelayer.core.model import Asked, Bill, Cost, Reading, Usage
from cachelayer.core.money import EXACT, priced
from cachelayer.core.reasons import Reason
from cachelayer.ledger import own_prices
from cachelayer.ledger.list_prices import Listed, bare_name, list_cost
from cachelayer.ledger.tiers import plain_tier

_UNSAID: Final = Cost(None, "unpriced", "the answer does not say what was billed")


class Prices:
    """Prices by the user's word and by the lists. Immutable, safe for threads.

    prices: the ``prices`` setting (grammar in ``own_prices``). Raises ConfigError when it is wrong.
    """

    def __init__(self, prices: Mapping[str, Any] | None = None) -> None:
        self._rules = own_prices.parse(prices or {})

    def bill(self, asked: Asked, reading: Reading, *, at: float) -> Bill:
        """What the answer cost, with what is needed to say later what it saves. Never raises for any answer.

        A refused or truncated answer is priced like a good one: it was billed. at: unix seconds, as list prices have
        dates. The first call imports genai-prices (0.3 s).
        """
        listed = _billed_by_list(asked, reading, at)
        cost = self._cost(asked, reading, listed)
        tier = None if reading.usage is None else reading.usage.tier
        return Bill(
            cost=cost,
            listed=None if listed is None or listed.cost == cost else listed.cost,
            scope=asked.scope,
            host=asked.host,
            images=reading.images,
            size=reading.size or asked.size,
            tier=tier or asked.tier,
            asked_tier=asked.tier,
        )

    def saved(self, asked: Asked, bill: Bill) -> Cost:
        """What an answer that was paid for saves ``asked``, who gets it without a call of his own. Never raises.

        An exact cost of the asked scope stands for ever. Where it was no more than estimated, or unpriced, or was paid
        elsewhere or in another tier, the user's own price for the asked host is what he would have paid; without one it
        stays the frozen cost, an estimate.
        """
        cost = bill.cost or Cost(None, "unpriced", "nothing was billed")
        doubts = [*_elsewhere(asked, bill), *_other_tier(asked, bill)]
        if cost.pricing == "exact" and not doubts:
            return cost
        own = self._own(asked, bill.size)
        if isinstance(own, Decimal):
            return _per_image(own, bill.images, asked.host)
        listed = bill.listed or cost
        if own == "list" and listed.usd is not None:
            cost, doubts = listed, _other_tier(asked, bill)
        if cost.usd is None or not doubts:
            return cost
        return Cost(cost.usd, "estimated", "; ".join([cost.reason, *doubts]))

    def _own(self, asked: Asked, size: str | None) -> Decimal | own_prices.ListPrice | None:
        """The user's own word on this; a price per image only for an image."""
        names = (asked.model,) if bare_name(asked.model) == asked.model else (asked.model, bare_name(asked.model))
        found = own_prices.find(self._rules, spellings(asked.host, asked.scope), names, asked.operation, size)
        return None if isinstance(found, Decimal) and asked.operation != "image" else found

    def _cost(self, asked: Asked, reading: Reading, listed: Listed | None) -> Cost | None:
        """None: nothing was billed."""
        own = self._own(asked, reading.size or asked.size)
        if isinstance(own, Decimal):
            if reading.images:
                return _per_image(own, reading.images, asked.host)
            return None if _unbilled(reading.refusal, flat=True) else _UNSAID
        stated = None if reading.cost is None else priced(reading.cost, "exact", "as the answer itself says")
        if listed is None:
            if stated is not None and (reading.cost or not _unbilled(reading.refusal, flat=False)):
                return stated
            return None if _unbilled(reading.refusal, flat=False) else _UNSAID
        if own == "list":
            return listed.cost if listed.cost.pricing == "exact" else stated or listed.cost
        return stated or _at_host(listed, asked)


def _billed_by_list(asked: Asked, reading: Reading, at: float) -> Listed | None:
    """None where the answer reports nothing that a list has a price for."""
    usage = reading.usage or Usage()
    incoming = usage.text_in or usage.image_in or usage.other_in or usage.total_in
    outgoing = usage.text_out or usage.image_out or usage.other_out or usage.total_out
    return list_cost(asked, reading, at=at) if reading.images or incoming or outgoing else None


def _per_image(usd: Decimal, images: int, host: str) -> Cost:
    return priced(EXACT.multiply(usd, Decimal(images)), "exact", f"price per image for {host}")


def _at_host(listed: Listed, asked: Asked) -> Cost:
    """A list price as the cost at a host: an estimate unless it is the vendor's own."""
    cost = listed.cost
    if cost.usd is None or listed.vendor is None or listed.vendor == asked.home:
        return cost
    doubt = f"list price of {listed.vendor}, {asked.host or 'the host'} may charge another"
    return Cost(cost.usd, "estimated", f"{doubt}; {cost.reason}")


def _elsewhere(asked: Asked, bill: Bill) -> list[str]:
    return [] if asked.scope == bill.scope else [f"paid at {bill.host}, not at {asked.host}"]


def _other_tier(asked: Asked, bill: Bill) -> list[str]:
    wanted, paid = plain_tier(asked.tier), plain_tier(bill.tier)
    # Who names no tier gets his account's own, whatever that is called: the same as he got then.
    if wanted == paid or wanted == plain_tier(bill.asked_tier) == "standard":
        return []
    return [f"paid in the tier {paid}, asked in {wanted}"]


def _unbilled(refusal: str | None, *, flat: bool) -> bool:
    """Whether an answer that reports nothing billed is known to be free. One that was cut off is not."""
    if refusal is None:
        return False
    return (
        refusal.startswith("status-")
        or refusal == Reason.BLOCKED
        or (flat and refusal in (Reason.NO_IMAGE, Reason.TRUNCATED))
    )
