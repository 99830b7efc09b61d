"""What the benches share: one real image, and a simulator that answers with it at once.

A figure is a ratio against a floor or a peer of the same run and group: these machines are noisy, and a millisecond of
one is not a millisecond of another. The last table of `make bench` gives each row's ratio to the floor of its group,
the first test there that has "floor" in its name, or else to the first "peer".
"""

from __future__ import annotations

import io
import json
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pybase64
import pytest
from PIL import Image

import cachelayer
from cachelayer.simulator import Simulator

IMAGE_SIZE = 2 * 1024 * 1024
"""Bytes of the image in an answer, about what gpt-image-2 sends for 1024x1024 in high quality."""


def png_of(size: int) -> bytes:
    """A whole PNG of about so many bytes: of noise, which does not compress. What is no image is never stored."""
    side = round((size / 3) ** 0.5)
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), random.Random(1).randbytes(side * side * 3)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="session")
def image() -> bytes:
    return png_of(IMAGE_SIZE)


@pytest.fixture(scope="session")
def small() -> bytes:
    """The JSON body of an answer with an image of 1.5 KB."""
    return json.dumps({"data": [{"b64_json": pybase64.b64encode(png_of(1_500)).decode()}]}).encode()


@pytest.fixture(scope="session")
def answer(image: bytes) -> bytes:
    """The JSON body of an answer that carries the image."""
    return b'{"created":1780000000,"data":[{"b64_json":"' + pybase64.b64encode(image) + b'"}],"usage":null}'


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[cachelayer.Cache]:
    with cachelayer.Cache(path=tmp_path / "cache") as cache:
        yield cache


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def faults_each(call: Callable[[], object], rounds: int = 50) -> float:
    """Minor page faults of one call, on average: unlike its time, the same on a busy machine."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        call()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / rounds


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    session = getattr(config, "_benchmarksession", None)
    groups: dict[str, list[Any]] = {}
    for row in session.benchmarks if session is not None else ():
        if not row.has_error:
            groups.setdefault(str(row.group), []).append(row)
    if not groups:
        return
    terminalreporter.section("each row's ratio to its floor")
    for group, rows in groups.items():
        floor = next((row for kind in ("floor", "peer") for row in rows if kind in row.name), rows[0])
        terminalreporter.write_line(group)
        for row in rows:
            ratio = row.stats.median / floor.stats.median
            faults = row.extra_info.get("faults")
            terminalreporter.write_line(
                f"  {ratio:8.2f} x  {row.stats.median * 1e6:12,.1f} us  {row.name.removeprefix('test_')}"
                + ("" if faults is None else f"  ({faults:.1f} page faults)")
            )
