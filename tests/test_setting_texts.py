"""Settings are written once: what Cache takes, what is in force, and the tables of README and docs are the same."""

from __future__ import annotations

import inspect

import cachelayer
from cachelayer.settings import Settings
from cachelayer.settings.given import Given
from tests.setting_texts import PAGE, README, page, readme


def test_what_cache_takes_is_what_there_is() -> None:
    positional = [name for name in inspect.signature(cachelayer.Cache).parameters if name != "settings"]
    assert [*positional, *Given.__annotations__] == list(Settings.model_fields)


def test_the_tables_are_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.setting_texts"
    assert README.read_text(encoding="utf-8") == readme(), "python -m tests.setting_texts"
