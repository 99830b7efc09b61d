"""A canary in every place where a client may put a credential; none of them in any file, log line or output.

Each canary is first seen to arrive at the provider: a search for what was never sent would prove nothing.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import openai
import pytest
from google import genai
from google.genai import types

import cachelayer
from cachelayer.questions import Difference
from cachelayer.simulator import Simulator
from tests.asking import GEMINI_PATH, PATH, body, gemini_body

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

PROMPT = "prompt-of-a-customer"


def canary(place: str) -> str:
    """A credential that says where it was put, in letters that no encoding of a URL changes."""
    return "cnry" + re.sub(r"[^a-z]", "", place.lower()) + "7Qx9"


HEADERS = {
    name: canary(name)
    for name in (
        "x-goog-api-key",
        "api-key",
        "x-api-key",
        "proxy-authorization",
        "openai-organization",
        "openai-project",
        "x-goog-user-project",
        "x-my-token",
        "cookie",
    )
} | {"authorization": "Bearer " + canary("authorization")}
QUERY = {
    name: canary("query" + name)
    for name in (
        "key",
        "api_key",
        "access_token",
        "sig",
        "X-Amz-Credential",
        "X-Amz-Signature",
        "X-Amz-Security-Token",
        "X-Goog-Credential",
        "X-Goog-Signature",
        "my_token",
    )
}
BOOKKEEPING = {"user": canary("user"), "safety_identifier": canary("safety"), "metadata": {"who": canary("metadata")}}
USERINFO = (canary("username"), canary("password"))

SENT = [
    *(value.removeprefix("Bearer ") for value in HEADERS.values()),
    *QUERY.values(),
    canary("baretoken"),
    *USERINFO,
    canary("user"),
    canary("safety"),
    canary("metadata"),
    *(canary(place) for place in ("sdkkey", "azurekey", "genaikey", "sdkorganization", "sdkproject", "sdkcookie")),
]
NEVER_SENT = [canary("raised"), canary("deadhost")]
PROVIDERS = ["simulated-organization", "proj_simulated", "__cf_bm", "_cfuvid"]
"""The account and the cookies that the simulator answers with."""


def spellings(secret: str) -> list[bytes]:
    """What a secret may look like on a disk: itself, and inside base64 at each of the three offsets."""
    data = secret.encode()
    encoded = [base64.b64encode(b"\0" * lead + data + b"\0" * (-(lead + len(data)) % 3)) for lead in range(3)]
    middles = [text[4 if lead else 0 : -4] for lead, text in enumerate(encoded)]
    return [data, data[::-1], data.hex().encode(), *middles]


NEEDLES = {
    spelling: secret
    for secret in [*SENT, *NEVER_SENT, *PROVIDERS]
    for spelling in spellings(secret)
    if len(spelling) > 7
} | {base64.b64encode(":".join(USERINFO).encode()): "basic authorization"}


def found_in(data: bytes) -> set[str]:
    return {secret for needle, secret in NEEDLES.items() if needle in data}


class Lines(logging.Handler):
    """Everything that the logger says, tracebacks included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text: list[str] = []
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(self.format(record) + repr(record.args))


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("cachelayer")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)


def image_body(number: int) -> dict[str, Any]:
    return body(f"{PROMPT} {number}", size="256x512", **BOOKKEEPING)


class Raising(httpx.BaseTransport):
    """A user's own transport whose errors say too much."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"refused for Bearer {canary('raised')}", request=request)


def roam(cache: cachelayer.Cache, simulator: Simulator) -> None:
    """Every outcome there is, with a credential in every place there is."""
    address = simulator.url.removeprefix("http://")
    with cache.wrap(httpx.Client(timeout=60)) as client:

        def ask(path: str, document: Any, expect: str, **more: Any) -> httpx.Response:
            answer = client.post(simulator.url + path, json=document, **{"headers": HEADERS, "params": QUERY} | more)
            assert answer.headers["x-cachelayer"] == expect
            return answer

        for path, document in ((PATH, image_body(0)), (GEMINI_PATH, gemini_body(PROMPT))):
            ask(path, document, "MISS")
            assert ask(path, document, "HIT").status_code == 200
        for expect in ("MISS", "HIT"):
            answer = client.post(f"{simulator.url}{PATH}?{canary('baretoken')}", json=image_body(2))
            assert answer.headers["x-cachelayer"] == expect
        secret_url = f"http://{USERINFO[0]}:{USERINFO[1]}@{address}{PATH}"
        for expect in ("MISS", "HIT"):
            answer = client.post(secret_url, json=image_body(1))
            assert answer.headers["x-cachelayer"] == expect
        for number, behaviour in enumerate(("error", "rate_limit", "block", "url", "text_only", "truncate"), start=10):
            simulator.script(behaviour)
            ask(PATH, image_body(number), "MISS")
        simulator.script("disconnect")
        with pytest.raises(httpx.RemoteProtocolError):
            client.post(simulator.url + PATH, json=image_body(20), headers=HEADERS, params=QUERY)
        ask(PATH, image_body(21) | {"stream": True}, "BYPASS").read()
        ask("/v1/chat/completions", {"messages": [canary("user")]}, "BYPASS")
        broken = b'{"prompt": "' + canary("user").encode()
        answer = client.post(simulator.url + PATH, content=broken, headers=HEADERS, params=QUERY)
        assert answer.headers["x-cachelayer"] == "BYPASS"
        document = gemini_body(PROMPT) | {"cachedContent": "cachedContents/1"}
        ask(GEMINI_PATH, document, "BYPASS")
        files = {"image": ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(100), "image/png")}
        form = {"model": "gpt-image-2", "prompt": PROMPT, "size": "64x64", "user": canary("user")}
        for expect in ("MISS", "HIT"):
            answer = client.post(simulator.url + "/v1/images/edits", data=form, files=files, headers=HEADERS)
            assert answer.headers["x-cachelayer"] == expect
        assert client.get(simulator.url + "/v1/models", headers=HEADERS, params=QUERY).status_code == 200
    with cache.wrap(httpx.Client(timeout=5, transport=Raising())) as client, pytest.raises(httpx.ConnectError):
        client.post(simulator.url + PATH, json=image_body(30), headers=HEADERS, params=QUERY)
    with cache.wrap(httpx.Client(timeout=5)) as client, pytest.raises(httpx.ConnectError):
        client.post(f"http://u:{canary('deadhost')}@127.0.0.1:9{PATH}", json=image_body(31), params=QUERY)

    given = openai.OpenAI(
        api_key=canary("sdkkey"),
        base_url=simulator.url + "/v1",
        organization=canary("sdkorganization"),
        project=canary("sdkproject"),
        default_headers={"Cookie": canary("sdkcookie"), "x-my-token": HEADERS["x-my-token"]},
        max_retries=0,
    )
    with given, cache.wrap(given) as sdk:
        for _ in range(2):
            sdk.images.generate(**body(f"{PROMPT} 40"), extra_query=QUERY, extra_body=BOOKKEEPING)
        simulator.script("error")
        with pytest.raises(openai.InternalServerError):
            sdk.images.generate(**body(f"{PROMPT} 41"))
        sdk.models.list()
    azure = openai.AzureOpenAI(
        api_key=canary("azurekey"), azure_endpoint=simulator.url, api_version="2025-04-01-preview"
    )
    with azure, cache.wrap(azure) as sdk:
        for _ in range(2):
            sdk.images.generate(**body(f"{PROMPT} 42"))
    google = genai.Client(api_key=canary("genaikey"), http_options=types.HttpOptions(base_url=simulator.url))
    config = types.GenerateContentConfig(response_modalities=["IMAGE"])
    wrapped = cache.wrap(google)
    for _ in range(2):
        wrapped.models.generate_content(model="gemini-3-pro-image", contents=f"{PROMPT} 43", config=config)

    async def go() -> None:
        async with cache.wrap(httpx.AsyncClient(timeout=60)) as client:
            for expect in ("MISS", "HIT"):
                answer = await client.post(simulator.url + PATH, json=image_body(50), headers=HEADERS, params=QUERY)
                assert answer.headers["x-cachelayer"] == expect
            simulator.script("disconnect")
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(simulator.url + PATH, json=image_body(51), headers=HEADERS, params=QUERY)
            answer = await client.post(
                simulator.url + PATH, json=image_body(52) | {"stream": True}, headers=HEADERS, params=QUERY
            )
            assert answer.headers["x-cachelayer"] == "BYPASS"
        given = openai.AsyncOpenAI(api_key=canary("sdkkey"), base_url=simulator.url + "/v1", max_retries=0)
        async with given, cache.wrap(given) as sdk:
            for _ in range(2):
                await sdk.images.generate(**body(f"{PROMPT} 53"))
        for _ in range(2):
            await wrapped.aio.models.generate_content(
                model="gemini-3-pro-image", contents=f"{PROMPT} 54", config=config
            )
        await wrapped.aio.aclose()
        await google.aio.aclose()

    asyncio.run(go())
    wrapped.close()
    google.close()


def break_things(folder: Path) -> None:
    """So that warnings are written, with whatever they say."""
    for path in (folder / "blobs").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    for path in (folder / "ledger").glob("*.segment"):
        path.unlink()
    with closing(sqlite3.connect(folder / "entries" / "cache.db")) as db, db:
        db.execute("UPDATE Cache SET value = ?1 WHERE rowid = (SELECT min(rowid) FROM Cache)", (b"damaged",))


def arrived(simulator: Simulator) -> bytes:
    """All that the provider was sent, headers decoded as far as they are encoded."""
    pieces = []
    for request in simulator.requests:
        pieces += [request.path.encode(), request.body]
        for name, value in request.headers:
            pieces.append(f"{name}: {value}".encode())
            if value.startswith("Basic "):
                pieces.append(base64.b64decode(value.removeprefix("Basic ")))
    return b"\n".join(pieces)


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file, and what is compressed inside the index."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()
    for index in folder.rglob("cache.db"):
        with closing(sqlite3.connect(index)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in db.execute(f"SELECT * FROM {name}"):
                    for cell in row:
                        data = cell if isinstance(cell, bytes) else str(cell).encode()
                        yield f"{index.name}:{name}", data
                        if name == "Canonical" and isinstance(cell, bytes):
                            yield f"{index.name}:{name} unpacked", zlib.decompress(cell)
        yield index.name, index.read_bytes()


def command(folder: Path, *arguments: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-c", "from cachelayer.cli.main import main; main()", *arguments, "--path", str(folder)],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode in (0, 1), done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout
    return done.stdout + done.stderr


@pytest.fixture(params=["whole", "damaged"])
def roamed(
    request: pytest.FixtureRequest, folder: Path, lines: Lines, capfd: pytest.CaptureFixture[str]
) -> Iterator[tuple[cachelayer.Cache, Simulator]]:
    with Simulator() as simulator, cachelayer.Cache(path=folder, ttl="30d") as cache:
        roam(cache, simulator)
        if request.param == "damaged":
            break_things(folder)
            (folder / "ledger").rename(folder / "ledger.gone")
            (folder / "ledger").write_text("a file in its place")
            with cache.wrap(httpx.Client(timeout=60)) as client:
                for number in range(2):
                    client.post(simulator.url + PATH, json=image_body(number), headers=HEADERS, params=QUERY)
            assert any("ledger" in line for line in lines.text)
        yield cache, simulator


def test_no_secret_is_written_down(
    roamed: tuple[cachelayer.Cache, Simulator], folder: Path, lines: Lines, capfd: pytest.CaptureFixture[str]
) -> None:
    cache, simulator = roamed
    there = arrived(simulator)
    assert [secret for secret in SENT if secret.encode() not in there] == []

    seen: dict[str, set[str]] = {}

    def look(where: str, data: bytes) -> None:
        if leaked := found_in(data):
            seen.setdefault(where, set()).update(leaked)

    stats = cache.stats()
    look("stats", repr(stats).encode() + stats.model_dump_json().encode())
    cache.close()
    names = set()
    for where, data in contents(folder):
        names.add(where)
        look(where, data)
        look(f"name of {where}", where.encode())
    assert any("blobs" in name for name in names)
    assert any("segment" in name or "ledger.sqlite3" in name for name in names)
    assert "cache.db:Canonical unpacked" in names
    assert any("HIT" in line for line in lines.text)
    look("log", "\n".join(lines.text).encode())
    printed = capfd.readouterr()
    look("output", (printed.out + printed.err).encode())
    assert seen == {}


def test_no_prompt_is_in_the_ledger(roamed: tuple[cachelayer.Cache, Simulator], folder: Path, lines: Lines) -> None:
    cache, _ = roamed
    if (folder / "ledger").is_dir():
        cache.stats()  # folds
    looked = 0
    for path in [*folder.glob("ledger*/*"), *folder.glob("ledger")]:
        if path.is_file():
            assert PROMPT.encode() not in path.read_bytes(), path
            if path.suffix == ".sqlite3":
                looked += path.stat().st_size
    assert looked > 1000 or not (folder / "ledger").is_dir()
    assert PROMPT not in "\n".join(lines.text)  # nor in the log, DEBUG included


@pytest.mark.parametrize("roamed", ["whole"], indirect=True)
def test_no_command_shows_a_secret(roamed: tuple[cachelayer.Cache, Simulator], folder: Path, tmp_path: Path) -> None:
    cache, simulator = roamed
    query = "&".join(f"{name}={quote(value)}" for name, value in QUERY.items())
    one = {
        "method": "POST",
        "url": f"http://{USERINFO[0]}:{USERINFO[1]}@{simulator.url.removeprefix('http://')}{PATH}?{query}",
        "headers": HEADERS | {"content-type": "application/json"},
        "body": image_body(0),
    }
    other = one | {"headers": {"content-type": "application/json", "x-my-token": canary("raised")}}
    (tmp_path / "one.json").write_text(json.dumps(one))
    (tmp_path / "other.json").write_text(json.dumps(other))
    store = cache._engine.tier.store
    assert store is not None
    keys = [head.key for head in store.heads()]
    assert len(keys) > 5
    for arguments in [
        ("report",),
        ("report", "--json"),
        ("report", "--by", "host", "--json"),
        ("ls", "--json"),
        ("ls",),
        *(("show", key) for key in keys[:6]),
        ("show", keys[0], "--json"),
        ("explain", str(tmp_path / "one.json")),
        ("explain", str(tmp_path / "one.json"), "--json"),
        ("diff", str(tmp_path / "one.json"), str(tmp_path / "other.json"), "--json"),
        ("doctor",),
        ("doctor", "--json"),
    ]:
        assert found_in(command(folder, *arguments)) == set(), arguments


@pytest.mark.parametrize("roamed", ["whole"], indirect=True)
def test_no_object_shows_a_secret(roamed: tuple[cachelayer.Cache, Simulator]) -> None:
    cache, simulator = roamed
    request = cachelayer.Request(
        "POST",
        f"http://{USERINFO[0]}:{USERINFO[1]}@h.example{PATH}?key={QUERY['key']}",
        HEADERS | {"content-type": "application/json"},
        json.dumps(image_body(0)),
    )
    other = cachelayer.Request(
        "POST", request.url, {"content-type": "application/json", "x-my-token": canary("raised")}, request.body
    )
    explained = cache.explain(request)
    assert explained.key is not None
    differences = cache.diff(request, other)
    assert [difference.field for difference in differences] == ["headers.x-my-token.0"]
    assert isinstance(differences[0], Difference)
    client = cache.wrap(httpx.Client(headers=HEADERS))
    shown = [request, explained, *differences, cache, cache.settings, cache.stats(), client, simulator.calls]
    client.close()
    for thing in shown:
        assert found_in(repr(thing).encode() + str(thing).encode()) == set(), type(thing)
    assert found_in(explained.canonical + json.dumps(explained.fields).encode()) == set()


@pytest.mark.parametrize("padding", ["", "=", "=="])
def test_a_bare_token_in_a_query_is_not_written_down(padding: str, cache: cachelayer.Cache) -> None:
    """``?TOKEN``, also when it ends in base64 padding, or when a client puts a "=" behind it."""
    url = f"https://h.example{PATH}?{canary('baretoken')}{padding}"
    request = cachelayer.Request("POST", url, {"content-type": "application/json"}, json.dumps(image_body(0)))
    explained = cache.explain(request)
    assert explained.key is not None
    assert found_in(explained.canonical) == set()


def test_the_search_finds_what_is_there() -> None:
    assert found_in(b"... " + SENT[0].encode()) == {SENT[0]}
    assert found_in(base64.b64encode(f"user:{USERINFO[1]}".encode())) == {USERINFO[1]}
    assert found_in(f"Basic {base64.b64encode(':'.join(USERINFO).encode()).decode()}".encode())
    assert found_in(b"nothing") == set()
