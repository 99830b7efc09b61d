"""The console script in a process that has its modules already, since reading them takes most of a command's time.

A server imports the command line once and forks for each command: a process of its own with its own arguments, folder,
environment and streams, that ends as any other. What depends on how Python starts (a closed stream, an encoding, which
modules a command imports) is not seen through this: tests for that run the script itself (command.SCRIPT), and
test_prepared.py holds the two against each other.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from tests.cli.command import SCRIPT, Ended

ROOT = Path(__file__).parents[2]
SERVER = "import sys; from tests.cli.prepared import serve; serve(sys.argv[1], int(sys.argv[2]))"
TIMEOUT = 100.0
"""Seconds that one command may take."""


class Prepared:
    """The server. Commands of several threads may run at once."""

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory()
        self._address = str(Path(self._home.name) / "socket")
        ours, theirs = socket.socketpair()
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER, self._address, str(theirs.fileno())],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        with ours:
            assert ours.recv(1) == b"+", "the server did not start"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()
        self._home.cleanup()

    def run(self, arguments: list[str], stdin: str, env: dict[str, str], cwd: Path) -> Ended:
        asked = json.dumps([arguments, env, str(cwd)]).encode()
        with (
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            socket.socket(socket.AF_UNIX) as connection,
        ):
            given.write(stdin.encode())
            given.seek(0)
            connection.settimeout(TIMEOUT)
            connection.connect(self._address)
            socket.send_fds(connection, [len(asked).to_bytes(4)], [given.fileno(), out.fileno(), err.fileno()])
            connection.sendall(asked)
            answer = connection.recv(16)
            assert answer, "the command's process is gone"
            out.seek(0)
            err.seek(0)
            return Ended(int(answer), out.read().decode(), err.read().decode())


def serve(address: str, ready: int) -> None:
    """Fork for each connection, and again for its command, whose exit code is the answer."""
    _import("cachelayer.cli.main", "cachelayer.cache", "genai_prices", "pydantic_settings", "rich.table", "httpx")
    for path in sorted((ROOT / "cachelayer" / "cli").glob("*.py")):
        _import(f"cachelayer.cli.{path.stem}")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    os.write(ready, b"+")
    os.close(ready)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listening.accept()
        head, streams, _, _ = socket.recv_fds(connection, 4, 3)
        arguments, env, cwd = json.loads(_exactly(connection, int.from_bytes(head)))
        if "demo" in arguments:
            _import("openai", "google.genai", "PIL.Image", "PIL.ImageDraw")
        if os.fork() != 0:
            for number in (*streams, connection.detach()):
                os.close(number)
            continue
        listening.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        command = os.fork()
        if command == 0:
            connection.close()
            return _become(arguments, env, cwd, streams)
        status = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
        connection.sendall(str(status).encode())
        os._exit(0)


def _import(*names: str) -> None:
    for name in names:
        __import__(name)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += connection.recv(size - len(data))
    return data


def _become(arguments: list[str], env: dict[str, str], cwd: str, streams: list[int]) -> None:
    """What the interpreter would have done for this command before the script's first line."""
    for number, given in enumerate(streams):
        os.dup2(given, number)
        os.close(given)
    # For the rest of the process, and under both names: what is still buffered under either is written at exit.
    for name, number, mode, errors in (
        ("stdin", 0, "r", "strict"),
        ("stdout", 1, "w", "strict"),
        ("stderr", 2, "w", "backslashreplace"),
    ):
        stream = open(number, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.argv = [str(SCRIPT), *arguments]
    sys.path[0] = str(SCRIPT.parent)

    from cachelayer.cli.main import main

    main()
