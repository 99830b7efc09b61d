"""What a miss costs beside the provider: the same call over a real socket, without a cache and through one."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import pytest

import cachelayer
from cachelayer.simulator import Simulator

GROUP = "miss: over a loopback socket, 256x256 PNG"


def ask(client: httpx.Client, simulator: Simulator) -> Any:
    prompts = itertools.count()
    url = simulator.url + "/v1/images/generations"
    client.post(url, json={"model": "gpt-image-2", "prompt": "warm", "size": "256x256", "quality": "low"})
    return lambda: client.post(
        url, json={"model": "gpt-image-2", "prompt": f"picture {next(prompts)}", "size": "256x256", "quality": "low"}
    )


@pytest.mark.benchmark(group=GROUP)
def test_peer_without_a_cache(benchmark: Any, simulator: Simulator) -> None:
    with httpx.Client() as client:
        benchmark(ask(client, simulator))


@pytest.mark.benchmark(group=GROUP)
def test_cachelayer(benchmark: Any, simulator: Simulator, cache: cachelayer.Cache) -> None:
    with cache.wrap(httpx.Client()) as client:
        assert benchmark(ask(client, simulator)).headers["x-cachelayer"] == "MISS"
