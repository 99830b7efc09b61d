"""The console script: runs the command that was asked for, and says in one sentence on stderr what went wrong.

Exit codes: 0 done, 1 a problem was found (no such key, a damaged store, a call that failed), 2 bad usage or settings,
130 Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import re
import sys

import typer

from cachelayer.cli.commands import app
from cachelayer.cli.failure import USAGE, Failure

# typer brings click along, as a dependency or inside itself: its exceptions are reached through typer's own.
_ClickException = typer.BadParameter.__mro__[2]


def main() -> None:
    """The console script."""
    sys.exit(_run())


def _run() -> int:
    """Run the command of sys.argv; the exit code."""
    logging.getLogger("cachelayer").addHandler(logging.NullHandler())  # a command says itself what it found
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a prompt may not fit the terminal's encoding
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        _drop_output()
        return 1
    except Exception as error:
        return _explain(error)


def _open_what_is_closed() -> None:
    """Started with a stream closed (`cachelayer ls >&-`), go on as if it were /dev/null.

    Else the next file that is opened gets its number, and what is printed to it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 # for the whole run


def _drop_output() -> None:
    """The reader has left (`| head`), or the disk is full: what is still buffered must not complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(error: Exception) -> int:
    """Print an expected error as one sentence; any other is a bug and keeps its traceback."""
    from cachelayer.core.errors import CachelayerError, ConfigError

    if isinstance(error, Failure):
        sentence, code = str(error), error.code
    elif isinstance(error, _ClickException):
        sentence, code = _no_such_command(_in_plain_words(error.format_message())), USAGE  # type: ignore[attr-defined]
    elif isinstance(error, CachelayerError):
        sentence, code = str(error), USAGE if isinstance(error, ConfigError) else 1
    elif isinstance(error, OSError):
        _drop_output()
        why = error.strerror or str(error)
        sentence, code = why if error.filename is None else f"{error.filename}: {why}", 1
    else:
        raise error
    print(f"cachelayer: {sentence}", file=sys.stderr)
    return code


def _in_plain_words(sentence: str) -> str:
    for words, plain in _PLAIN.items():
        sentence = sentence.replace(words, plain)
    return sentence


_PLAIN = {
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "it should be a whole number",
    "Input should be a valid number, unable to parse string as a number": "it should be a number",
    "Input should be ": "it should be ",
}
"""What typer's own library says of a value -> as said to people."""


def _no_such_command(sentence: str) -> str:
    """The sentence, or a better one where a command is named that is not there."""
    found = re.search("No such command ['\"](.*)['\"]", sentence)
    if found is None:
        return sentence
    names = [command.callback.__name__ for command in app.registered_commands if command.callback is not None]
    meant = [name for name in names if _is_slip(found[1], name)]
    advice = f"did you mean {meant[0]!r}?" if meant else f"the commands are {', '.join(names)}"
    return f"there is no command {found[1]!r}; {advice}"


def _is_slip(typed: str, name: str) -> bool:
    """Whether one letter is wrong, missing, too many, or two are the wrong way round."""
    typed, name = _without_beginning(typed, name)
    typed, name = _without_beginning(typed[::-1], name[::-1])
    return max(len(typed), len(name)) <= 1 or (len(typed) == 2 and typed == name[::-1])


def _without_beginning(one: str, other: str) -> tuple[str, str]:
    same = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    same = min(len(one), len(other)) if same is None else same
    return one[same:], other[same:]
