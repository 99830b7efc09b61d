"""docs/using.md: its code runs, with the real SDKs, and does what the page says."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import openai
import pytest
from google import genai

import cachelayer
from cachelayer.settings import load_settings
from cachelayer.simulator import Simulator

PAGE = (Path(__file__).parents[1] / "docs" / "using.md").read_text(encoding="utf-8")


def code(language: str, section: str) -> list[str]:
    """The code of one section of the page."""
    (text,) = [part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if part.startswith(section)]
    found = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found
    return found


@pytest.fixture
def clients(cache: cachelayer.Cache, simulator: Simulator) -> dict[str, Any]:
    return {
        "openai_client": cache.wrap(openai.OpenAI(api_key="none", base_url=f"{simulator.url}/v1")),
        "genai_client": cache.wrap(genai.Client(api_key="none", http_options={"base_url": simulator.url})),
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # SDK clients that are left to the collector
def test_both_sdks_show_how_an_answer_came_about(clients: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        for snippet in code("python", "How an answer came about"):
            exec(snippet, clients)
    assert capsys.readouterr().out.split() == ["MISS", "None", "MISS", "HIT", "None", "HIT"]
    assert clients["images"].data[0].b64_json


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_log_is_switched_on(clients: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("cachelayer")
    level = logger.level
    try:
        for snippet in code("python", "The log"):
            exec(snippet, clients)
        for _ in range(2):
            clients["openai_client"].images.generate(model="gpt-image-2", prompt="a lighthouse at dusk")
    finally:
        logger.setLevel(level)
    (hit,) = [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.INFO and record.name == "cachelayer"
    ]
    assert hit.startswith("HIT gpt-image-2")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_variety_is_kept_and_found_again(
    clients: dict[str, Any], simulator: Simulator, cache: cachelayer.Cache
) -> None:
    for calls in (7, 7):
        for snippet in code("python", "One prompt, many images"):
            exec(snippet, clients)
        assert simulator.calls == calls
    assert len(clients["several"].data) == 4
    assert cache.stats().hits == 7


def test_variables_and_file_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lines,), (toml,) = code("sh", "Settings"), code("toml", "Settings")
    shown = subprocess.run(
        ["sh", "-c", lines + "env"], capture_output=True, text=True, check=True, env={"PATH": os.defpath}
    )
    for name, value in (line.split("=", 1) for line in shown.stdout.splitlines() if line.startswith("CACHELAYER_")):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    by_variable = load_settings()
    for name in list(os.environ):
        if name.startswith("CACHELAYER_"):
            monkeypatch.delenv(name)
    (tmp_path / "cachelayer.toml").write_text(toml)
    assert load_settings() == by_variable
    assert tomllib.loads(toml).keys() == {"operations", "ignore", "pools", "prices"}
    monkeypatch.setenv("CACHELAYER_IGNORE", '["header:x-job-id", "body:trace.id"]')
    monkeypatch.setenv("CACHELAYER_OPERATIONS", '["image", "text"]')
    assert load_settings() == by_variable
