"""The suite itself: where it is started from must not matter."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("workers", [0, 1])
def test_a_suite_started_with_ctrl_c_ignored_does_not_hang(workers: int) -> None:
    """A script's background job ignores SIGINT, and so would its children, which some tests send it."""
    test = HERE / "cli" / "test_main.py"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:benchmark",
        f"-n{workers}",
        f"{test}::test_ctrl_c_is_quiet",
    ]
    ended = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr
