"""The settings: arguments of Cache, then CACHELAYER_<NAME> variables, then cachelayer.toml in the working folder.

Loaded late, because pydantic-settings takes longer to import than all the rest.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Collection, Iterable
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
from cachelayer.core.model import KeyRules, Operation, Rules
from cachelayer.core.scope import pool_of

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
    if isinstance(value, str) and value.lstrip().startswith("["):
        # A variable of pools has to be JSON, so that one of words may be too. No word begins with a bracket.
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
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

_FILE = "cachelayer.toml"
_PREFIX = "CACHELAYER_"
_IGNORE = re.compile(r"(?:header|query):\S+|body:[^.]+(?:\.[^.]+)*")


class Settings(BaseSettings):
    """All settings of a Cache, with their defaults. Durations in seconds, sizes in bytes, money in USD."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        toml_file=_FILE,
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
        # Not Path.is_file(), which raises where the working folder may not be entered (root's, for another user).
        toml = TomlConfigSettingsSource(settings_cls, _FILE if os.path.isfile(_FILE) else None)
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


_RIGHT = {
    "path": "the name of a folder",
    "size_limit": 'bytes above 0, or "50MB", "50MiB", "10GB"',
    "ttl": 'seconds above 0, or "30s", "10m", "1h", "30d"',
    "namespace": "a text of 1 to 200 characters",
    "operations": 'a list of "image", "text" and "embedding"',
    "normalize": '"prompt", "exact" or "loose"',
    "prices": 'a table of hosts, such as {"api.reseller.example": "0.05"}',
    "pools": 'a list of lists of hosts, such as [["api.official.example", "api.reseller.example"]]',
    "ignore": "a list of header:NAME, query:NAME and body:dotted.path",
    "max_body": 'bytes above 0, or "50MB", "50MiB", "10GB"',
    "finish_timeout": 'seconds above 0 and up to 20 days, or "30s", "10m", "1h"',
    "drain_timeout": 'seconds above 0 and up to 20 days, or "30s", "10m", "1h"',
    "hedge_after": 'seconds above 0 and up to 20 days, or "30s", "10m", "1h"',
    "drain_on_sigterm": "true or false",
    "disabled": "true or false",
}
"""What each setting should be. Said in place of a library's own words, which name its types."""


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
            f"setting {name!r} is wrong: it should be {_RIGHT.get(name, 'JSON')}, written as JSON"
            f" (from the variable {_PREFIX}{name.upper()})"
        ) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"cachelayer.toml cannot be read: {why} ({_file()})") from None
    for item in settings.ignore:
        if _IGNORE.fullmatch(item) is None:
            raise _wrong("ignore", f"{item!r} should be header:NAME, query:NAME or body:dotted.path", given)
    try:
        _check_pools(settings.pools)
    except ConfigError as error:
        raise ConfigError(f"{error}{_from('pools', given)}") from None
    return settings


def source_of(name: str, given: Collection[str]) -> str | None:
    """Where a setting in force comes from, for people; None when it is the default.

    given: the names of the arguments that were given. Asked in the order in which they win.
    """
    if name in given:
        return "an argument"
    variable = f"{_PREFIX}{name.upper()}"
    if any(there.upper() == variable and value for there, value in os.environ.items()):
        return f"the variable {variable}"
    try:
        in_file = tomllib.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(_file()) if name in in_file else None


def unknown_variables() -> dict[str, str | None]:
    """Variables that look like ours and name no setting -> the one that was probably meant."""
    known = {f"{_PREFIX}{name.upper()}": name.upper() for name in Settings.model_fields}
    found: dict[str, str | None] = {}
    for name in sorted(os.environ):
        spelled = name.upper()
        if spelled in known:
            continue
        if spelled.startswith(_PREFIX):
            meant = _nearest(spelled.removeprefix(_PREFIX), known.values())
            found[name] = None if meant is None else _PREFIX + meant
        elif difflib.get_close_matches(spelled, known, n=1, cutoff=0.9):  # CACHE_LAYER_PATH
            found[name] = _nearest(spelled, known)
    return found


def _nearest(name: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.7)), None)


def _file() -> Path:
    try:
        return Path(_FILE).absolute()
    except OSError:  # the working folder is gone
        return Path(_FILE)


def _from(name: str, given: Collection[str]) -> str:
    source = source_of(name, given)
    return "" if source is None else f" (from {source})"


def _wrong(name: str, what: str, given: Collection[str]) -> ConfigError:
    return ConfigError(f"setting {name!r} is wrong: {what}{_from(name, given)}")


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
        nearest = _nearest(name, Settings.model_fields)
        meant = "" if nearest is None else f"; {nearest!r} may be meant"
        return f"there is no setting {name!r}; the settings are {known}{meant}{_from(name, given)}"
    if first["type"] == "value_error":  # ours: it says already what would be right
        return str(_wrong(name, str(first["ctx"]["error"]), given))
    value = repr(first["input"])
    value = value if len(value) <= 60 else value[:57] + "..."
    return str(_wrong(name, f"{value} should be {_RIGHT.get(name, 'another value')}", given))
