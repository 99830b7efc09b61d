"""docs/settings.md and the table of README.md, made from cachelayer/settings: `python -m tests.setting_texts`."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cachelayer.settings import Settings, given, kinds

ROOT = Path(__file__).parents[1]
PAGE, README = ROOT / "docs" / "settings.md", ROOT / "README.md"
BEGIN, END = "<!-- settings, made by python -m tests.setting_texts -->\n", "<!-- end of settings -->\n"

HEAD = """\
# Settings

Made from `cachelayer/settings` (`python -m tests.setting_texts`); a test compares.

Arguments of `Cache` win over variables `CACHELAYER_<NAME>`, those over `cachelayer.toml` in the working folder:
[using.md](using.md#settings) says how they are written there. Durations are seconds, or `"30s"`, `"10m"`, `"1h"`,
`"30d"`; sizes are bytes, or `"50MB"` (10^6) and `"50MiB"` (2^20).

| setting | default | may be | what it means |
|---|---|---|---|
"""


def page() -> str:
    """The whole of docs/settings.md."""
    rows = [
        f"| `{name}` | {default(name)} | {kinds.right(field)} | {meaning(name, _beside)} |\n"
        for name, field in Settings.model_fields.items()
    ]
    return HEAD + "".join(rows)


def readme() -> str:
    """The whole of README.md, its table made anew."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, "README.md has lost the marks around its table"
    rows = [f"| `{name}` | {default(name)} | {meaning(name, _below)} |\n" for name in Settings.model_fields]
    return f"{before}{BEGIN}| setting | default | |\n|---|---|---|\n{''.join(rows)}{END}{after}"


def default(name: str) -> str:
    """A default as one would write it."""
    field = Settings.model_fields[name]
    value: Any = field.default
    if field.default_factory is not None:
        return "the user's cache folder"
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f'`"{value / 60:g}m"`' if value >= 600 else f'`"{value:g}s"`'
    if isinstance(value, int):
        return f'`"{value // 10**9}GB"`' if value >= 10**9 else f'`"{value // 10**6}MB"`'
    return f'`"{value}"`' if isinstance(value, str) else "`" + repr(value).replace("'", '"') + "`"


def meaning(name: str, link: Callable[[re.Match[str]], str]) -> str:
    """The docstring under a setting's name, as one line, its pages linked."""
    text = " ".join(_docstrings()[name].split()).removesuffix(".")
    return re.sub(r"docs/([\w-]+\.md)", link, text)


def _beside(page: re.Match[str]) -> str:
    return f"[{page[1]}]({page[1]})"


def _below(page: re.Match[str]) -> str:
    return f"[{page[0]}]({page[0]})"


def _docstrings() -> dict[str, str]:
    found = {}
    for kind in (Settings, given.Given):
        (tree,) = ast.parse(inspect.getsource(kind)).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                assert isinstance(field.target, ast.Name)
                found[field.target.id] = str(text.value.value)
    return found


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")
