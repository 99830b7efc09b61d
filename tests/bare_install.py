"""Run by `make test` in an environment with no extra installed: the bare package works, and says what it lacks.

Not a pytest file: pytest is not there either. Prints one line and exits 0, or fails with a traceback.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

warnings.simplefilter("error")

for extra in ("openai", "google.genai", "PIL", "aiohttp", "requests"):
    try:
        present = importlib.util.find_spec(extra) is not None
    except ModuleNotFoundError:
        present = False
    assert not present, f"{extra} is installed: this environment is not bare"

import httpx  # noqa: E402

import cachelayer  # noqa: E402
from cachelayer.simulator import Simulator  # noqa: E402

BODY = {"model": "gpt-image-2", "prompt": "a lighthouse", "size": "256x256"}

with (
    tempfile.TemporaryDirectory() as folder,
    Simulator() as simulator,
    cachelayer.Cache(path=folder) as cache,
    cache.wrap(httpx.Client()) as client,
):
    outcomes = [
        client.post(f"{simulator.url}/v1/images/generations", json=BODY).headers["x-cachelayer"] for _ in range(2)
    ]
    assert outcomes == ["MISS", "HIT"], outcomes
    assert simulator.calls == 1
    assert cache.stats().hits == 1

command = Path(sys.executable).parent / "cachelayer"
shown = subprocess.run([command, "--help"], capture_output=True, text=True, check=True).stdout
assert "report" in shown
lacking = subprocess.run([command, "demo"], capture_output=True, text=True)
assert lacking.returncode == 2, lacking
assert "cachelayer[demo]" in lacking.stderr, lacking.stderr
assert "Traceback" not in lacking.stderr

print("bare install: imports, wraps httpx, hits, and says which extra a command lacks")
