"""The settings: arguments of Cache, then CACHELAYER_<NAME> variables, then cachelayer.toml in the working folder.

Loaded late, because pydantic-settings takes longer to import than all the rest. What each setting means stands in
given.py, how it may be written in kinds.py, where a value came from is found in sources.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from cachelayer.core.errors import ConfigError
from cachelayer.core.model import KeyRules, Rules
from cachelayer.core.scope import pool_of
from cachelayer.settings import kinds
from cachelayer.settings.sources import FILE, PREFIX, file, nearest, said_from, wrong

_IGNORE = re.compile(r"(?:header|query):\S+|body:[^.]+(?:\.[^.]+)*")


class Settings(BaseSettings):
    """All settings in force. Durations in seconds, sizes in bytes, money in USD."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        toml_file=FILE,
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
    )

    path: kinds.Folder = Field(default_factory=kinds.default_folder)
    """Where entries, images and ledger lie (docs/storage.md)."""  # None: this user has no home folder for one
    size_limit: kinds.Size = 10 * 10**9
    ttl: kinds.Duration | None = None
    namespace: kinds.Name = "default"
    operations: kinds.Operations = ("image",)
    normalize: kinds.Folding = "prompt"
    prices: kinds.Prices | None = None
    pools: kinds.Pools = ()
    ignore: kinds.Fields = ()
    max_body: kinds.Size = 512 * 10**6
    finish_timeout: kinds.Wait = 600.0
    hedge_after: kinds.Wait = 90.0
    drain_timeout: kinds.Wait = 60.0
    drain_on_sigterm: kinds.Flag = False
    disabled: kinds.Flag = False

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # Not Path.isfile(), which raises where the working folder may not be entered (root's, for another user).
        toml = TomlConfigSettingsSource(settings_cls, FILE if os.path.isfile(FILE) else None)
        return init_settings, env_settings, toml

    def rules(self) -> Rules:
        """What the runtime goes by."""
        return Rules(
            keys=KeyRules(
                namespace=self.namespace,
                normalize=self.normalize,
                pools=self.pools,
                ignore=self.ignore,
                max_body=self.max_body,
            ),
            operations=self.operations,
            ttl=self.ttl,
            finish_timeout=self.finish_timeout,
            hedge_after=self.hedge_after,
            drain_timeout=self.drain_timeout,
        )


def load_settings(**arguments: Any) -> Settings:
    """The settings in force; arguments that are None are taken as not given.

    Raises ConfigError, in one sentence that says where the value came from, for a value or a name that is wrong.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise ConfigError(_sentence(error, given)) from None
    except SettingsError as error:
        field = re.search(r'field "(\w+)"', str(error))
        name = "?" if field is None else field[1]
        raise ConfigError(
            f"setting {name!r} is wrong: it should be {_right(name)}, written as JSON"
            f" (from the variable {PREFIX}{name.upper()})"
        ) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"cachelayer.toml cannot be read: {why} ({file()})") from None
    for item in settings.ignore:
        if _IGNORE.fullmatch(item) is None:
            raise wrong("ignore", f"{item!r} should be header:NAME, query:NAME or body:dotted.path", given)
    try:
        _check_pools(settings.pools)
    except ConfigError as error:
        raise ConfigError(f"{error}{said_from('pools', given)}") from None
    return settings


def _check_pools(pools: tuple[tuple[str, ...], ...]) -> None:
    seen: set[str] = set()
    for texts in pools:
        try:
            pool = pool_of(texts)
        except ValueError as error:
            raise ConfigError(f"setting 'pools' is wrong: {error}") from None
        # Members as scopes are written: one scope may be spelled in many ways.
        for scope in [*pool.members, *([] if pool.name is None else [f"name:{pool.name}"])]:
            if scope in seen:
                raise ConfigError(f"setting 'pools' is wrong: {scope!r} stands in it twice")
            seen.add(scope)


def _sentence(error: ValidationError, given: Collection[str]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "?"
    if first["type"] == "extra_forbidden":
        known = ", ".join(Settings.model_fields)
        near = nearest(name, Settings.model_fields)
        meant = "" if near is None else f"; {near!r} may be meant"
        return f"there is no setting {name!r}; the settings are {known}{meant}{said_from(name, given)}"
    if first["type"] == "value_error":  # ours: it says already what would be right
        return str(wrong(name, str(first["ctx"]["error"]), given))
    value = repr(first["input"])
    value = value if len(value) <= 60 else value[:57] + "..."
    return str(wrong(name, f"{value} should be {_right(name)}", given))


def _right(name: str) -> str:
    field = Settings.model_fields.get(name)
    return "JSON" if field is None else kinds.right(field)
