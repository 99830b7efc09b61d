"""The settings: arguments of Cache, then CACHELAYER_<NAME> variables, then cachelayer.toml in the working folder.

Loaded late, because pydantic-settings takes longer to import than all the rest.
"""

from __future__ import annotations

import os
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
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    # Before pathlib has seen it, which makes "./~a" and "~a" one. This is the only place where anything in a path is
    # expanded: a $ is a $.
    return expanded(text) if isinstance(text, str) else value


def expanded(text: str) -> Path | None:
    """The path with its ~ replaced; None where this user has no home folder. Raises ValueError for a user whom nobody
    knows."""
    user, _, rest = text.partition("/")
    if not user.startswith("~"):
        return Path(text)
    # Not os.path.expanduser, for which an empty HOME makes "~/x" to "/x".
    home = os.environ.get("HOME", "") if user == "~" else ""
    if not os.path.isabs(home):
        home = _home_by_the_books(user[1:])
    if os.path.isabs(home):
        return Path(home, rest)
    if user == "~":
        return None  # not wrong in itself: under `docker run -u 12345` it is the rule
    raise ValueError(f"there is no user {user[1:]!r} with a home folder")


def _home_by_the_books(user: str) -> str:
    import pwd  # not everywhere, and nobody but a ~ needs it

    try:
        return pwd.getpwnam(user).pw_dir if user else pwd.getpwuid(os.getuid()).pw_dir
    except (KeyError, ValueError):  # no such user; a name that cannot be one
        return ""


def _default_folder() -> Path | None:
    try:
        folder = user_cache_path("cachelayer", appauthor=False)
    except RuntimeError:  # neither HOME nor XDG_CACHE_HOME nor an entry in the list of users
        return None
    return folder if folder.is_absolute() else None


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
Wait = Annotated[Duration, Field(le=_LONGEST_WAIT)]
Size = Annotated[int, BeforeValidator(_bytes), Field(gt=0, le=_LARGEST)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]

_TOML = "cachelayer.toml"
"""In the working folder."""
_IGNORE = re.compile(r"(?:header|query):\S+|body:[^.]+(?:\.[^.]+)*")


class Settings(BaseSettings):
    """All settings of a Cache, with their defaults. Durations in seconds, sizes in bytes, money in USD."""

    model_config = SettingsConfigDict(
        env_prefix="CACHELAYER_",
        toml_file=_TOML,
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
    )

    path: Annotated[Path | None, BeforeValidator(_folder)] = Field(default_factory=_default_folder)
    """Folder of the store and the ledger; None: this user has no home folder for one."""
    size_limit: Size = 10 * 10**9
    """Bound on what the folder takes on disk besides the ledger, by least recent use."""
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
    finish_timeout: Wait = 600.0
    """How long a flight goes on after its last caller has left."""
    drain_timeout: Wait = 60.0
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
        # Not Path.is_file(), which raises where the working folder may not be entered (root's, for another user).
        toml = TomlConfigSettingsSource(settings_cls, _TOML if os.path.isfile(_TOML) else None)
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
    for pool in pools:
        if len(pool) < 2:
            raise ConfigError(f"setting 'pools' is wrong: {list(pool)} should name two scopes or more that share")
        for scope in pool:
            if not scope.strip():
                raise ConfigError(f"setting 'pools' is wrong: {list(pool)} names an empty scope")
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
