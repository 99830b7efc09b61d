"""The demo is tried as a command."""

from tests.cli.conftest import prepared, run, stored

__all__ = ["prepared", "run", "stored"]
