"""The simulator in the foreground."""

from __future__ import annotations

import json
import signal
import socket
import subprocess

import httpx

from tests.cli.command import SCRIPT, Run


def test_it_serves_until_it_is_told_to_end() -> None:
    with subprocess.Popen(
        [SCRIPT, "simulate", "--json", "--error-rate", "1", "--seed", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        shown = ""
        while not shown.endswith("}\n"):
            shown += process.stdout.readline()
        url = json.loads(shown)["url"]
        answer = httpx.post(f"{url}/v1/images/generations", json={"model": "gpt-image-2", "prompt": "x"})
        assert answer.status_code == 500
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err == "cachelayer: 1 call came, 0 answered well\n"


def test_it_says_how_an_sdk_is_pointed_at_it() -> None:
    with subprocess.Popen([SCRIPT, "simulate"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        shown = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    url = shown[0].split()[4]
    assert f'OpenAI(base_url="{url}/v1"' in shown[1]
    assert f'genai.Client(api_key="any", http_options={{"base_url": "{url}"}})' in shown[2]


def test_a_port_in_use(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run("simulate", "--port", taken.getsockname()[1])
    assert ended.code == 1
    assert "cannot be used" in ended.sentence
