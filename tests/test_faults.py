"""Damage: no wrong byte is handed out, no exception reaches the caller, each is counted, the next request repairs.

Every answer is held against the simulator's own pictures for the same request, asked of a second one past the cache.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import certifi
import httpx
import pytest

import cachelayer
from cachelayer.core.entry import decode, encode
from cachelayer.simulator import Simulator
from tests.asking import GEMINI_PATH, PATH, body, gemini_body
from tests.conftest import Program, finish


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


@pytest.fixture(scope="module")
def truth() -> Iterator[Truth]:
    with Simulator() as simulator:
        yield Truth(simulator)


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


@pytest.fixture
def shop(folder: Path, simulator: Simulator, truth: Truth) -> Iterator[Shop]:
    with Shop(folder, simulator, truth) as shop:
        assert shop.outcomes(KNOWN) == ["MISS"] * len(KNOWN)
        assert shop.outcomes(KNOWN) == ["HIT"] * len(KNOWN)
        yield shop


def blob_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "blobs").rglob("*") if path.is_file())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- blobs ------------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def become_a_link(path: Path) -> None:
    there = path.with_name("elsewhere")
    path.rename(there)
    flip(there)
    path.symlink_to(there)


BLOB_DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "missing": Path.unlink,
    "a link": become_a_link,
}


@pytest.mark.parametrize("damage", BLOB_DAMAGE)
def test_a_damaged_blob_is_a_miss_that_repairs(damage: str, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    before = {path: path.read_bytes() for path in blob_files(shop.folder)}
    assert len(before) == 3
    for path in before:
        BLOB_DAMAGE[damage](path)
    with caplog.at_level(logging.WARNING, "cachelayer"):
        assert shop.outcomes(KNOWN) == ["HIT", "MISS", "MISS"]
    assert caplog.records
    assert shop.cache is not None
    assert shop.cache.stats().broken == 2
    assert shop.outcomes(KNOWN) == ["HIT"] * 3
    assert shop.cache.stats().broken == 2


def test_a_folder_in_a_blobs_place_is_a_miss_that_repairs(shop: Shop) -> None:
    for path in blob_files(shop.folder):
        path.unlink()
        path.mkdir()
        (path / "thesis.txt").write_text("mine")
    assert shop.outcomes(KNOWN) == ["HIT", "MISS", "MISS"]
    assert shop.outcomes(KNOWN) == ["HIT"] * 3
    assert len(list(shop.folder.rglob("thesis.txt"))) == 3


def test_a_blob_that_is_another_blob_is_not_served(shop: Shop) -> None:
    one, two, three = (path for path in blob_files(shop.folder))
    data = one.read_bytes(), two.read_bytes(), three.read_bytes()
    for path, other in zip((one, two, three), (data[1], data[2], data[0]), strict=True):
        path.write_bytes(other)
    assert shop.outcomes(KNOWN) == ["HIT", "MISS", "MISS"]
    assert shop.outcomes(KNOWN) == ["HIT"] * 3


def test_asynchronous_callers_are_no_worse_off(shop: Shop) -> None:
    for path in blob_files(shop.folder):
        flip(path)

    async def ask_all() -> list[str]:
        assert shop.cache is not None
        outcomes = []
        async with shop.cache.wrap(httpx.AsyncClient(timeout=60)) as client:
            for ask in KNOWN * 2:
                answer = await client.post(shop.simulator.url + ask.path, json=ask.body)
                assert pictures(answer) == shop.truth(ask)
                outcomes.append(answer.headers["x-cachelayer"])
        return outcomes

    assert asyncio.run(ask_all()) == ["HIT", "MISS", "MISS", "HIT", "HIT", "HIT"]
    assert shop.cache is not None
    assert shop.cache.stats().broken == 2


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_damaged_record_is_a_miss_that_repairs(shop: Shop) -> None:
    key = shop.key(LARGE)
    record = shop.record(key)
    assert shop.cache is not None
    for number, damaged in enumerate(
        [b"", record[:-1], record + b"\0", bytes(len(record)), record[:20] + b"!" + record[21:]], start=1
    ):
        shop.plant(key, damaged)
        assert shop.outcomes(KNOWN) == ["HIT", "MISS", "HIT"]
        assert shop.cache.stats().broken == number
        assert shop.outcomes(KNOWN) == ["HIT"] * 3


def test_a_record_under_another_key_is_not_served(shop: Shop) -> None:
    shop.plant(shop.key(LARGE), shop.record(shop.key(SMALL)))
    shop.plant(shop.key(SMALL), shop.record(shop.key(GEMINI)))
    assert shop.outcomes(KNOWN) == ["MISS", "MISS", "HIT"]
    assert shop.cache is not None
    assert shop.cache.stats().broken == 2
    assert shop.outcomes(KNOWN) == ["HIT"] * 3


@pytest.mark.parametrize("change", [{"spec": 2}, {"spec": 0}, {"namespace": "other"}], ids=str)
def test_a_record_of_another_spec_or_namespace_is_not_served(change: dict[str, Any], shop: Shop) -> None:
    for ask in KNOWN:
        key = shop.key(ask)
        shop.plant(key, encode(replace(decode(shop.record(key)), **change)))
    assert shop.outcomes(KNOWN) == ["MISS"] * 3
    assert shop.cache is not None
    assert shop.cache.stats().broken == 3
    assert shop.outcomes(KNOWN) == ["HIT"] * 3
    assert all(decode(shop.record(shop.key(ask))).spec == 1 for ask in KNOWN)


def test_a_record_of_another_namespace_under_our_key_is_not_served(shop: Shop) -> None:
    with Shop(shop.folder, shop.simulator, shop.truth, namespace="other") as other:
        assert other.outcomes(KNOWN) == ["MISS"] * 3
        for ask in KNOWN:
            assert other.key(ask) != shop.key(ask)
            shop.plant(shop.key(ask), shop.record(other.key(ask)))
        assert shop.outcomes(KNOWN) == ["MISS"] * 3
        assert shop.outcomes(KNOWN) == ["HIT"] * 3
        assert other.outcomes(KNOWN) == ["HIT"] * 3


def test_a_planted_pickle_is_refused(shop: Shop, tmp_path: Path) -> None:
    canary = tmp_path / "executed"
    code = b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."
    with closing(sqlite3.connect(shop.folder / "entries" / "cache.db")) as db, db:
        db.execute("UPDATE Cache SET mode = 4, value = ? WHERE key = ?", (code, shop.key(LARGE)))
        db.execute(
            "UPDATE Cache SET mode = 2, filename = ?, value = NULL WHERE key = ?", ("/etc/hostname", shop.key(SMALL))
        )
    assert shop.outcomes(KNOWN) == ["MISS", "MISS", "HIT"]
    assert shop.outcomes(KNOWN) == ["HIT"] * 3
    assert not canary.exists()
    assert Path("/etc/hostname").exists()


# --- the index --------------------------------------------------------------------------------------------------------


def overwrite(path: Path, at: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def delete_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


INDEX_DAMAGE: dict[str, Callable[[Path], object]] = {
    "zeroed": lambda entries: overwrite(entries / "cache.db", 0, bytes((entries / "cache.db").stat().st_size)),
    "empty": lambda entries: os.truncate(entries / "cache.db", 0),
    "half": lambda entries: os.truncate(entries / "cache.db", (entries / "cache.db").stat().st_size // 2),
    "random": lambda entries: (entries / "cache.db").write_bytes(random.Random(1).randbytes(50_000)),
    "header": lambda entries: overwrite(entries / "cache.db", 0, b"not a database!!"),
    "second page": lambda entries: overwrite(entries / "cache.db", 4096, b"\xff" * 4096),
    "deleted": lambda entries: (entries / "cache.db").unlink(),
    "deleted with its log": delete_all,
    "folder deleted": shutil.rmtree,
    "log zeroed": lambda entries: (entries / "cache.db-wal").write_bytes(bytes(20_000)),
    "log random": lambda entries: (entries / "cache.db-wal").write_bytes(random.Random(2).randbytes(20_000)),
    "shared memory random": lambda entries: (entries / "cache.db-shm").write_bytes(random.Random(3).randbytes(32_768)),
}


@pytest.mark.parametrize("damage", INDEX_DAMAGE)
def test_an_index_damaged_before_opening(damage: str, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.close()
    INDEX_DAMAGE[damage](shop.folder / "entries")
    with caplog.at_level(logging.WARNING, "cachelayer"):
        shop.open()
        first = shop.outcomes(KNOWN)
    assert first in (["HIT"] * 3, ["MISS"] * 3)
    if first[0] == "MISS":
        assert len(caplog.records) == 1, [record.getMessage() for record in caplog.records]
    assert shop.outcomes([*KNOWN, NEW]) == ["HIT"] * 3 + ["MISS"]
    assert shop.outcomes([*KNOWN, NEW]) == ["HIT"] * 4
    assert shop.cache is not None
    assert shop.cache.stats().entries == 4
    assert shop.cache.stats().requests == 6 + 3 + 4 + 4


@pytest.mark.parametrize("damage", INDEX_DAMAGE)
def test_an_index_damaged_while_it_is_open(damage: str, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    INDEX_DAMAGE[damage](shop.folder / "entries")
    # What SQLite holds in memory may go on for a while, with right bytes; what matters is that it ends whole.
    for _ in range(3):
        shop.outcomes([*KNOWN, NEW])
    assert shop.outcomes([*KNOWN, NEW]) == ["HIT"] * 4
    shop.close()
    shop.open()
    shop.outcomes([*KNOWN, NEW])
    assert shop.outcomes([*KNOWN, NEW]) == ["HIT"] * 4
    assert shop.cache is not None
    assert shop.cache.stats().entries == 4


def test_an_index_that_says_it_is_read_only(shop: Shop) -> None:
    """Byte 18 of a database says which version may write it."""
    shop.close()
    overwrite(shop.folder / "entries" / "cache.db", 18, b"\x82")
    shop.open()
    for _ in range(2):
        shop.outcomes([*KNOWN, NEW])
    assert shop.outcomes([*KNOWN, NEW]) == ["HIT"] * 4


def test_a_store_deleted_while_it_is_open(shop: Shop) -> None:
    shutil.rmtree(shop.folder)
    for _ in range(3):
        shop.outcomes([*KNOWN, NEW])
    shop.close()
    shop.open()
    shop.outcomes([*KNOWN, NEW])
    assert shop.outcomes([*KNOWN, NEW]) == ["HIT"] * 4


# --- folders that are not ours ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"cachelayer store 2\n", b"cachelayer store 999\n"])
def test_a_newer_format_is_not_touched(text: bytes, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.close()
    (shop.folder / "format").write_bytes(text)
    before = files(shop.folder)
    with caplog.at_level(logging.INFO, "cachelayer"):
        shop.open()
        assert shop.outcomes(KNOWN * 2) == ["MISS"] * 6
        assert shop.cache is not None
        stats = shop.cache.stats()  # what this program did; the folder's own ledger is the newer version's
        shop.close()
    assert (stats.requests, stats.misses, stats.entries) == (6, 6, 0)
    assert files(shop.folder) == before
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "update cachelayer" in warning
    assert "\n" not in warning


@pytest.mark.parametrize("what", ["foreign", "bad format", "a file"])
def test_what_is_not_a_store_is_not_touched(
    what: str, folder: Path, simulator: Simulator, truth: Truth, caplog: pytest.LogCaptureFixture
) -> None:
    if what == "a file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
    if what == "bad format":
        (folder / "format").write_bytes(b"A4\n")
    before = files(folder)
    with caplog.at_level(logging.WARNING, "cachelayer"), Shop(folder, simulator, truth) as shop:
        assert shop.outcomes([SMALL, SMALL]) == ["MISS", "MISS"]
    assert files(folder) == before
    assert what != "a file" or folder.read_text() == "mine"
    assert 1 <= len(caplog.records) <= 2  # a file has no room for the ledger either


# --- folders that cannot be written -----------------------------------------------------------------------------------


WITHOUT_RIGHTS = """
    # Everything is imported and read before the rights go: nobody else may get at the interpreter's own files, or at
    # the certificates of the environment, where the checkout is a folder of root's alone.
    import httpx, cachelayer, logging, pathlib, ssl, tempfile
    trust = ssl.create_default_context()
    folder, url, mode = args
    asks = json.load(sys.stdin)
    class Lines(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())
    lines = []
    logging.getLogger("cachelayer").addHandler(Lines())

    def ask_all(path):
        outcomes = []
        with cachelayer.Cache(path=path) as cache, cache.wrap(httpx.Client(timeout=60, verify=trust)) as client:
            for ask_path, body in asks:
                answer = client.post(url + ask_path, json=body)
                outcomes.append([answer.status_code, answer.headers["x-cachelayer"], answer.text])
            try:
                requests = cache.stats().requests
            except Exception as error:
                requests = [kind.__name__ for kind in type(error).__mro__]
        return outcomes, requests

    with tempfile.TemporaryDirectory() as warm:
        ask_all(warm)
    lines.clear()
    os.umask(0o077)
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    outcomes, requests = ask_all(folder)
    print(json.dumps([outcomes, requests, lines]))
"""


@pytest.fixture
def open_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that other users can reach (pytest's own they cannot), beside certificates that they cannot read."""
    certificates = tmp_path / "certificates.pem"
    shutil.copy(certifi.where(), certificates)
    certificates.chmod(0o600)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name) / "cache"


def give_away(folder: Path) -> None:
    """Root's tests drop to another user, who must own what he is to be kept from by its mode."""
    if os.getuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, 65534, 65534)


def without_rights(program: Program, folder: Path, simulator: Simulator, truth: Truth, asks: list[Ask]) -> Any:
    process = program(WITHOUT_RIGHTS, folder, simulator.url, "")
    assert process.stdin is not None
    process.stdin.write(json.dumps([[ask.path, ask.body] for ask in asks]))
    process.stdin.close()
    process.stdin = None
    outcomes, requests, lines = json.loads(finish(process))
    for ask, (status, _, text) in zip(asks, outcomes, strict=True):
        assert status == 200
        assert pictures(httpx.Response(200, text=text)) == truth(ask)
    return [outcome for _, outcome, _ in outcomes], requests, lines


def test_a_read_only_folder_still_serves(
    program: Program, open_folder: Path, simulator: Simulator, truth: Truth
) -> None:
    with Shop(open_folder, simulator, truth) as shop:
        shop.outcomes(KNOWN)
    give_away(open_folder)
    before = files(open_folder)
    for path in [*open_folder.rglob("*"), open_folder]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        outcomes, requests, lines = without_rights(program, open_folder, simulator, truth, [*KNOWN, NEW, NEW])
    finally:
        for path in [open_folder, *open_folder.rglob("*")]:
            path.chmod(0o700 if path.is_dir() else 0o600)
    assert outcomes == ["HIT"] * 3 + ["MISS"] * 2
    assert files(open_folder) == before
    assert requests == 5  # of this process alone: its outcomes are kept apart until it ends
    assert 1 <= len(lines) <= 3, lines
    assert len(set(lines)) == len(lines)


def test_a_folder_without_any_rights_is_not_there(
    program: Program, open_folder: Path, simulator: Simulator, truth: Truth
) -> None:
    with Shop(open_folder, simulator, truth) as shop:
        shop.outcomes(KNOWN)
    give_away(open_folder)
    before = files(open_folder)
    open_folder.chmod(0)
    try:
        outcomes, requests, lines = without_rights(program, open_folder, simulator, truth, [*KNOWN, SMALL])
    finally:
        open_folder.chmod(0o700)
    assert outcomes == ["MISS"] * 4
    assert files(open_folder) == before
    assert 1 <= len(lines) <= 3, lines
    assert requests == 4


def test_a_folder_that_cannot_be_made_is_not_there(
    program: Program, open_folder: Path, simulator: Simulator, truth: Truth
) -> None:
    open_folder.parent.chmod(0o555)
    outcomes, _, lines = without_rights(program, open_folder / "deep", simulator, truth, [SMALL, SMALL])
    open_folder.parent.chmod(0o755)
    assert outcomes == ["MISS"] * 2
    assert 1 <= len(lines) <= 3, lines


@pytest.mark.parametrize("what", ["ledger", "ledger.sqlite3"])
def test_an_unreadable_ledger_hinders_no_call(
    what: str, program: Program, open_folder: Path, simulator: Simulator, truth: Truth
) -> None:
    with Shop(open_folder, simulator, truth) as shop:
        shop.outcomes(KNOWN)
        assert shop.cache is not None
        shop.cache.stats()
    give_away(open_folder)
    ledger = open_folder / "ledger"
    closed = [ledger] if what == "ledger" else sorted(ledger.glob(what))
    assert closed
    for path in closed:
        path.chmod(0)
    outcomes, _, lines = without_rights(program, open_folder, simulator, truth, [*KNOWN, NEW, NEW])
    for path in closed:
        path.chmod(0o700)
    assert outcomes == ["HIT"] * 3 + ["MISS", "HIT"]
    assert len(lines) <= 3, lines
    if what == "ledger":
        assert lines


@pytest.mark.parametrize("damage", ["deleted", "a file", "random"])
def test_a_damaged_ledger_hinders_no_call(damage: str, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    assert shop.cache is not None
    shop.cache.stats()
    ledger = shop.folder / "ledger"
    if damage == "random":
        for path in ledger.iterdir():
            path.write_bytes(random.Random(4).randbytes(30_000))
    else:
        shutil.rmtree(ledger)
    if damage == "a file":
        ledger.write_text("no folder")
    with caplog.at_level(logging.WARNING, "cachelayer"):
        assert shop.outcomes([*KNOWN, NEW, NEW]) == ["HIT"] * 3 + ["MISS", "HIT"]
        stats = shop.cache.stats()
    if damage == "deleted":
        assert (stats.requests, stats.hits, stats.misses) == (5, 4, 1)
    else:
        assert caplog.records


def corrupt(path: Path, there: bytes, becomes: bytes) -> None:
    data = path.read_bytes()
    assert there in data
    path.write_bytes(data.replace(there, becomes))


LEDGER_DAMAGE: dict[str, Callable[[Path], object]] = {
    "header": lambda path: overwrite(path, 0, b"not a database!!"),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "a table with another name": lambda path: corrupt(path, b"TABLE events", b"TABLE evants"),
    "a table that is no text": lambda path: corrupt(path, b"model TEXT NOT NULL", b"model TEXT NOT\xa0NULL"),
    "a name that is no text": lambda path: corrupt(path, b"events_at", b"events\xefat"),
    "money that is no number": lambda path: corrupt(path, b"0.00388", b"0.0x388"),
    "money that is no text": lambda path: corrupt(path, b"0.00388", b"0.\xd50388"),
}


@pytest.mark.parametrize("damage", LEDGER_DAMAGE)
def test_a_damaged_ledger_is_begun_anew(damage: str, shop: Shop) -> None:
    assert shop.cache is not None
    shop.cache.stats()
    LEDGER_DAMAGE[damage](shop.folder / "ledger" / "ledger.sqlite3")
    for number in range(3):
        assert shop.ask(SMALL) == "HIT"
        assert shop.cache.stats().hits >= number


# --- a full disk ------------------------------------------------------------------------------------------------------


FULL = """
    import httpx, cachelayer, logging, pathlib, resource, signal
    folder, url, how = args
    asks = json.load(sys.stdin)
    path = pathlib.Path(folder)
    class Lines(logging.Handler):
        def emit(self, record):
            if record.levelno >= logging.WARNING:
                lines.append(record.getMessage())
    lines, outcomes = [], []
    logging.getLogger("cachelayer").addHandler(Lines())
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with cachelayer.Cache(path=path / "cache") as cache, cache.wrap(httpx.Client(timeout=60)) as client:
        def ask(number):
            ask_path, body = asks[number]
            answer = client.post(url + ask_path, json=body)
            outcomes.append([number, answer.headers["x-cachelayer"], answer.headers.get("x-cachelayer-reason"),
                             answer.text])
        ask(0)
        if how == "tmpfs":
            with open(path / "filler", "wb", buffering=0) as filler:
                try:
                    while True:
                        filler.write(bytes(1024))
                except OSError:
                    pass
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        for number in [0, 1, 2, 1, 0, 2, 3, 0]:
            ask(number)
        if how == "tmpfs":
            os.unlink(path / "filler")
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        for number in [0, 1, 2, 3, 0, 1, 2, 3]:
            ask(number)
        stats = cache.stats()
    print(json.dumps([outcomes, lines, stats.entries, stats.hits]))
"""


@pytest.mark.parametrize("how", ["tmpfs", "rlimit"])
def test_a_full_disk_hinders_no_call(how: str, tmp_path: Path, simulator: Simulator, truth: Truth) -> None:
    import sys
    import textwrap

    place = tmp_path / "small"
    place.mkdir()
    preamble = "import json, sys, os, warnings\nwarnings.simplefilter('error')\nargs = json.loads(sys.argv[1])\n"
    command = [sys.executable, "-c", preamble + textwrap.dedent(FULL), json.dumps([str(place), simulator.url, how])]
    if how == "tmpfs":
        mount = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=2m none "$0" && exec "$@"', str(place)]
        try:
            subprocess.run([*mount, "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no private mounts here; the other half of this test uses RLIMIT_FSIZE")
        command = [*mount, *command]
    asks = [SMALL, LARGE, GEMINI, NEW]
    done = subprocess.run(
        command, input=json.dumps([[ask.path, ask.body] for ask in asks]), capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    outcomes, lines, entries, hits = json.loads(done.stdout)
    for number, _, _, text in outcomes:
        assert pictures(httpx.Response(200, text=text)) == truth(asks[number])
    told = [(number, outcome) for number, outcome, _, _ in outcomes]
    assert told[:9] == [(0, "MISS")] + [(n, "MISS" if n else "HIT") for n in [0, 1, 2, 1, 0, 2, 3, 0]]
    assert all(reason in ("no-room", "tier-down") for n, _, reason, _ in outcomes[1:9] if n)
    # Where the breaker rests, the first ask after the disk has room again may still not be stored.
    assert [outcome for _, outcome in told[9:13]] == ["HIT", "MISS", "MISS", "MISS"]
    if how == "tmpfs" or all(reason == "no-room" for n, _, reason, _ in outcomes[1:9] if n):
        assert [outcome for _, outcome in told[13:]] == ["HIT"] * 4
        assert entries == 4
    assert 1 <= len(lines) <= 4, lines
    assert done.stderr == ""
    assert hits >= 1


# --- anything, anywhere -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_any_flipped_byte_in_any_file_is_harmless(seed: int, folder: Path, simulator: Simulator, truth: Truth) -> None:
    """25 rounds of a few flips each, half of them while the cache is open, over every file that the folder holds."""
    draw = random.Random(seed)
    touched: set[str] = set()
    with Shop(folder, simulator, truth) as shop:
        shop.outcomes(KNOWN)
        for number in range(25):
            if number % 2:
                shop.close()
            there = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
            # What was moved aside is out of use, and a format file that says otherwise is another test's matter.
            there = [path for path in there if "aside" not in str(path) and path.name != "format"]
            # Kinds first, so that many blobs do not keep the flips from the index, its log and the ledger.
            kinds: dict[str, list[Path]] = {}
            for path in there:
                kinds.setdefault(path.suffix or path.parent.parent.name, []).append(path)
            for _ in range(draw.choice([1, 1, 1, 20])):
                kind = draw.choice(sorted(kinds))
                path = draw.choice(kinds[kind])
                position = draw.randrange(min(path.stat().st_size, draw.choice([100, 5000, 10**9])))
                byte = path.read_bytes()[position]
                overwrite(path, position, bytes([byte ^ (1 << draw.randrange(8))]))
                touched.add(kind)
            if number % 2:
                shop.open()
            shop.outcomes(KNOWN)  # right bytes or a forwarded call, never an exception
            assert shop.cache is not None
            with suppress(cachelayer.CachelayerError):  # no totals is an answer too
                shop.cache.stats()
        assert {".db", "blobs", ".segment", ".sqlite3"} <= touched
        shop.close()
        shop.open()
        shop.outcomes(KNOWN)
        assert shop.outcomes(KNOWN) == ["HIT"] * 3


def test_damage_among_busy_callers(shop: Shop) -> None:
    """Callers go on asking while blobs and index are damaged and deleted under their hands."""
    assert shop.cache is not None
    faults: list[BaseException] = []
    outcomes: Counter[str] = Counter()
    stop = threading.Event()
    lock = threading.Lock()
    for ask in KNOWN:
        shop.truth(ask)

    def call(client: httpx.Client) -> None:
        try:
            while not stop.is_set():
                for ask in KNOWN:
                    answer = client.post(shop.simulator.url + ask.path, json=ask.body)
                    assert pictures(answer) == shop.truth(ask)
                    with lock:
                        outcomes[answer.headers["x-cachelayer"]] += 1
        except BaseException as error:
            faults.append(error)

    clients = [shop.cache.wrap(httpx.Client(timeout=60)) for _ in range(4)]
    threads = [threading.Thread(target=call, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    draw = random.Random(5)
    for _ in range(12):
        before = sum(outcomes.values())
        what = draw.choice(["flip", "flip", "unlink", "index", "header"])
        for path in blob_files(shop.folder):
            with suppress(FileNotFoundError):
                if what == "flip":
                    flip(path)
                elif what == "unlink":
                    path.unlink()
        with suppress(FileNotFoundError):
            if what == "index":
                shutil.rmtree(shop.folder / "entries")
            elif what == "header":
                overwrite(shop.folder / "entries" / "cache.db", 0, b"not a database!!")
        while sum(outcomes.values()) < before + 40 and not faults:
            threading.Event().wait(0.002)
    stop.set()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    assert faults == []
    assert outcomes["MISS"]
    assert outcomes["HIT"]
    shop.outcomes(KNOWN)
    assert shop.outcomes(KNOWN) == ["HIT"] * 3
    assert shop.cache.stats().requests == sum(outcomes.values()) + 12
