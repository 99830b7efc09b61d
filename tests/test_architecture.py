"""Imports point one way (docs/architecture.md), and the package's public face is what it says."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cachelayer

PACKAGE = Path(cachelayer.__file__).parent

MAY_IMPORT = {
    "core": set(),
    "dialects": {"core"},
    "machine": set(),
    "stores": {"core", "machine"},
    "ledger": {"core", "machine"},
    "simulator": {"core", "dialects"},
    "runtime": {"core", "machine", "dialects", "stores", "ledger"},
    "clients": {"core", "machine", "runtime"},
    "settings": {"core"},
    "questions": {"core", "machine", "dialects", "stores", "ledger", "runtime"},
    "upkeep": {"stores"},
    "cache": {"core", "machine", "stores", "ledger", "runtime", "clients", "settings", "questions"},
    "__init__": {"core", "questions", "cache"},
    "cli": {
        "core",
        "machine",
        "dialects",
        "stores",
        "ledger",
        "settings",
        "questions",
        "upkeep",
        "cache",
        "simulator",
        "__init__",
    },
    "demo": {"core", "ledger", "settings", "questions", "upkeep", "cache", "cli", "simulator"},
    "cli/commands": {"cli", "demo", "__init__"},  # the table of all commands; each is imported when it is called
}


def room_of(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return "cli/commands" if inside == Path("cli/commands.py") else inside.parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "cachelayer" else [module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "cachelayer":
                is_room = len(parts) > 1 and ((PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").is_file())
                rooms.add(parts[1] if is_room else "__init__")
    return rooms


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    assert imported_rooms(path) - {room} <= MAY_IMPORT[room]


def test_core_does_no_io_and_reads_no_clock() -> None:
    forbidden = {
        "os",
        "time",
        "socket",
        "threading",
        "asyncio",
        "pathlib",
        "subprocess",
        "sqlite3",
        "random",
        "logging",
    }
    for path in (PACKAGE / "core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not forbidden & {alias.name.partition(".")[0] for alias in node.names}, path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in forbidden, path


def test_every_public_name_exists_and_is_documented() -> None:
    for name in cachelayer.__all__:
        member = getattr(cachelayer, name)
        assert name == "__version__" or member.__doc__, name


def test_importing_cachelayer_imports_no_extra_and_nothing_slow() -> None:
    late = {"openai", "google.genai", "PIL", "httpx2", "aiohttp", "genai_prices", "pydantic_settings", "rich", "typer"}
    code = "import sys, cachelayer; print('\\n'.join(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not late & loaded


def test_no_pickle_anywhere() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {"pickle", "marshal", "shelve"} & set(names), path


def test_locks_and_forks_are_handled_in_one_place() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "machine":
            assert "register_at_fork" not in path.read_text(), path
            assert "import fcntl" not in path.read_text(), path


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_longer_than_400_lines_and_no_function_than_60(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, node.name


def test_a_stores_exceptions_end_in_the_tier() -> None:
    """In a store, whoever catches everything raises it again: `runtime/tier.py` decides that it is "not there"."""
    for path in (PACKAGE / "stores").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and _catches_everything(node.type):
                assert any(isinstance(inner, ast.Raise) for inner in ast.walk(node)), f"{path}:{node.lineno}"


def _catches_everything(caught: ast.expr | None) -> bool:
    return caught is None or (isinstance(caught, ast.Name) and caught.id in ("Exception", "BaseException"))
