"""The settings: arguments of Cache, then CACHELAYER_<NAME> variables, then cachelayer.toml in the working folder.

Loaded late, because pydantic-settings takes longer to import than all the rest.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_cache_path
from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from cachelayer.core.errors import ConfigError
from cachelayer.core.model import KeyRules, Operation
from cachelayer.core.scope import pool_of
from cachelayer.runtime.engine import Rules

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b", re.IGNORECASE)
_BYTES = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


_LONGEST_WAIT = 20 * 86_400
"""Seconds. finish_timeout becomes the timeout of a socket, which the system counts in milliseconds in 31 bits: from
24.8 days on every call would raise OverflowError."""
_LARGEST = 2**63 - 1
"""Bytes. What SQLite can count to."""


def _seconds(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f'{value!r} is no duration: write seconds, or "30s", "10m", "1h", "30d"')
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is not None:
            return float(match[1]) * _SECONDS[match[2]]
        try:
            return float(value)
        except ValueError:
            raise ValueError(f'{value!r} is no duration: write seconds, or "30s", "10m", "1h", "30d"') from None
    return value


def _bytes(value: Any) -> Any:
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is not None:
            return int(Decimal(match[1]) * _BYTES[(match[2] or "").lower()])
    if isinstance(value, bool) or (isinstance(value, str) and not value.strip().isdecimal()):
        raise ValueError(f'{value!r} is no size: write bytes, or "50MB", "50MiB", "10GB"')
    return value


def _words(value: Any) -> Any:
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


def _folder(value: Any) -> Any:
    # An empty path is the working folder to pathlib, and an unset variable to whoever wrote it.
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise ValueError(f"{value!r} is no path")
    return value


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
Wait = Annotated[Duration, Field(le=_LONGEST_WAIT)]
Size = Annotated[int, BeforeValidator(_bytes), Field(gt=0, le=_LARGEST)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]

_IGNORE = re.compile(r"(?:header|query):\S+|body:[^.]+(?:\.[^.]+)*")


class Settings(BaseSettings):
    """All settings of a Cache, with their defaults. Durations in seconds, sizes in bytes, money in USD."""

    model_config = SettingsConfigDict(
        env_prefix="CACHELAYER_",
        toml_file="cachelayer.toml",
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
    )

    path: Annotated[Path, BeforeValidator(_folder)] = Field(
        default_factory=lambda: user_cache_path("cachelayer", appauthor=False)
    )
    """Folder of the store and the ledger."""
    size_limit: Size = 10 * 10**9
    """Bound on the bytes of entries and blobs, by least recent use."""
    ttl: Duration | None = None
    """How long an entry is served; None keeps it until it is evicted."""
    namespace: str = Field(default="default", min_length=1, max_length=200)
    """Entries of one namespace are invisible to another."""
    operations: Annotated[tuple[Operation, ...], NoDecode, BeforeValidator(_words)] = ("image",)
    """What is cached: of image, text, embedding."""
    normalize: Literal["prompt", "exact", "loose"] = "prompt"
    """How prompts are folded before they are hashed (docs/key-spec.md)."""
    prices: dict[str, Any] | None = None
    """Your own prices per image, by host (docs/savings.md)."""
    pools: tuple[tuple[str, ...], ...] = ()
    """Groups of scopes whose entries answer each other's requests; a first member `name:NAME` names the group."""
    ignore: Words = ()
    """Fields to leave out of the key: header:NAME, query:NAME, body:dotted.path."""
    max_body: Size = 512 * 10**6
    """A larger request body is forwarded without being read."""
    finish_timeout: Wait = 600.0
    """How long a flight goes on after its last caller has left."""
    hedge_after: Wait = 90.0
    """How long a provider may be silent before one of those who wait makes a call of his own."""
    drain_timeout: Wait = 60.0
    """How long the end of the program waits for flights."""
    drain_on_sigterm: bool = False
    """Wait for flights at SIGTERM too, unless the program has a handler of its own."""
    disabled: bool = False
    """Everything passes through."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

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

    Raises ConfigError, in one sentence, for a value or a name that is wrong.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None
    except SettingsError as error:
        field = re.search(r'field "(\w+)"', str(error))
        name = "?" if field is None else field[1]
        raise ConfigError(f"setting {name!r} is wrong: variable CACHELAYER_{name.upper()} must be JSON") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cachelayer.toml cannot be read: {error}") from None
    for item in settings.ignore:
        if _IGNORE.fullmatch(item) is None:
            raise ConfigError(
                f"setting 'ignore' is wrong: {item!r} should be header:NAME, query:NAME or body:dotted.path"
            )
    _check_pools(settings.pools)
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


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = ", ".join(Settings.model_fields)
        return f"there is no setting {name!r}; the settings are {known}"
    message = first["msg"].removeprefix("Value error, ")
    if message.startswith("Input should"):
        value = repr(first["input"])
        message = (value if len(value) <= 60 else value[:57] + "...") + message.removeprefix("Input")
    return f"setting {name!r} is wrong: {message.replace('valid tuple', 'list')}"
