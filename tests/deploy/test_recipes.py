"""The recipes of docs/deploy.md in the real servers: told to stop, they store what is paid for."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import cachelayer
from cachelayer.simulator import Simulator

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"


def recipe(name: str, into: Path) -> None:
    """Write the page's program of that name."""
    found = re.search(rf"```python\n# {name}\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    (into / f"{name}.py").write_text(found[1])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Server:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log

    def wait_for(self, words: str) -> None:
        until = time.monotonic() + 60
        while words not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)

    def get(self, port: int) -> int:
        until = time.monotonic() + 60
        while True:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/", timeout=60).status_code
            except httpx.ConnectError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < until, self.log.read_text()
                time.sleep(0.02)


@pytest.fixture
def serve(tmp_path: Path, folder: Path, simulator: Simulator) -> Iterator[object]:
    """Start a server in a process of its own, with the recipe beside it and the simulator as its provider."""
    started: list[Server] = []

    def start(*command: str, **variables: str) -> Server:
        log = tmp_path / "log"
        environment = os.environ | {
            "OPENAI_BASE_URL": simulator.url + "/v1",
            "OPENAI_API_KEY": "k",
            "CACHELAYER_PATH": str(folder),
            "CACHELAYER_DRAIN_TIMEOUT": "30",
            **variables,
        }
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=tmp_path, env=environment, stdout=sink, stderr=sink
            )
        started.append(Server(process, log))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()


def stop(server: Server, folder: Path, simulator: Simulator) -> None:
    """SIGTERM while the provider still works; then it answers; then the image is there."""
    simulator.wait_for_calls(1)
    server.process.send_signal(signal.SIGTERM)
    simulator.release()
    server.process.wait(60)
    with cachelayer.Cache(path=folder) as cache:
        stats = cache.stats()
    assert (stats.entries, stats.misses, simulator.calls) == (1, 1, 1), server.log.read_text()


def test_uvicorn(serve: object, tmp_path: Path, folder: Path, simulator: Simulator) -> None:
    recipe("uvicorn_app", tmp_path)
    simulator.hold()
    port = free_port()
    server = serve("uvicorn", "uvicorn_app:app", "--port", str(port))  # type: ignore[operator]
    assert server.get(port) == 504
    stop(server, folder, simulator)


def test_gunicorn(serve: object, tmp_path: Path, folder: Path, simulator: Simulator) -> None:
    recipe("gunicorn_app", tmp_path)
    simulator.hold()
    port = free_port()
    server = serve(  # type: ignore[operator]
        "gunicorn", "--graceful-timeout", "75", "--bind", f"127.0.0.1:{port}", "gunicorn_app:app"
    )
    assert server.get(port) == 504
    stop(server, folder, simulator)


def test_celery(serve: object, tmp_path: Path, folder: Path, simulator: Simulator) -> None:
    recipe("celery_app", tmp_path)
    for name in ("queue", "control"):
        (tmp_path / name).mkdir()
    (tmp_path / "celery_settings.py").write_text(
        f"""
broker_url = "filesystem://"
broker_transport_options = {{
    "data_folder_in": {str(tmp_path / "queue")!r},
    "data_folder_out": {str(tmp_path / "queue")!r},
    "control_folder": {str(tmp_path / "control")!r},
}}
"""
    )
    simulator.hold()
    settings = {"CELERY_CONFIG_MODULE": "celery_settings"}
    server = serve("celery", "-A", "celery_app", "worker", "--concurrency", "1", "--loglevel", "INFO", **settings)  # type: ignore[operator]
    subprocess.run(
        [sys.executable, "-m", "celery", "-A", "celery_app", "call", "celery_app.draw"],
        cwd=tmp_path,
        env=os.environ | settings | {"OPENAI_API_KEY": "k", "CACHELAYER_DISABLED": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )
    server.wait_for("ask again: the answer is under way")
    stop(server, folder, simulator)
