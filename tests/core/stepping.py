"""A driver that follows a script: it steps a flow by hand, without a thread, a socket or a clock."""

from __future__ import annotations

from collections.abc import Coroutine
from decimal import Decimal
from typing import Any

from cachelayer.core.effects import Book, BookDurably, Effect
from cachelayer.core.ending import Ending, event_of
from cachelayer.core.entry import Entry
from cachelayer.core.flow import fly, serve
from cachelayer.core.model import Answer, Asked, Bill, Cost, Event, KeyRules, Plan, Reading, Rules
from cachelayer.core.tables import Situation
from cachelayer.core.trip import Answered, Found, Judgement, Moment, Received, Trip

COST = Cost(Decimal("0.05"), "exact", "a test")
ASKED = Asked(
    key="ab" * 32,
    canonical=b"{}",
    dialect="openai-images",
    operation="image",
    model="m",
    scope="host",
    host="host",
    namespace="default",
    count=1,
    stream=False,
    never_cached=None,
)
BILL = Bill(COST, None, "host", "host", 1, None, None, None)
ORDINARY = Situation()
BEGAN, NOW = Moment(1000.0, 10.0), Moment(1003.0, 13.0)
RULES = Rules(KeyRules(), ("image",), ttl=None, finish_timeout=600.0, hedge_after=90.0, drain_timeout=30.0)
TRIP = Trip(ASKED, Plan(ttl=None, hedge_after=90.0, finish_timeout=600.0), BEGAN)

Step = tuple[type[Effect[Any]], Any]


class Left(BaseException):
    """The caller leaves, or the call is given up."""


class Told:
    """What a flow has had booked, and how it ended."""

    def __init__(self) -> None:
        self.endings: list[Ending] = []
        self.durable: list[Ending] = []
        self.result: Any = None
        self.left = False

    @property
    def events(self) -> list[Event]:
        """The lines of the ledger."""
        return [event_of(ending, NOW, namespace="default") for ending in self.endings]

    @property
    def outcomes(self) -> list[tuple[str, str | None]]:
        """Outcome and reason of each."""
        return [(ending.outcome.value, ending.reason) for ending in self.endings]


def step(flow: Coroutine[Any, Any, Any], *script: Step) -> Told:
    """Run a flow by a script: what each effect must be, and what comes of it (an exception is raised there).

    Books are performed, wherever they come.
    """
    told, rest = Told(), list(script)
    answer: Any = None
    while True:
        try:
            effect = flow.throw(answer) if isinstance(answer, BaseException) else flow.send(answer)
        except StopIteration as stop:
            told.result = stop.value
            break
        except Left:
            told.left = True
            break
        if isinstance(effect, Book | BookDurably):
            told.endings.append(effect.ending)
            told.durable += [effect.ending] * isinstance(effect, BookDurably)
            answer = event_of(effect.ending, NOW, namespace="default", saved=COST)
        else:
            assert rest, f"{effect} is not in the script"
            expected, answer = rest.pop(0)
            assert type(effect) is expected, effect
    assert not rest, rest
    return told


def serving(*script: Step, situation: Situation = ORDINARY) -> Told:
    return step(serve(RULES, situation, BEGAN), *script)


def flying(*script: Step) -> Told:
    return step(fly(TRIP), *script)


def found(created: float = 900.0, broken: int = 0) -> Found:
    """An entry that another one had stored."""
    fields: dict[str, Any] = dict.fromkeys(Entry.__dataclass_fields__)
    fields |= {"key": ASKED.key, "status": 200, "headers": (), "created": created, "images": 1, "latency": 20.0}
    fields |= {"cost": COST, "scope": "host", "host": "host"}
    return Found(Entry(**fields), b"body", broken)


HEADERS = (("content-type", "application/json"), ("set-cookie", "s"), ("retry-after", "7"))


def received(status: int = 200, *, latency: float = 20.0) -> Received:
    return Received(HEADERS, b"raw", Answer(status, HEADERS, b"body"), None, 1001.0, latency)


def judged(refusal: str | None = None) -> Judgement:
    return Judgement(Reading(refusal, images=0 if refusal else 1), Bill(None if refusal else COST, *_rest(refusal)))


def _rest(refusal: str | None) -> tuple[Any, ...]:
    return None, "host", "host", 0 if refusal else 1, None, None, None


def answered(refusal: str | None = None, *, reason: str | None = None) -> Answered:
    return Answered(received(429 if refusal else 200), judged(refusal), refusal or reason)
