"""No table is ever cut: a window's width is kept to by breaking, and a pipe gets every row on one line."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from cachelayer.cli.tables import Column, show_grid, show_table
from tests.cli.command import SCRIPT, Run, Stored

COLUMNS = (Column("By model", "name"), *map(Column, ("Requests", "Spent", "Time saved")), Column("Because", "prose"))
NAMES = st.from_regex(r"[a-z][a-z0-9./-]{0,70}", fullmatch=True)
FIGURES = st.sampled_from(["0", "1,234", "$12.34", "under $0.0001", "1 h 02 min", "12 d 3 h"])
PROSE = st.lists(st.from_regex(r"[a-z]{1,12}", fullmatch=True), max_size=20).map(" ".join)
ROWS = st.lists(st.tuples(NAMES, FIGURES, FIGURES, FIGURES, PROSE), min_size=1, max_size=4)


def printed(rows: list[tuple[str, ...]], width: int, *, window: bool) -> str:
    out = io.StringIO()
    screen = Console(file=out, width=width, force_terminal=window, color_system=None, markup=False, highlight=False)
    show_table(screen, COLUMNS, rows)
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


@settings(deadline=None)
@given(ROWS, st.integers(40, 160))
def test_in_a_window_all_is_there_and_nothing_is_wider(rows: list[tuple[str, ...]], width: int) -> None:
    shown = printed(rows, width, window=True)
    assert max(map(cell_len, shown.splitlines())) <= width
    assert "…" not in shown
    letters = squeezed(shown)
    for row in rows:
        for cell in row[1:4]:
            assert cell in shown.replace("\n  ", " "), cell
        assert len(row[0]) > 24 or row[0] in shown
    for letter in set("".join(row[0] + row[4] for row in rows)) - {" "}:
        assert letters.count(letter) >= sum((row[0] + row[4]).count(letter) for row in rows)


@settings(deadline=None)
@given(ROWS, st.integers(40, 160))
def test_in_a_pipe_a_row_begins_with_its_whole_line(rows: list[tuple[str, ...]], width: int) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("COLUMNS", raising=False)
        lines = printed(rows, width, window=False).splitlines()
    for row in rows:
        figures = r"\s+".join(map(re.escape, row[:4]))
        assert any(re.match(figures + r"(\s|$)", line) for line in lines), row


@settings(deadline=None)
@given(ROWS, st.integers(40, 160))
def test_in_a_pipe_of_a_given_width_no_name_is_broken(rows: list[tuple[str, ...]], width: int) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("COLUMNS", str(width))
        shown = printed(rows, width, window=False)
    for row in rows:
        assert all(cell in shown.replace("\n  ", " ") for cell in row[:4])
        assert all(word in shown for word in row[4].split())
    if all(len(row[0]) <= width for row in rows):
        assert max(map(len, shown.splitlines())) <= width


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["Key", "Host"]), st.text("abc /", max_size=200)), min_size=1, max_size=4))
def test_a_grid_in_a_pipe_has_one_line_a_row(rows: list[tuple[str, str]]) -> None:
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("COLUMNS", raising=False)
        show_grid(Console(file=out, width=80), rows)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert lines == [f"{label:<{max(len(name) for name, _ in rows)}}  {text}".rstrip() for label, text in rows]


def in_a_terminal(width: int, *arguments: object) -> str:
    """What a command shows in a terminal of that width."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "TERM")}
    with subprocess.Popen(
        [SCRIPT, *map(str, arguments)], stdin=theirs, stdout=theirs, env={**clean, "TERM": "xterm", "NO_COLOR": "1"}
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while more := os.read(ours, 65_536):
                shown += more
        except OSError:  # Linux says EIO where others say end of file
            pass
        os.close(ours)
    assert process.returncode in (0, 1)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r", "")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("command", ["report", "ls", "doctor", "show"])
def test_every_command_keeps_to_its_terminal(stored: Stored, command: str, width: int) -> None:
    shown = in_a_terminal(width, command, *([stored.harbour] if command == "show" else []), "--path", stored.path)
    lines = shown.partition("\nRequest, as it counts")[0].splitlines()  # JSON below it is to be copied, and not broken
    assert max(map(cell_len, lines)) <= width
    assert "…" not in shown
    if command in ("report", "ls", "show"):
        assert "gemini-3-pro-image" in shown
    if command == "report":
        for figure in ("Requests", "Hits", "Coalesced", "Rate", "Spent", "Saved", "Time saved", "By model"):
            assert figure in shown


@pytest.mark.parametrize("command", ["report", "ls"])
def test_sixty_columns_by_variable(run: Run, stored: Stored, command: str) -> None:
    shown = run(command, "--path", stored.path, env={"COLUMNS": "60"}).out
    assert max(map(len, shown.splitlines())) <= 60
    for text in ("gemini-3-pro-image", "gpt-image-2", "Requests" if command == "report" else "Age"):
        assert text in shown


def test_a_pipe_gets_every_name_in_full(run: Run, stored: Stored) -> None:
    import httpx

    import cachelayer

    model = "a-model-with-an-enormously-long-name/of-a-vendor-who-likes-long-names-very-much-2026"
    with cachelayer.Cache(path=stored.path) as cache, cache.wrap(httpx.Client()) as client:
        client.post(f"{stored.url}/v1/images/generations", json={"model": model, "prompt": "x", "size": "64x64"})
    for command in ("report", "ls"):
        assert model in run(command, "--path", stored.path).out
    assert run("report", "--path", stored.path, env={"COLUMNS": "60"}).out.count(model) == 1
    digest = run("show", stored.harbour, "--path", stored.path, "--json").json["blobs"][0]["digest"]
    assert digest in run("show", stored.harbour, "--path", stored.path).out
    assert str(stored.path) in run("doctor", "--path", stored.path).out
