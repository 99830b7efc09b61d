"""docs/cli.md, made from what the commands declare: `python -m tests.cli.help_texts > docs/cli.md`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import typer

from cachelayer.cli.commands import app

HEAD = """\
# The command line

Made from what the commands declare (`python -m tests.cli.help_texts > docs/cli.md`); a test compares.

- The options `--path` and `--json` stand before or after the command.
- Exit codes: 0 done; 1 a problem was found (no such key, a damaged store, no such folder, a call of the demo that
  failed, a `purge` that was answered with no); 2 bad usage or settings; 130 Ctrl-C. A difference that `diff` finds is
  an answer, not a problem: 0. Warnings of `doctor` are none either.
- An error is one sentence on stderr. Results go to stdout; colour only to a terminal, and not with `NO_COLOR` set.
- Nothing is cut: in a narrow terminal the columns of a row stand below each other. In a pipe a row is one line, unless
  `COLUMNS` says how wide it may be.
- `purge` asks first. Without a terminal and without `--yes` it does nothing, and the exit code is 2.
- `cachelayer --install-completion` has the shell complete commands and options.
- Looking changes nothing: `ls`, `show`, `explain`, `diff` and `doctor` write nothing into the store, `report` only
  folds the ledger's segments into its database. None of them makes a folder. `purge` deletes what it is told to, and
  nothing else, whatever `size_limit` is in force.

JSON: money is a string of plain digits in USD, times are unix seconds.

- `report`: `{"totals": {...}, "groups": [{"name", ...}], "reasons": [{"reason", "outcome", "requests", "spent_usd",
  "meaning"}]}`; totals have the fields of `cache.stats()`, groups lack what is stored; reasons are those of
  [reasons.md](reasons.md).
- `ls`: `[{"key", "namespace", "operation", "model", "host", "created", "body_size", "images", "cost_usd"}]`, newest
  first.
- `show`: one such object with `"spec"`, `"status"`, `"headers"`, `"expires"`, `"last_use"`, `"pricing"`,
  `"pricing_reason"`, `"latency"`, `"blobs": [{"digest", "size", "mime", "image"}]` and `"request"`; with `--save` also
  `"saved"`, the paths.
- `explain`: `{"key", "operation", "model", "fields": {...}}`, and `"reason"` when the request is not cached.
- `diff`: `{"same", "reason", "differences": [{"field", "a", "b"}]}`: whether the keys are one, and why such requests
  are never answered from the cache, else null. `a` or `b` is null where the field is missing.
- `purge`: `{"purged": [key]}`.
- `doctor`: `{"ok", "checks": [{"check", "state", "detail", "remedy"}]}`; a state is `ok`, `warn` or `problem`, a remedy
  null where all is well.
- `demo`: that of `report`, and `"simulator_calls"` and `"path"`.
- `simulate`: `{"url"}`, once it listens.
"""


def commands() -> dict[str, Any]:
    """The commands in the order of the help."""
    group = typer.main.get_command(app)
    return {name: group.commands[name] for name in group.commands}  # type: ignore[attr-defined]


def document() -> str:
    """The whole of docs/cli.md.

    Made from the declarations and not from what --help prints, which differs between releases of typer.
    """
    parts = [HEAD, "| command | what it does |\n|---|---|"]
    parts += [f"| [{name}](#{name}) | {_paragraphs(command)[0]} |" for name, command in commands().items()]
    parts += ["", "Options of all commands:", "", *_table(typer.main.get_command(app).params)]
    for name, command in commands().items():
        own = [param for param in command.params if param.name not in ("path", "as_json")]
        arguments = "".join(f" {param.metavar}" for param in own if param.param_type_name == "argument")
        parts += ["", f"## {name}", "", f"    cachelayer {name}{arguments}" + (" [OPTIONS]" if own else "")]
        for paragraph in _paragraphs(command):
            parts += ["", paragraph]
        if own:
            parts += ["", *_table(own)]
    return "\n".join(parts) + "\n"


def _paragraphs(command: Any) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in inspect.cleandoc(command.help).split("\n\n")]


def _table(params: list[Any]) -> Iterator[str]:
    yield "| option | meaning | default |"
    yield "|---|---|---|"
    for param in params:
        yield f"| `{_spelling(param)}` | {param.help} | {_default(param)} |"


def _spelling(param: Any) -> str:
    if param.param_type_name == "argument":
        return str(param.metavar)
    value = "" if param.is_flag else f" {param.metavar}"
    return f"{', '.join(param.opts)}{value}".replace("|", "\\|")


def _default(param: Any) -> str:
    if param.required:
        return "required"
    default = getattr(param.default, "value", param.default)
    return "" if default is None or param.is_flag else f"{default}"


if __name__ == "__main__":
    sys.stdout.write(document())
