"""A command in a prepared process says what the script itself says, and ends as it does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import SCRIPT, Run, Stored


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--version",
        "report --json",
        "ls --json",
        "show {key} --json",
        "show --help",
        "show nothing",
        "explain -",
        "diff {key} {key}",
        "doctor",
        "purge --all --yes",
        "frobnicate",
    ],
)
def test_as_the_script_itself(run: Run, stored: Stored, tmp_path: Path, line: str) -> None:
    arguments = [*line.format(key=stored.lighthouse).split(), *(["--path", str(stored.path)] if " " in line else [])]
    env = {"CACHELAYER_PATH": str(stored.path), "COLUMNS": "90"}
    through = run(*arguments, stdin="{}", env=env) if "purge" not in line else None
    script = subprocess.run(
        [SCRIPT, *arguments], input="{}", env=os.environ | env, capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    if through is None:  # what the script left is what the other finds
        assert script.returncode == 0, script.stderr
        assert run("ls", "--json", env=env).json == []
    else:
        assert (through.code, through.out, through.err) == (script.returncode, script.stdout, script.stderr)
