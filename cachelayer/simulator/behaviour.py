"""What the simulator does with a call: drawn from the rates, or told by a script. No HTTP lives here.

What is deterministic: the behaviour and the latency of a call depend on the seed and on its ordinal (it is
the nth generation call), not on what it asks. A rate limit depends on the clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Behaviour(StrEnum):
    """How one call ends."""

    OK = "ok"
    """The answer that was asked for."""
    ERROR = "error"
    """500 in the provider's own shape."""
    RATE_LIMIT = "rate_limit"
    """429 with retry-after."""
    BLOCK = "block"
    """A safety block. Gemini blocks the prompt and the image by turns; OpenAI says 400 moderation_blocked."""
    TEXT_ONLY = "text_only"
    """200 without an image. OpenAI's format has no such answer: its data then carry a revised prompt
    alone."""
    TRUNCATE = "truncate"
    """Gemini stops at MAX_TOKENS before the image. OpenAI's format cannot say so: one image is missing."""
    DISCONNECT = "disconnect"
    """The connection closes in the middle of the body."""
    URL = "url"
    """OpenAI: the image as a url in place of b64_json. Gemini has no such answer: as ``ok``."""


@dataclass(frozen=True, slots=True)
class Call:
    """One generation call, as the two formats see it."""

    seed: int
    ordinal: int
    """Counted from 1, in order of arrival."""
    behaviour: Behaviour
    latency: float
    """Seconds until the first byte of the answer."""
    retry_after: int = 0
    """Seconds, on ``rate_limit``."""
    block_image: bool = False
    """On ``block``: the image was blocked, not the prompt."""
    base_url: str = ""
    """Where a url in the answer leads."""

    def random(self, purpose: str) -> Random:
        """The same stream of draws for the same seed, ordinal and purpose, in every process."""
        return Random(f"{self.seed}:{self.ordinal}:{purpose}")  # noqa: S311


class Director:
    """Hands every call its behaviour. Not thread-safe: the caller holds a lock."""

    def __init__(
        self,
        *,
        latency: float | tuple[float, float],
        rates: dict[Behaviour, float],
        rate_limit: int | None,
        seed: int,
        clock: Callable[[], float],
    ) -> None:
        low, high = latency if isinstance(latency, tuple) else (latency, latency)
        if not 0 <= low <= high:
            raise ValueError(f"latency must be seconds, or a (low, high) pair of them: {latency!r}")
        for behaviour, rate in rates.items():
            if not 0 <= rate <= 1:
                raise ValueError(f"{behaviour}_rate must be between 0 and 1: {rate!r}")
        # One draw is cut into slices, so that every rate is the share of calls that it says.
        if sum(rates.values()) > 1 + 1e-9:
            raise ValueError("the rates must not exceed 1 together")
        if rate_limit is not None and rate_limit < 1:
            raise ValueError(f"rate_limit must be at least 1 call a minute, or None: {rate_limit!r}")
        self._latency = (low, high)
        self._rates = rates
        self._rate_limit = rate_limit
        self._seed = seed
        self._clock = clock
        self._script: deque[Behaviour] = deque()
        self._accepted: deque[float] = deque()
        self._blocks = 0
        self._calls = 0

    def script(self, behaviours: list[Behaviour]) -> None:
        """Append behaviours that the next calls take before the rates rule again."""
        self._script.extend(behaviours)

    def next(self, base_url: str) -> Call:
        """The behaviour of the call that arrives now."""
        self._calls += 1
        random = Random(f"{self._seed}:{self._calls}")  # noqa: S311
        draw, latency = random.random(), random.uniform(*self._latency)
        retry_after = 0
        if self._script:
            behaviour = self._script.popleft()
            retry_after = 1 if behaviour is Behaviour.RATE_LIMIT else 0
        else:
            retry_after = self._over_limit()
            behaviour = Behaviour.RATE_LIMIT if retry_after else self._drawn(draw)
        block_image = False
        if behaviour is Behaviour.BLOCK:
            block_image = self._blocks % 2 == 1
            self._blocks += 1
        if behaviour is Behaviour.RATE_LIMIT:
            latency = 0.0  # a provider refuses before it works
        return Call(self._seed, self._calls, behaviour, latency, retry_after, block_image, base_url)

    def _drawn(self, draw: float) -> Behaviour:
        for behaviour, rate in self._rates.items():
            if draw < rate:
                return behaviour
            draw -= rate
        return Behaviour.OK

    def _over_limit(self) -> int:
        """Seconds to wait when the last minute is used up, else 0 (and the call is counted in)."""
        if self._rate_limit is None:
            return 0
        now = self._clock()
        while self._accepted and self._accepted[0] <= now - 60:
            self._accepted.popleft()
        if len(self._accepted) >= self._rate_limit:
            return max(1, math.ceil(self._accepted[0] + 60 - now))
        self._accepted.append(now)
        return 0
