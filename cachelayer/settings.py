"""The settings: arguments of Cache, then CACHELAYER_<NAME> variables, then cachelayer.toml in the working folder.

Loaded late, because pydantic-settings takes longer to import than all the rest.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_cache_path
from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from cachelayer.core.errors import ConfigError
from cachelayer.core.model import KeyRules, Operation
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


def _seconds(value: Any) -> Any:
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
            return int(float(match[1]) * _BYTES[(match[2] or "").lower()])
        if not value.strip().isdigit():
            raise ValueError(f'{value!r} is no size: write bytes, or "50MB", "50MiB", "10GB"')
    return value


def _words(value: Any) -> Any:
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
Size = Annotated[int, BeforeValidator(_bytes), Field(gt=0)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]

_IGNORE = re.compile(r"(header|query|body):.+")


class Settings(BaseSettings):
    """All settings of a Cache, with their defaults. Durations in seconds, sizes in bytes, money in USD."""

    model_config = SettingsConfigDict(
        env_prefix="CACHELAYER_",
        toml_file="cachelayer.toml",
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
    )

    path: Path = Field(default_factory=lambda: user_cache_path("cachelayer", appauthor=False))
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
    """Groups of scopes that share entries; the first of each names the group."""
    ignore: Words = ()
    """Fields to leave out of the key: header:NAME, query:NAME, body:dotted.path."""
    max_body: Size = 512 * 10**6
    """A larger request body is forwarded without being read."""
    finish_timeout: Duration = 600.0
    """How long a flight goes on after its last caller has left."""
    drain_timeout: Duration = 60.0
    """How long the end of the program waits for flights."""
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
    except (OSError, ValueError) as error:  # an unreadable cachelayer.toml, a variable that is not JSON
        raise ConfigError(f"the settings cannot be read: {error}") from None
    for item in settings.ignore:
        if _IGNORE.fullmatch(item) is None:
            raise ConfigError(f"ignore {item!r} is wrong: write header:NAME, query:NAME or body:dotted.path")
    return settings


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = ", ".join(Settings.model_fields)
        return f"there is no setting {name!r}; the settings are {known}"
    message = first["msg"].removeprefix("Value error, ")
    return f"setting {name!r} is wrong: {message}"
