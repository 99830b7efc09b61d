"""The demo, small and without latency: true figures, a store of its own, and a second run that costs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cachelayer.demo.asks import FEWEST, draw
from tests.cli.command import Run, Stored

SMALL = ("demo", "--calls", 20, "--repeat-rate", "0.25", "--latency-scale", 0)


def test_the_second_run_is_all_hits(run: Run, tmp_path: Path) -> None:
    first = run(*SMALL, "--json")
    document = first.json
    assert (first.code, first.err.count("Traceback")) == (0, 0)
    totals = document["totals"]
    assert totals["requests"] == 20
    assert totals["upstream_calls"] == document["simulator_calls"] == totals["misses"] == 15
    assert totals["hits"] + totals["coalesced"] == 5
    assert totals["errors"] == totals["bypassed"] == totals["unpriced"] == totals["estimated"] == 0
    assert {group["name"] for group in document["groups"]} == {"gpt-image-2", "gemini-3-pro-image"}

    second = run(*SMALL, "--json").json
    assert second["simulator_calls"] == 0
    assert second["totals"]["hits"] == second["totals"]["requests"] == 20
    assert second["totals"]["entries"] == totals["entries"] == 15
    assert second["totals"]["spent_usd"] == "0"
    # Its own folder, and none of the user's.
    assert os.listdir(tmp_path / "xdg") == ["cachelayer-demo"]
    assert document["path"] == str(tmp_path / "xdg" / "cachelayer-demo")
    assert run("doctor", "--path", document["path"]).code == 0

    fresh = run(*SMALL, "--fresh", "--json").json
    assert fresh["simulator_calls"] == 15


def test_what_people_read(run: Run, tmp_path: Path) -> None:
    first = run(*SMALL, "--path", tmp_path / "demo")
    assert (first.code, first.err) == (0, "")
    for text in (
        "25.0 % of them",
        "One hit, explained",
        "imageConfig.imageSize: 2K | 4K",
        "the two reference images swapped",
        f"  {tmp_path / 'demo' / 'blobs'}\n",
        "  import cachelayer\n  cache = cachelayer.Cache()\n  client = cache.wrap(OpenAI())",
        "the simulator was called 15 times and billed $",
        "Run it again",
    ):
        assert text in first.out
    headline = next(line for line in first.out.splitlines() if line.startswith("Saved ")).split(":")[0]
    last = " ".join(first.out.split("\n\n")[-1].split())
    assert last.endswith("never reached a provider"), last
    assert headline in last
    wide = [line for line in first.out.splitlines() if len(line) > 80]
    assert all(str(tmp_path) in line for line in wide), "only what is to be copied may be wider than the window"
    second = run(*SMALL, "--path", tmp_path / "demo")
    assert (second.code, second.err) == (0, "")
    assert "20 of 20 calls (100.0 %) never reached a provider" in " ".join(second.out.split())
    assert "Every call was a hit" in second.out
    saved = next(line for line in second.out.splitlines() if line.startswith("  cachelayer show ")).split()
    assert run(*saved[1:4], tmp_path / "out", *saved[5:]).code == 0
    assert len(os.listdir(tmp_path / "out")) == 1


def test_settings_for_real_work_do_not_lead_it_astray(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cachelayer.toml").write_text('nonsense = true\nttl = "1ms"\n')
    hostile = {
        "CACHELAYER_DISABLED": "1",
        "CACHELAYER_NAMESPACE": "work",
        "CACHELAYER_TTL": "1ms",
        "CACHELAYER_PATH": str(tmp_path / "work"),
        "CACHELAYER_POOLS": "not json",
        "CACHELAYER_PRICES": "not json",
        "CACHELAYER_SIZE_LIMIT": "1",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "all_proxy": "http://127.0.0.1:9",
        "OPENAI_API_KEY": "sk-canary",
        "OPENAI_BASE_URL": "http://127.0.0.1:9",
        "GOOGLE_API_KEY": "sk-canary",
        "GEMINI_API_KEY": "sk-canary",
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
    }
    assert run(*SMALL, "--path", "demo", "--json", env=hostile).json["simulator_calls"] == 15
    assert run(*SMALL, "--path", "demo", "--json").code == 0
    assert not (tmp_path / "work").exists()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "demo").rglob("*") if path.is_file())
    assert b"sk-canary" not in kept


def test_a_store_in_use_is_refused_and_kept(run: Run, stored: Stored) -> None:
    for arguments in (SMALL, (*SMALL, "--fresh")):
        ended = run(*arguments, "--path", stored.path)
        assert ended.code == 1
        assert "is a store in use" in ended.sentence
    assert len(run("ls", "--path", stored.path, "--json").json) == 2


@pytest.mark.parametrize("missing", ["openai", "google.genai", "PIL"])
def test_a_missing_extra_is_named(missing: str, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
from cachelayer.cli.main import main
sys.argv = ["cachelayer", "demo", "--path", {str(tmp_path / "demo")!r}]
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "pip install 'cachelayer[demo]'" in ended.stderr
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(("calls", "rate", "repeats"), [(300, 0.2, 60), (5, 0.95, 0), (1500, 0.0, 0), (100, 0.95, 95)])
def test_repeats_are_as_many_as_asked_for(calls: int, rate: float, repeats: int) -> None:
    asks, shown = draw(calls, rate)
    assert (len(asks), len(asks) - len(set(asks))) == (calls, repeats)
    assert {shown.hit, *(ask for _, *pair in shown.near_misses for ask in pair)} == set(asks[:FEWEST])
    assert draw(calls, rate)[0] == asks


def test_both_sdks_are_asked_about_as_often_and_edits_are_among_it() -> None:
    asks, _ = draw(300, 0.2)
    openai = sum(ask.sdk == "openai" for ask in asks)
    assert 100 < openai < 200
    assert {ask.sdk for ask in asks if ask.references} == {"openai", "google"}
    assert len({json.dumps(ask.prompt) for ask in asks}) > 200
