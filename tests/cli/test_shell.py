"""The command line in a shell: help in one line each, closed streams, completion, commands that are not there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import SCRIPT, Run, Stored
from tests.cli.test_main import COMMANDS


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_summary_is_cut(run: Run, columns: int) -> None:
    shown = run("--help", env={"COLUMNS": str(columns)}).out
    assert "..." not in shown.partition("Commands:")[2]
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= columns


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_fits(run: Run, command: str, columns: int) -> None:
    shown = run(command, "--help", env={"COLUMNS": str(columns)})
    assert (shown.code, shown.err) == (0, "")
    assert max(map(len, shown.out.splitlines())) <= columns
    assert "…" not in shown.out


CLOSED = ["1>&-", "2>&-", "0<&-", "0<&- 1>&- 2>&-", "1>/dev/full"]


@pytest.mark.parametrize("streams", CLOSED)
@pytest.mark.parametrize("command", ["ls", "report --json", "doctor", "show {key}", "explain -", "frobnicate"])
def test_a_closed_stream_is_no_traceback(stored: Stored, command: str, streams: str) -> None:
    line = f"{SCRIPT} {command.format(key=stored.harbour)} --path {stored.path} {streams}"
    ended = subprocess.run(line, shell=True, input="", capture_output=True, text=True, timeout=60)
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
    expected = {"explain -": 2, "frobnicate": 2}.get(command, 1 if "full" in streams else 0)
    assert ended.returncode == expected, ended.stderr


def test_a_closed_stdout_gets_into_no_file(stored: Stored) -> None:
    """The number of a closed stream goes to the next file that is opened, and then what is printed to it."""
    before = {file: file.read_bytes() for file in (stored.path / "entries").iterdir() if file.suffix == ".db"}
    for streams in ("1>&-", "2>&-", "0<&- 1>&- 2>&-"):
        subprocess.run(
            f"{SCRIPT} purge --path {stored.path} abc {streams}", shell=True, capture_output=True, timeout=60
        )
        subprocess.run(f"{SCRIPT} ls --path {stored.path} {streams}", shell=True, capture_output=True, timeout=60)
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown_and_installed(run: Run, tmp_path: Path, shell: str) -> None:
    env = {
        "HOME": str(tmp_path / "home"),
        "SHELL": f"/bin/{shell}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    (tmp_path / "home").mkdir()
    shown = run("--show-completion", shell, env=env)
    assert (shown.code, shown.err) == (0, "")
    assert "cachelayer" in shown.out
    installed = run("--install-completion", shell, env=env)
    assert (installed.code, installed.err) == (0, "")
    assert [file for file in (tmp_path / "home").rglob("*") if file.is_file()]


def test_completion_without_a_shell_is_no_traceback(run: Run, tmp_path: Path) -> None:
    """Started by a program: there may be no shell to be found."""
    ended = run("--show-completion", env={"HOME": str(tmp_path), "SHELL": ""})
    assert "Traceback" not in ended.err


def test_completion_completes(run: Run) -> None:
    env = {"_CACHELAYER_COMPLETE": "complete_bash", "COMP_WORDS": "cachelayer re", "COMP_CWORD": "1"}
    assert run(env=env).out.split() == ["report"]


@pytest.mark.parametrize("typed", ["replay", "export", "serve", "play", "explain2show", ""])
def test_a_command_that_is_not_there_is_no_other_one(run: Run, typed: str) -> None:
    ended = run(typed)
    assert (ended.code, ended.out) == (2, "")
    assert ended.sentence == f"there is no command {typed!r}; the commands are {', '.join(COMMANDS)}"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("reprot", "report"), ("explian", "explain"), ("shw", "show"), ("lss", "ls"), ("dif", "diff"), ("purga", "purge")],
)
def test_a_slip_is_told(run: Run, typed: str, meant: str) -> None:
    assert run(typed).sentence == f"there is no command {typed!r}; did you mean {meant!r}?"


def test_a_file_that_cannot_be_written_is_one_sentence(run: Run, stored: Stored, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run("show", stored.harbour, "--save", tmp_path / "file", "--path", stored.path)
    assert ended.code == 1
    assert "Errno" not in ended.sentence
    assert str(tmp_path / "file") in ended.sentence
    assert os.path.getsize(tmp_path / "file") == 0
