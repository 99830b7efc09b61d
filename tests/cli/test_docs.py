"""docs/cli.md is what the commands say of themselves."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cli.help_texts import commands, document
from tests.cli.test_main import COMMANDS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_up_to_date() -> None:
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == document(), "python -m tests.cli.help_texts > docs/cli.md"
    assert "None`" not in document()


def test_every_command_is_documented() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(commands()) == COMMANDS
    assert sorted(re.findall(r"^- `(\w+)`: ", page, re.MULTILINE)) == sorted(COMMANDS), "each has its JSON described"
