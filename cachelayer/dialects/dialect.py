"""What it takes to know a wire format. What may live here: the protocol of a dialect, and what passes between one and
the forms and readings that all of them share (form.py, reading.py).

A dialect knows its format's names and nothing of settings, keys, pools or clients: how a key is made is written once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cachelayer.core.model import Asked, Json, Operation, Request, Usage
from cachelayer.core.reasons import Reason
from cachelayer.core.scope import Target
from cachelayer.dialects.wire.folding import Node
from cachelayer.dialects.wire.pictures import Delivered

Slot = tuple[dict[str, Json], str]
"""Where a text stands: an object of a folded body, and the name of the field that holds it."""


class NotKeyed(Exception):
    """A recognised request that gets no key; the argument is the reason."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a dialect sees in a URL."""

    scope: str
    endpoint: str
    model: str
    """As the path names it; empty when it does not."""
    response: str
    """``json``, ``stream`` or ``array``: what shape of answer the URL asks for."""
    query: tuple[tuple[str, str | None], ...]
    """The query without what the dialect has understood."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a body asks for. Of a whole body, whatever the user's rules leave out of the form."""

    operation: Operation
    model: str | None
    count: int | None = None
    """How many are asked for; None where the body does not say it in a way that is one, and then it is 1."""
    response: str = "json"
    never_cached: Reason | None = None
    """Why no answer to it may ever be kept."""
    size: str | None = None
    quality: str | None = None
    tier: str | None = None
    references: int = 0
    """Images that it brings, masks included."""


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer's document says, in its format's words."""

    against: str | None
    """Why an answer of status 200 is not good, None when it is."""
    usage: Usage | None = None
    block: Json = None
    """The usage block as it stands there: what the answer cost may stand in it."""
    size: Json = None
    quality: Json = None
    model: Json = None
    """Size, quality and model as it names them."""


class Dialect(Protocol):
    """Knowledge of one wire format. Stateless; every method is pure and takes time linear in what it is given."""

    @property
    def name(self) -> str:
        """As entries and ledger lines keep it: never changed once released."""

    @property
    def homes(self) -> Mapping[str, str]:
        """Hosts that charge the list price -> whose list it is, as genai-prices calls the vendor. ``*x`` is any host
        that ends with x. What is not named is no home: Azure has a list of its own."""

    @property
    def fields(self) -> Node:
        """The known paths of a body, whose names the user's ``ignore`` may spell in any of their ways."""

    def recognise(self, target: Target) -> Recognised | None:
        """What a POST to a URL asks, None where the format is another. By the path alone, on any host."""

    def parse(self, seen: Recognised, request: Request) -> dict[str, Json]:
        """The body as an object. Raises NotKeyed or Malformed for one that is none or may be read in two ways."""

    def fold(self, seen: Recognised, raw: dict[str, Json]) -> dict[str, Json]:
        """The body in its one spelling, a new object. Only what is known to mean the same becomes the same. Raises
        Malformed for what says a thing twice."""

    def facts(self, seen: Recognised, body: dict[str, Json]) -> Facts:
        """What a folded body asks for."""

    def strip(self, seen: Recognised, body: dict[str, Json], facts: Facts) -> None:
        """Take out of a folded body what has no part in the answer (bookkeeping), and what the form says beside it:
        the count if it is one, the response, a model that the path does not name."""

    def defaults(self, seen: Recognised, host: str) -> Mapping[str, str]:
        """Fields of a folded body that one host documents as its defaults: with these values they are as good as
        absent. What one host documents says nothing of another."""

    def prompts(self, body: dict[str, Json]) -> Iterable[list[Slot]]:
        """The texts of each message of a folded body that its author sees as a prompt, in order. Nothing else may be
        normalised."""

    def read(self, asked: Asked, document: dict[str, Json], delivered: Delivered) -> Said:
        """What an answer's document says, whatever its status. Each image in it, whole or not, is added to what is
        delivered. Tolerant: an answer is kept byte for byte, so that it is judged by what clients find in it."""
