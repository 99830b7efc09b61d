"""Run by `make test` where only the built wheel is installed: the bare package works, and says what it lacks.

Called with the source distribution that the wheel was built from, which must be a whole checkout. Not a pytest file:
pytest is not there either. Prints one line and exits 0, or fails with a traceback.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
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

ROOT = Path(__file__).parents[1]
installed = Path(cachelayer.__file__)
assert installed.is_relative_to(sys.prefix), f"{installed}: not the installed wheel"
assert (installed.parent / "py.typed").is_file()

with tarfile.open(sys.argv[1]) as source:
    packed = {name.partition("/")[2] for name in source.getnames()}
rooms = ("cachelayer", "tests", "bench", "docs", "scripts")
wanted = {path for room in rooms for path in (ROOT / room).rglob("*") if path.is_file()} | {
    *ROOT.glob("*.md"),
    *(ROOT / name for name in ("LICENSE", "Makefile", "pyproject.toml", ".ci/run", ".pre-commit-config.yaml")),
}
missing = {str(path.relative_to(ROOT)) for path in wanted if "__pycache__" not in path.parts} - packed
assert not missing, f"not in the source distribution: {sorted(missing)}"

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

print("the wheel alone: imports, wraps httpx, hits, and says which extra a command lacks")
