"""A folder, a provider, a way to ask, and what the provider itself says: every answer is held against it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import GEMINI_PATH, PATH, body, gemini_body


@dataclass(frozen=True)
class Ask:
    path: str
    body: dict[str, Any]


SMALL = Ask(PATH, body("small"))
"""Its answer stays inside its entry."""


LARGE = Ask(PATH, body("large", size="512x512"))
"""Its picture is a blob."""


GEMINI = Ask(GEMINI_PATH, gemini_body("a thinking one", imageConfig={"aspectRatio": "1:8", "imageSize": "512"}))
"""Picture and thought signature are blobs."""


NEW = Ask(PATH, body("asked for the first time", size="512x512"))


KNOWN = [SMALL, LARGE, GEMINI]


def pictures(answer: httpx.Response) -> list[str]:
    document = answer.json()
    if "data" in document:
        return [item["b64_json"] for item in document["data"]]
    parts = [part for candidate in document["candidates"] for part in candidate["content"]["parts"]]
    return [part["inlineData"]["data"] for part in parts if "inlineData" in part]


class Truth:
    """What the provider itself says, asked past the cache."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._known: dict[str, list[str]] = {}

    def __call__(self, ask: Ask) -> list[str]:
        name = json.dumps([ask.path, ask.body])
        if name not in self._known:
            answer = httpx.post(self._simulator.url + ask.path, json=ask.body)
            assert answer.status_code == 200
            self._known[name] = pictures(answer)
        return self._known[name]


class Shop:
    """A folder, a provider, and a way to ask."""

    def __init__(self, folder: Path, simulator: Simulator, truth: Truth, **settings: Any) -> None:
        self.folder, self.simulator, self.truth = folder, simulator, truth
        # The list price is right here: an estimate would be one more warning.
        self.settings = {"prices": {simulator.url.removeprefix("http://"): "list"}} | settings
        self.cache: cachelayer.Cache | None = None

    def open(self) -> cachelayer.Cache:
        self.cache = cachelayer.Cache(path=self.folder, **self.settings)
        self.client = self.cache.wrap(httpx.Client(timeout=60))
        return self.cache

    def __enter__(self) -> Shop:
        self.open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self.cache is not None:
            self.client.close()
            self.cache.close()
            self.cache = None

    def ask(self, ask: Ask) -> str:
        """The outcome; fails when the answer is not the provider's, or no call was made for what is no hit."""
        calls = self.simulator.calls
        answer = self.client.post(self.simulator.url + ask.path, json=ask.body)
        assert answer.status_code == 200
        assert pictures(answer) == self.truth(ask)
        outcome: str = answer.headers["x-cachelayer"]
        assert (outcome == "HIT") == (self.simulator.calls == calls)
        return outcome

    def outcomes(self, asks: list[Ask]) -> list[str]:
        return [self.ask(ask) for ask in asks]

    def record(self, key: str) -> bytes:
        with closing(sqlite3.connect(self.folder / "entries" / "cache.db")) as db:
            (record,) = db.execute("SELECT value FROM Cache WHERE key = ?", (key,)).fetchone()
        return bytes(record)

    def plant(self, key: str, record: bytes) -> None:
        """Put a record under a key that has one, past the store."""
        with closing(sqlite3.connect(self.folder / "entries" / "cache.db")) as db, db:
            changed = db.execute("UPDATE Cache SET value = ? WHERE key = ?", (record, key))
            assert changed.rowcount == 1

    def key(self, ask: Ask, **settings: Any) -> str:
        assert self.cache is not None
        request = cachelayer.Request(
            "POST", self.simulator.url + ask.path, {"content-type": "application/json"}, json.dumps(ask.body)
        )
        key = self.cache.explain(request).key
        assert key is not None
        return key


def blob_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "blobs").rglob("*") if path.is_file())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def overwrite(path: Path, at: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
