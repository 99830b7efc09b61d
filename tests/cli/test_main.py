"""What all commands share: options, exit codes, errors of one sentence, quiet ends."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cachelayer
from tests.cli.command import SCRIPT, Run, Stored
from tests.cli.help_texts import commands

COMMANDS = ["demo", "report", "ls", "show", "explain", "diff", "purge", "doctor", "simulate"]


def test_the_commands_are_those_of_the_design_and_no_more(run: Run) -> None:
    shown = run("--help")
    assert shown.code == 0
    listed = re.findall(r"^  (\w+)  ", shown.out.partition("Commands:")[2], re.MULTILINE)
    assert listed == COMMANDS


def test_no_command_shows_the_help(run: Run) -> None:
    assert run() == run("--help")


def test_version(run: Run) -> None:
    assert run("--version").out == f"cachelayer {cachelayer.__version__}\n"


def test_help_imports_no_room() -> None:
    code = """
import sys
from cachelayer.cli.main import app
try:
    app(["--help"])
except SystemExit:
    pass
print("MODULES", *sys.modules)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = set(shown.partition("MODULES")[2].split())
    slow = {"openai", "google.genai", "PIL", "genai_prices", "pydantic_settings", "diskcache", "httpx2"}
    assert not loaded & slow
    assert not {name for name in loaded if name.startswith("cachelayer.cli.")} - {
        "cachelayer.cli.commands",
        "cachelayer.cli.main",
        "cachelayer.cli.failure",
    }


def test_global_options_stand_before_or_after_the_command(run: Run, stored: Stored) -> None:
    after = run("report", "--path", stored.path, "--json")
    assert after.json["totals"]["requests"] == 3
    assert run("--path", stored.path, "--json", "report") == after
    assert run("--path", "/elsewhere", "--json", "report", "--path", stored.path) == after


def test_the_path_may_come_from_the_environment(run: Run, stored: Stored) -> None:
    assert run("ls", "--json", env={"CACHELAYER_PATH": str(stored.path)}).json[0]["key"] == stored.harbour


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["report", "--by", "colour"],
        ["report", "--since", "yesterday"],
        ["ls", "--limit", "0"],
        ["show"],
        ["purge"],
        ["purge", "abc", "--all"],
        ["purge", "abc", "--key", "abd"],
        ["diff", "only-one.json"],
        ["explain", "not-there.json"],
        ["demo", "--repeat-rate", "2"],
        ["simulate", "--latency", "fast"],
        ["simulate", "--error-rate", "0.9", "--block-rate", "0.9"],
    ],
)
def test_bad_usage_is_one_sentence_and_2(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    ended = run(*arguments, "--path", tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.sentence


def test_a_wrong_setting_is_one_sentence_and_2(run: Run, tmp_path: Path) -> None:
    ended = run("ls", env={"CACHELAYER_TTL": "soon"})
    assert ended.code == 2
    assert "ttl" in ended.sentence
    (tmp_path / "cachelayer.toml").write_text("colour = 1\n")
    ended = run("report")
    assert ended.code == 2
    assert "colour" in ended.sentence


@pytest.mark.parametrize("arguments", [["report"], ["ls"], ["show", "abc"], ["purge", "abc"]])
def test_a_folder_that_is_not_there_is_said_and_not_made(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    ended = run(*arguments, "--path", tmp_path / "nowhere")
    assert (ended.code, ended.out) == (1, "")
    assert "nothing has been cached there yet" in ended.sentence
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "xdg").exists()


@pytest.mark.parametrize("arguments", [["report"], ["ls"], ["show", "abc"], ["purge", "abc"], ["demo"]])
def test_a_folder_of_somebody_else_is_left_alone(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "holiday.txt").write_text("mine")
    ended = run(*arguments, "--path", folder)
    assert (ended.code, ended.out) == (1, "")
    assert str(folder) in ended.sentence
    assert os.listdir(folder) == ["holiday.txt"]


@pytest.mark.parametrize("command", ["report", "ls", "doctor"])
def test_a_newer_format_is_one_sentence_and_is_left_alone(run: Run, stored: Stored, command: str) -> None:
    (stored.path / "format").write_bytes(b"cachelayer store 99\n")
    before = sorted((path, path.stat().st_mtime_ns) for path in stored.path.rglob("*"))
    ended = run(command, "--path", stored.path)
    assert ended.code == 1
    assert "format 99" in (ended.err or ended.out.replace("\n", " "))
    assert sorted((path, path.stat().st_mtime_ns) for path in stored.path.rglob("*")) == before


def test_output_into_a_pipe_has_no_colour(run: Run, stored: Stored) -> None:
    for arguments in (["report"], ["ls"], ["show", stored.harbour], ["doctor"]):
        assert "\x1b" not in run(*arguments, "--path", stored.path).out


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colour_unless_no_color_is_set(stored: Stored, env: dict[str, str], coloured: bool) -> None:
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI", "TERM")}
    with subprocess.Popen(
        [SCRIPT, "report", "--path", stored.path],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        env={**clean, "TERM": "xterm-256color", **env},
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while more := os.read(ours, 65_536):
                shown += more
        except OSError:  # Linux says EIO where others say end of file
            pass
        os.close(ours)
    assert process.returncode == 0
    assert b"never reached" in shown  # the line may break after it
    assert bool(re.search(rb"\x1b\[[0-9;]*3[0-9]", shown)) is coloured


def test_a_reader_that_leaves_is_no_error(stored: Stored) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for command in ("ls", "report"):
        for as_json in ([], ["--json"]):
            arguments = [SCRIPT, command, "--path", stored.path, *as_json]
            ended = subprocess.run(arguments, stdout=writing, stderr=subprocess.PIPE, text=True)
            assert ended.stderr == ""
    os.close(writing)


def test_ctrl_c_is_quiet() -> None:
    with subprocess.Popen(
        [SCRIPT, "simulate", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "{\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_what_a_stranger_wrote_steers_no_terminal(run: Run, stored: Stored) -> None:
    shown = run("show", stored.harbour, "--path", stored.path)
    assert r"\u001b[31mat night" in shown.out
    assert "\x1b" not in shown.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["report", "--by", "foo"], "'--by': 'foo' is not one of 'model', 'namespace', 'host', 'day'."),
        (["ls", "--limit", "x"], "'--limit': it should be a whole number"),
        (["ls", "--limit", "0"], "'--limit': it should be greater than or equal to 1"),
        (["demo", "--repeat-rate", "x"], "'--repeat-rate': it should be a number"),
    ],
)
def test_a_wrong_value_speaks_no_librarys_words(run: Run, arguments: list[str], sentence: str) -> None:
    ended = run(*arguments)
    assert ended.code == 2
    assert ended.sentence == f"Invalid value for {sentence}"


def test_every_option_of_a_command_says_something_of_its_own() -> None:
    for name, command in commands().items():
        helps = [option.help for option in command.params if not getattr(option, "hidden", False)]
        assert all(helps), name
        assert len(set(helps)) == len(helps), name
