"""A full disk, and damage anywhere, at any time."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.faults.shop import GEMINI, KNOWN, LARGE, NEW, SMALL, Shop, Truth, blob_files, flip, overwrite, pictures

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
