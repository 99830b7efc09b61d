"""What a ledger of a million outcomes costs, and whom it keeps waiting. Not part of `make bench`: it takes minutes.

    python -m bench.ledger_at_scale [OUTCOMES]

A process records them as calls do, while the rotation of its segments folds in the background; then once more, while
nobody may fold, and leaves without a word: a backlog. A second process asks for stats() while one thread of it forks
every 20 ms and another goes through the gate that a hit goes through: the longest fork and the longest hit behind one
are the price of a report. The same beside an idle interpreter is the floor.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from bench.outcome import HIT
from cachelayer.ledger import reports
from cachelayer.ledger.ledger import Ledger
from cachelayer.ledger.lines import encode
from cachelayer.ledger.locks import fold_alone
from cachelayer.machine.sqlite import inside_sqlite

SIZES = (0, 0, 0)
FORK_EVERY = 0.02


def record(folder: Path, outcomes: int) -> tuple[float, float]:
    """Median and 99th percentile of one record(), microseconds."""
    ledger = Ledger(folder)
    took = []
    for number in range(outcomes):
        event = replace(HIT, at=HIT.at + number / 100, key=f"{number % 1_000:064x}")
        begin = time.perf_counter()
        ledger.record(event)
        took.append(time.perf_counter() - begin)
    return statistics.median(took) * 1e6, statistics.quantiles(took, n=100)[98] * 1e6


def floor(folder: Path) -> float:
    """Median of what no record() can do without: the line is made, and written to an open file. Microseconds."""
    fd = os.open(folder / "floor", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    took = []
    for _ in range(20_000):
        begin = time.perf_counter()
        os.write(fd, encode(HIT))
        took.append(time.perf_counter() - begin)
    os.close(fd)
    return statistics.median(took) * 1e6


@contextlib.contextmanager
def bystanders() -> Iterator[dict[str, list[float]]]:
    """Seconds that each fork and each visit of the gate took meanwhile."""
    waits: dict[str, list[float]] = {"fork": [], "hit": []}
    done = threading.Event()

    def fork() -> None:
        begin = time.perf_counter()
        child = os.fork()
        if not child:
            os._exit(0)
        waits["fork"].append(time.perf_counter() - begin)
        os.waitpid(child, 0)

    def hit() -> None:
        begin = time.perf_counter()
        with inside_sqlite:
            pass
        waits["hit"].append(time.perf_counter() - begin)

    def repeat(work: Callable[[], None], pause: float) -> None:
        while not done.wait(pause):
            work()

    threads = [threading.Thread(target=repeat, args=each) for each in ((fork, FORK_EVERY), (hit, 0.001))]
    for thread in threads:
        thread.start()
    try:
        yield waits
    finally:
        done.set()
        for thread in threads:
            thread.join()


def timed(name: str, work: Callable[[], object]) -> None:
    with bystanders() as waits:
        begin = time.perf_counter()
        work()
        took = time.perf_counter() - begin
    for who, times in waits.items():
        times.sort()
        if times:
            p99 = times[len(times) * 99 // 100]
            name += f"; {who}s {len(times)}, longest {times[-1] * 1e3:.1f} ms, p99 {p99 * 1e3:.1f}"
    print(f"{took:9.3f} s  {name}; load {os.getloadavg()[0]:.1f}", flush=True)


def ask(folder: Path, outcomes: int) -> None:
    warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads is what is measured
    ledger = Ledger(folder)

    def stats() -> None:
        assert reports.totals(ledger, store_sizes=SIZES).requests == outcomes

    timed("nothing for 3 s (the floor of the others)", lambda: time.sleep(3))
    timed("first stats() of the backlog", stats)
    for _ in range(3):
        timed("stats() again", stats)
    timed("report by model", lambda: reports.report_json(ledger, by="model", store_sizes=SIZES))


def main() -> None:
    if sys.argv[1:2] == ["ask"]:
        ask(Path(sys.argv[2]), int(sys.argv[3]))
        return
    outcomes = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    with tempfile.TemporaryDirectory() as place:
        print(f"a line made and written:       median {floor(Path(place)):.1f} us", flush=True)
        median, p99 = record(Path(place) / "live", outcomes // 10)
        print(f"record() while rotation folds: median {median:.1f} us, p99 {p99:.1f} us", flush=True)
        folder = Path(place) / "backlog"
        Ledger(folder).record(HIT)
        found = fold_alone(folder, lambda _: record(folder, outcomes - 1), wait_here=600, wait=0)
        assert found is not None
        print(f"record() while nobody folds:   median {found[0]:.1f} us, p99 {found[1]:.1f} us", flush=True)
        # Left as by a program that was killed: close() would begin to fold.
        subprocess.run([sys.executable, __file__, "ask", str(folder), str(outcomes)], check=True)


if __name__ == "__main__":
    main()
