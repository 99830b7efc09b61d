"""Make docs/images/report.svg again: `.venv/bin/python docs/images/make.py`. It is what a real demo run prints."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 100
HERE = Path(__file__).parent


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        command = [Path(sys.executable).parent / "cachelayer", "demo", "--path", Path(scratch) / "demo"]
        colours = {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
        ended = subprocess.run(command, check=True, capture_output=True, env={**os.environ, **colours})  # noqa: S603
    printed = ended.stdout.decode()
    report = printed[printed.index("Saved $") : printed.index("To explain it")].rstrip("\n")
    screen = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    screen.print(Text("$ cachelayer demo", style="bold"))
    screen.print(Text("..."))
    screen.print(Text.from_ansi("\x1b[1;32m" + report))
    svg = screen.export_svg(title="cachelayer", unique_id="report")
    # rich has the viewer fetch its font from a server, which a page may refuse and a reader may not want; any
    # monospaced font does, as every run of text carries its length.
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    (HERE / "report.svg").write_text(svg + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
