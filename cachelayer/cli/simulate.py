"""`cachelayer simulate`: the simulator in the foreground."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from cachelayer.cli.failure import USAGE, Failure
from cachelayer.cli.format import number
from cachelayer.cli.screen import note, print_json
from cachelayer.simulator import Simulator


def run(*, port: int, latency: str, rate_limit: int | None, seed: int, rates: dict[str, Any], as_json: bool) -> None:
    """Serve until Ctrl-C or SIGTERM. ``rates`` are the simulator's arguments of that name."""
    try:
        simulator = Simulator(latency=_latency(latency), rate_limit=rate_limit, seed=seed, port=port, **rates)
    except ValueError as error:
        raise Failure(str(error), USAGE) from None
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    try:
        simulator.start()
    except OSError as error:
        raise Failure(f"port {port} cannot be used: {error.strerror or error}") from None
    try:
        if as_json:
            print_json({"url": simulator.url})
        else:
            print(f"The simulator is at {simulator.url} (Ctrl-C ends it). Point an SDK at it with one line:")
            print(f'  OpenAI(base_url="{simulator.url}/v1", api_key="any")')
            print(f'  genai.Client(api_key="any", http_options={{"base_url": "{simulator.url}"}})', flush=True)
        while not ended.wait(1):
            pass
    finally:
        simulator.stop()
        note(f"{number(simulator.calls, 'call')} came, {simulator.answered:,} answered well")


def _latency(text: str) -> float | tuple[float, float]:
    try:
        low, separator, high = text.partition("-")
        return (float(low), float(high)) if separator else float(text)
    except ValueError:
        raise Failure(f"--latency {text!r} is wrong: write seconds, such as 2 or 4-14", USAGE) from None
