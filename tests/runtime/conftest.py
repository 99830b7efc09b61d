"""What all tests of this room allow."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests here close, stop and drop event loops under their connections. What such a loop leaves open is collected
    when the collector comes to it, which may be in a later test: it says nothing about that one."""
    allowed = (
        "ignore:unclosed:ResourceWarning",
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning",
    )
    for item in items:
        if _HERE in item.path.parents:
            for each in allowed:
                item.add_marker(pytest.mark.filterwarnings(each))
