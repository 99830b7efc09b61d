"""Which folder a command works on, and what it does when there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cachelayer.cli.failure import USAGE, Failure
from cachelayer.core.errors import StoreError
from cachelayer.stores.place import Place

if TYPE_CHECKING:
    from cachelayer.settings import Settings


def settings_for(path: Path | None) -> Settings:
    """The settings in force, --path first. Raises ConfigError."""
    from cachelayer.settings import load_settings

    return load_settings(path=path)


def folder_of(path: Path | None) -> Path:
    """The folder under a path of the settings, there or not. Raises Failure where there is none to be had."""
    place = Place(path)
    try:
        place.check()
    except StoreError as error:
        raise Failure(str(error), USAGE) from None
    return place.path


def existing_folder(path: Path | None) -> Path:
    """The folder of the store. Raises Failure when it is not there; it is never made here."""
    folder = folder_of(settings_for(path).path)
    if not folder.is_dir():
        raise Failure(f"there is no folder {folder}: nothing has been cached there yet")
    return folder
