"""Folders that are not ours, or that cannot be written or read."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import httpx
import pytest

from cachelayer.simulator import Simulator
from tests.conftest import Program, finish
from tests.faults.shop import KNOWN, NEW, SMALL, Ask, Shop, Truth, files, pictures


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
