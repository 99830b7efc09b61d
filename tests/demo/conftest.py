"""The demo is tried as a command."""

from tests.cli.conftest import run, stored

__all__ = ["run", "stored"]
