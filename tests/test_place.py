"""Where the folder is: homes, links, names that something else would read otherwise, places that are not to be had."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import cachelayer
from cachelayer.runtime.flights import flights_of
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.cli.command import SCRIPT

STRANGER = 12_345
"""A user id that is in nobody's list."""

ASK = """
    import httpx, cachelayer, logging, tempfile
    url, disabled, request = args
    lines = []
    class Lines(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())
    logging.getLogger("cachelayer").addHandler(Lines())
    # The rights that go may reach neither the interpreter's own files nor the certificates.
    given = httpx.Client(timeout=60)
    with tempfile.TemporaryDirectory() as warm, cachelayer.Cache(path=warm) as cache:
        with cache.wrap(httpx.Client()) as client:
            client.post(url, content=request, headers={"content-type": "application/json"})
        cache.stats()
    lines.clear()
    os.environ.clear()
    os.environ.update(json.loads(sys.stdin.readline()))
    tempfile.tempdir = None
    cwd = os.environ.pop("CWD", None)
    if cwd:
        os.chdir(cwd)
        if cwd.endswith("gone"):
            os.rmdir(cwd)
    user = int(os.environ.pop("AS", "0"))
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    options = json.loads(os.environ.pop("OPTIONS", "{}"))
    if disabled == "argument":
        options["disabled"] = True
    elif disabled == "variable":
        os.environ["CACHELAYER_DISABLED"] = "1"
    cache = cachelayer.Cache(**options)
    outcomes = []
    with cache.wrap(given) as client:
        for _ in range(2):
            answer = client.post(url, content=request, headers={"content-type": "application/json"})
            outcomes.append([answer.status_code, answer.headers.get("x-cachelayer")])
    try:
        stats = cache.stats()
        requests = [stats.requests, stats.entries]
    except cachelayer.CachelayerError as error:
        requests = str(error)
    cache.close()
    print(json.dumps([outcomes, requests, lines]))
"""


def ask_as(
    environment: dict[str, Any], simulator: Simulator, tmp_path: Path, disabled: str = ""
) -> tuple[list[Any], Any, list[str]]:
    """Two requests of a program in an environment; CWD, AS (a user id) and OPTIONS (of Cache) are taken out of it."""
    preamble = "import json, sys, os, warnings\nwarnings.simplefilter('error')\nargs = json.loads(sys.argv[1])\n"
    arguments = json.dumps([simulator.url + PATH, disabled, json.dumps(body("a harbour"))])
    done = subprocess.run(
        [sys.executable, "-c", preamble + textwrap.dedent(ASK), arguments],
        input=json.dumps(environment) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    outcomes, requests, lines = json.loads(done.stdout)
    assert [status for status, _ in outcomes] == [200, 200]
    return [outcome for _, outcome in outcomes], requests, said(lines)


def said(lines: list[str]) -> list[str]:
    """The log without the hint that the simulator's price is an estimate."""
    return [line for line in lines if "is an estimate" not in line]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a stranger")

HOMELESS: dict[str, dict[str, Any]] = {
    "no HOME, no entry": {"AS": str(STRANGER)},
    "HOME is empty": {"AS": str(STRANGER), "HOME": ""},
    "HOME is relative": {"AS": str(STRANGER), "HOME": "home"},
    "XDG_CACHE_HOME is relative": {"AS": str(STRANGER), "XDG_CACHE_HOME": "cache"},
    "XDG_CACHE_HOME is empty": {"AS": str(STRANGER), "XDG_CACHE_HOME": ""},
    "a ~ of its own": {"AS": str(STRANGER), "CACHELAYER_PATH": "~/cache"},
    "HOME is not there": {"AS": str(STRANGER), "HOME": "/nonexistent"},
    "HOME cannot be written": {"AS": str(STRANGER), "HOME": "/"},
    "HOME is a file": {"HOME": "/etc/hostname"},
    "the working folder is gone": {"CWD": "gone", "OPTIONS": '{"path": "cache"}'},
}


@needs_root
@pytest.mark.parametrize("disabled", ["", "argument", "variable"])
@pytest.mark.parametrize("environment", HOMELESS.values(), ids=HOMELESS)
def test_who_has_no_place_is_forwarded(
    environment: dict[str, Any], disabled: str, simulator: Simulator, tmp_path: Path
) -> None:
    if "CWD" in environment:
        (tmp_path / "gone").mkdir()
        environment = environment | {"CWD": str(tmp_path / "gone")}
    outcomes, requests, lines = ask_as(environment, simulator, tmp_path, disabled)
    assert simulator.calls == 3  # the first one is the program's own, in a folder that it has
    if disabled:
        assert (lines, requests) == ([], [0, 0])
        return
    assert outcomes == ["MISS", "MISS"]
    assert requests == [2, 0]  # of this program alone
    assert len(lines) == 1, lines
    assert "requests are forwarded without it" in lines[0]
    assert "\n" not in lines[0]


@needs_root
def test_without_temporary_files_either_there_are_no_totals(simulator: Simulator, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    # The standard library tries /tmp and the working folder too: a program without any is one on a read-only disk.
    script = "import tempfile; tempfile._candidate_tempdir_list = lambda: [args[3]]\n"
    preamble = "import json, sys, os, warnings\nargs = json.loads(sys.argv[1])\n"
    source = textwrap.dedent(ASK).replace("tempfile.tempdir = None", script.strip() + "; tempfile.tempdir = None")
    source = source.replace("url, disabled, request = args", "url, disabled, request, _ = args")
    arguments = json.dumps([simulator.url + PATH, "", json.dumps(body("a harbour")), str(closed / "not there")])
    done = subprocess.run(
        [sys.executable, "-c", preamble + source, arguments],
        input=json.dumps({"AS": str(STRANGER)}) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    outcomes, requests, lines = json.loads(done.stdout)
    assert outcomes == [[200, "MISS"], [200, "MISS"]]
    assert "outcomes" in requests  # a sentence, not zeros
    assert 1 <= len(said(lines)) <= 3, lines


@needs_root
def test_a_working_folder_that_may_not_be_entered_is_no_hindrance(simulator: Simulator, tmp_path: Path) -> None:
    """docker run -u 12345 with root's home as the image's WORKDIR."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "cachelayer.toml").write_text("no toml at all")
    outcomes, _, lines = ask_as({"AS": str(STRANGER), "CWD": str(closed)}, simulator, tmp_path)
    assert outcomes == ["MISS", "MISS"]
    assert len(lines) == 1, lines


@pytest.mark.parametrize("disabled", [True, False])
@pytest.mark.parametrize("path", ["~nobody-of-this-name", "~nobody-of-this-name/cache", "", " "])
def test_a_path_that_is_none_is_a_wrong_setting(path: str, disabled: bool) -> None:
    with pytest.raises(cachelayer.ConfigError, match="setting 'path' is wrong"):
        cachelayer.Cache(path=path, disabled=disabled)


@needs_root
@pytest.mark.parametrize("command", ["report", "ls", "demo", "show abc", "purge --key abc"])
def test_commands_of_the_homeless_say_so(command: str, tmp_path: Path) -> None:
    # The interpreter's own files are out of the stranger's reach: all that is needed of them comes before.
    source = f"""
import os, sys
sys.argv = {["cachelayer", *command.split()]!r}
from cachelayer.cli import main, doctor, entries, places, purge, reader, report, requests
import cachelayer.settings, cachelayer.cache, cachelayer.demo.command, cachelayer.stores.local, platformdirs.unix
cachelayer.settings.load_settings()
asked, sys.argv = sys.argv, [*sys.argv[:2], "--help"]  # has the command line's library read what it reads late
try:
    main.main()
except SystemExit:
    sys.argv = asked
os.environ.pop("HOME", None); os.environ.pop("XDG_CACHE_HOME", None)
os.setgroups([]); os.setgid({STRANGER}); os.setuid({STRANGER})
main.main()
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 2, done.stderr
    assert "has no home folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["report", "ls", "doctor"])
def test_commands_name_a_link_to_nowhere(command: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk")
    done = subprocess.run([SCRIPT, "--path", str(link), "--json", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == (1 if command == "doctor" else 2)
    assert "link is a link to nowhere" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "disk").exists()


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = [
    "$HOME",
    "${PATH}",
    "$NAME",
    "a${NAME}b",
    "%HOME%",
    "%41",
    "100%",
    "a~",
    "~",
    "a/~/b",
    "who?mode=memory",
    "a#b",
    "a&cache=shared",
    "file:x",
    ":memory:",
    " spaces ",
    "new\nline",
    "tab\t",
    "-dash",
    "quote'\"`",
    "back\\slash",
    "ünï©ode",
    "e\u0301",
    os.fsdecode(b"not \xff utf-8"),
    "[brackets]*",
    "x" * 200,
]


def hits(path: Any, simulator: Simulator, prompt: str = "a lighthouse") -> list[str]:
    with cachelayer.Cache(path=path) as cache, cache.wrap(httpx.Client(timeout=60)) as client:
        outcomes = [client.post(simulator.url + PATH, json=body(prompt)).headers["x-cachelayer"] for _ in range(2)]
        assert cache.stats().entries == 1
    return outcomes


@pytest.mark.parametrize("how", ["text", "object"])
@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_name_is_what_it_says(
    name: str,
    how: str,
    tmp_path: Path,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("NAME", "elsewhere")
    place = tmp_path / "place"
    place.mkdir()
    path: Any = f"{place}/{name}"
    path = path if how == "text" else Path(path)
    assert hits(path, simulator) == ["MISS", "HIT"]
    assert hits(path, simulator) == ["HIT", "HIT"]  # the same one at the next start
    assert said(caplog.messages) == []
    assert (place / name / "format").is_file()
    assert os.listdir(place) == [name.split("/")[0]]
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["$NAME", "./~root", "./~nobody-of-this-name"])
def test_a_relative_name_is_what_it_says(
    name: str, tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAME", "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert hits(name, simulator) == ["MISS", "HIT"]
    assert (tmp_path / name / "format").is_file()


@pytest.mark.parametrize("length", [600, 5000])
def test_a_path_too_long_for_the_system_breaks_no_call(
    length: int, tmp_path: Path, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite takes paths of up to 512 bytes, Linux of 4,096."""
    deep = "/".join([str(tmp_path), *["d" * 99] * (length // 100)])
    with (
        caplog.at_level(logging.WARNING, "cachelayer"),
        cachelayer.Cache(path=deep) as cache,
        cache.wrap(httpx.Client(timeout=60)) as client,
    ):
        assert client.post(simulator.url + PATH, json=body("x")).headers["x-cachelayer"] == "MISS"
    assert 1 <= len(said(caplog.messages)) <= 3


def test_a_home_folder_is_expanded_once_and_only_at_the_beginning(
    tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "~root"))  # an expansion of what was expanded
    for written in ("~/a~b", Path("~/a~b")):
        with cachelayer.Cache(path=written) as cache:
            assert cache.path == tmp_path / "~root" / "a~b"


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["the folder", "its parent", "a chain", "relative"])
def test_the_folder_may_be_a_link(
    what: str, tmp_path: Path, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    link, path = tmp_path / "link", tmp_path / "link"
    if what == "a chain":
        (tmp_path / "between").symlink_to(scratch)
        link.symlink_to(tmp_path / "between")
    else:
        link.symlink_to("scratch" if what == "relative" else scratch)
    if what == "its parent":
        path = link / "deep" / "cachelayer"
    assert hits(path, simulator) == ["MISS", "HIT"]
    real = Path(os.path.realpath(path))
    assert (real / "format").is_file()
    assert hits(real, simulator) == ["HIT", "HIT"]
    assert link.is_symlink()
    assert said(caplog.messages) == []


def test_two_names_of_one_folder_share_everything(tmp_path: Path, simulator: Simulator) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with (
        cachelayer.Cache(path=tmp_path / "real") as one,
        cachelayer.Cache(path=tmp_path / "link") as two,
        cachelayer.Cache(path=tmp_path / "real" / ".." / "link" / ".") as three,
    ):
        assert one.path == two.path == three.path == tmp_path / "real"
        assert one._engine.flights is two._engine.flights is three._engine.flights is flights_of(tmp_path / "link")
        with one.wrap(httpx.Client()) as a, two.wrap(httpx.Client()) as b:
            outcomes = [c.post(simulator.url + PATH, json=body("x")).headers["x-cachelayer"] for c in (a, b)]
        assert outcomes == ["MISS", "HIT"]
        assert three.stats().requests == 2


def test_a_link_that_moves_leaves_an_open_cache_where_it_was(tmp_path: Path, simulator: Simulator) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one")
    with cachelayer.Cache(path=link) as cache, cache.wrap(httpx.Client()) as client:
        link.unlink()
        link.symlink_to(tmp_path / "two")
        outcomes = [client.post(simulator.url + PATH, json=body("x")).headers["x-cachelayer"] for _ in range(2)]
    assert outcomes == ["MISS", "HIT"]
    assert os.listdir(tmp_path / "two") == []


@contextmanager
def unmounted(tmp_path: Path, where: str) -> Iterator[tuple[Path, Path]]:
    """A path through a link whose target is not there (yet), and the target."""
    target = tmp_path / "disk"
    link = tmp_path / "link"
    link.symlink_to(target)
    yield (link if where == "the folder" else link / "user" / "cachelayer"), target


@pytest.mark.parametrize("where", ["the folder", "its parent"])
def test_what_a_link_to_nowhere_points_to_is_not_made(
    where: str, tmp_path: Path, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is not mounted: what were made in its place would fill another one."""
    with (
        unmounted(tmp_path, where) as (path, target),
        caplog.at_level(logging.WARNING, "cachelayer"),
        cachelayer.Cache(path=path) as cache,
    ):
        with cache.wrap(httpx.Client()) as client:
            outcomes = [client.post(simulator.url + PATH, json=body("x")).headers["x-cachelayer"] for _ in range(2)]
        assert outcomes == ["MISS", "MISS"]
        assert not target.exists()
        assert cache.stats().requests == 2
    assert len(said(caplog.messages)) == 1
    assert "link to nowhere" in caplog.text


def test_a_loop_of_links_is_not_there(tmp_path: Path, simulator: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with caplog.at_level(logging.WARNING, "cachelayer"), cachelayer.Cache(path=tmp_path / "a" / "c") as cache:
        with cache.wrap(httpx.Client()) as client:
            assert client.post(simulator.url + PATH, json=body("x")).headers["x-cachelayer"] == "MISS"
        assert cache.stats().requests == 1
    assert len(said(caplog.messages)) == 1


@pytest.mark.parametrize("name", ["entries", "blobs"])
def test_links_inside_the_folder_stay_forbidden(name: str, tmp_path: Path, simulator: Simulator) -> None:
    folder = tmp_path / "cache"
    assert hits(folder, simulator) == ["MISS", "HIT"]
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    before = {path: path.read_bytes() for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()}
    with cachelayer.Cache(path=folder) as cache, cache.wrap(httpx.Client()) as client:
        assert client.post(simulator.url + PATH, json=body("new", size="512x512")).headers["x-cachelayer"] == "MISS"
    assert {path: path.read_bytes() for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()} == before


def test_commands_follow_the_link_too(tmp_path: Path, simulator: Simulator) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert hits(tmp_path / "link", simulator) == ["MISS", "HIT"]
    for command in ("report", "ls", "doctor"):
        done = subprocess.run(
            [SCRIPT, "--path", str(tmp_path / "link"), "--json", command], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
