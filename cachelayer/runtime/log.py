"""What an outcome says in the log: one line a request on the logger `cachelayer`, INFO for a hit, DEBUG for the rest,
and what goes beyond one request as a WARNING.

Only sentences live here. What a stranger wrote (a model's name) is spelled out, so that no line can be forged; prompts,
URLs and headers are in no line at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from cachelayer.core.model import Cost, Event, Outcome
from cachelayer.core.reasons import Reason, meaning_of, remedy_of
from cachelayer.machine.interrupts import came_from_a_handler

DIGITS = 12
"""Of a key: enough for `cachelayer show`."""


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """A logger that never raises by itself. A filter or handler of the user's own may: his call goes on, and his log is
    his."""

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        try:
            super().log(level, msg, *args, **{"stacklevel": 2, **kwargs})  # the line that speaks, and not this one
        except Exception as error:
            if came_from_a_handler(error):
                raise


logger = _Quiet(logging.getLogger("cachelayer"), {})
"""What every room that may log on a call's way logs with."""


def log_outcome(event: Event) -> None:
    """One line for one request. Never raises."""
    _say(logging.INFO if event.outcome is Outcome.HIT else logging.DEBUG, lambda: _sentence(event))


def log_disabled() -> None:
    """A request that is in no ledger, as the cache is switched off. Never raises."""
    _say(logging.DEBUG, lambda: f"{Outcome.BYPASS.value}: {_because(Reason.DISABLED)}")


def log_not_kept(key: str, reason: str) -> None:
    """A good answer that could not be stored; the line of its MISS has been written by then. Never raises."""
    _say(logging.DEBUG, lambda: f"not stored: {_because(reason)}, key {key[:DIGITS]}")


def log_estimate(host: str, reason: str, setting: str) -> None:
    """The first estimate of a host, with what to paste so that its figures become exact. Never raises."""
    _say(
        logging.WARNING,
        lambda: (
            f"what calls to {_visible(host)} cost is an estimate ({_visible(reason)}): say what an image costs there, "
            f'{_visible(setting)}, or "list" where the list price is right'
        ),
    )


def log_warning(sentence: str) -> None:
    """A failure of our own that a call went on without. Never raises."""
    _say(logging.WARNING, lambda: sentence)


def _say(level: int, sentence: Callable[[], str]) -> None:
    if logger.isEnabledFor(level):
        logger.log(level, "%s", sentence())


def _sentence(event: Event) -> str:
    what = " ".join(_visible(text) for text in (event.outcome.value, event.model, event.size or "") if text)
    said = []
    if event.outcome in (Outcome.HIT, Outcome.COALESCED):
        seconds = round((event.latency or 0.0) - event.wait, 1) + 0.0  # not "-0.0 s"
        said.append(f"saved {_dollars(event.saved)} and {seconds:.1f} s")
    if event.upstream and event.spent is not None:
        said.append(f"spent {_dollars(event.spent)}")
    if event.status not in (None, 200):
        said.append(f"status {event.status}")
    if event.reason is not None:
        said.append(_because(event.reason))
    if event.key is not None:
        said.append(f"key {event.key[:DIGITS]}")
    return f"{what}: {', '.join(said)}"


def _dollars(cost: Cost | None) -> str:
    return "an unknown amount" if cost is None or cost.usd is None else f"${cost.usd:f}"


def _because(reason: str) -> str:
    return f"{reason} ({meaning_of(reason)}; {remedy_of(reason)})"


def _visible(text: str) -> str:
    return repr(text)[1:-1]
