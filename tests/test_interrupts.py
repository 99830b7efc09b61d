"""An exception out of a signal handler, at any instruction: no lock, no count and no gate stays behind it."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from cachelayer.core.errors import LedgerError
from cachelayer.machine.interrupts import let_through, start_thread
from tests.conftest import Program, finish

PROGRAM = """
import builtins, collections, gc, random, signal, threading
import httpx
import cachelayer, cachelayer.machine.sqlite
from cachelayer.machine.sqlite import inside_sqlite

warnings.simplefilter("ignore")  # of forks beside threads, and of what an interrupted line had open
folder, what, rounds = args[0], args[1], int(args[2])
cachelayer.machine.sqlite.FORK_WAIT = 3600  # a fork that waits is found out by the test's own end
URL = "http://provider.example/v1/images/generations"
ANSWER = {"created": 1, "data": [{"b64_json": PNG}]}
cache = cachelayer.Cache(path=folder)
provider = httpx.MockTransport(lambda request: httpx.Response(200, json=ANSWER))
client = cache.wrap(httpx.Client(transport=provider))

def ask(prompt="a lighthouse"):
    return client.post(URL, json={"model": "gpt-image-2", "prompt": prompt}).headers["x-cachelayer"]

class Alarm(getattr(builtins, args[3])):
    pass

def ring(number, frame):
    global rang
    rang += 1
    raise Alarm

def unraisable(what):  # in a destructor or a callback Python itself drops it
    global rang
    rang -= issubclass(what.exc_type, Alarm)

rang, sys.unraisablehook = 0, unraisable

assert ask() == "MISS" and ask() == "HIT" and cache.stats().hits == 1  # what is imported late is there now
signal.signal(signal.SIGALRM, ring)
kept = collections.deque(maxlen=100)  # as a REPL keeps sys.last_value: what the frames hold is not let go of
draw, interrupted = random.Random(1), 0
work = {"hits": ask, "stats": cache.stats, "both": lambda: (ask(), cache.stats())}[what]
for _ in range(rounds):
    try:
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, SPAN[what]))
        work()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Alarm as alarm:
        interrupted += 1
        kept.append(alarm)
signal.setitimer(signal.ITIMER_REAL, 0)
client = cache.wrap(httpx.Client(transport=provider))  # interrupts may leave the lock of a cookie jar held

def fork():
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if ask() == "HIT" else 3)
        finally:
            os._exit(4)
    assert os.waitpid(child, 0)[1] == 0

def elsewhere(work):
    failed = []
    def run():
        try:
            work()
        except BaseException as error:
            failed.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failed, failed

for _ in range(3):
    elsewhere(fork)
    fork()
    elsewhere(lambda: ask(f"a pier {random.random()}"))
    assert ask() == "HIT"
    elsewhere(cache.stats)
    assert cache.stats().hits > 0
cache.close()
assert gc.collect() >= 0 and interrupted == rang, (interrupted, rang)
print(interrupted)
"""

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # 1 pixel
SPAN = {"hits": 6e-4, "stats": 4e-3, "both": 4e-3}
"""Seconds within which the alarm rings: about what the work takes."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer")
@pytest.mark.parametrize("kind", ["BaseException", "Exception"])
@pytest.mark.parametrize(("what", "rounds"), [("hits", 4_000), ("stats", 300), ("both", 300)])
def test_an_interrupt_at_any_instruction_leaves_nobody_waiting_and_reaches_the_caller(
    what: str, rounds: int, kind: str, program: Program, folder: Path
) -> None:
    """Also one that is an Exception, as Celery's soft limit is: no failure of ours that his call goes on without."""
    source = f"PNG, SPAN = {PNG!r}, {SPAN!r}\n{PROGRAM}"
    process = program(source, folder, what, rounds, kind)
    assert int(finish(process, 120)) > rounds / 20


FORKS = """
import contextlib, threading, time
import cachelayer.machine.sqlite
from cachelayer.machine.sqlite import inside_sqlite

warnings.simplefilter("ignore")
cachelayer.machine.sqlite.FORK_WAIT = 3600
told, came, leave = [], threading.Event(), threading.Event()

def plainly():
    with inside_sqlite:
        came.set()
        leave.wait()
        told.append("left")

@contextlib.contextmanager
def held():
    with inside_sqlite:
        yield

@contextlib.contextmanager
def held_twice():
    with held():
        yield

def by_a_generator():
    with held_twice():
        came.set()
        leave.wait()
        told.append("left")

def forgetting():
    (lambda: inside_sqlite.__enter__())()  # as an interrupt before the first line of the block leaves it
    came.set()
    leave.wait()
    told.append("left")

def entering_again():
    (lambda: inside_sqlite.__enter__())()
    with inside_sqlite:
        with held():
            came.set()
            leave.wait()
        told.append("left")

def fork():
    child = os.fork()
    if child == 0:
        with inside_sqlite:
            os._exit(0)
    told.append("forked")
    assert os.waitpid(child, 0)[1] == 0

guest = threading.Thread(target=globals()[args[0]], daemon=True)
guest.start()
came.wait()
forking = threading.Thread(target=fork)
forking.start()
if args[1] == "waits":
    while not inside_sqlite.turnstile.locked():
        time.sleep(0.001)
    leave.set()
forking.join()
leave.set()
guest.join()
print(*told)
"""


@pytest.mark.parametrize(
    ("guest", "expected"),
    [
        ("plainly", "left forked"),
        ("by_a_generator", "left forked"),
        ("entering_again", "left forked"),
        ("forgetting", "forked left"),
    ],
)
def test_a_fork_waits_for_those_who_are_inside_and_for_nobody_else(guest: str, expected: str, program: Program) -> None:
    process = program(FORKS, guest, "waits" if expected.startswith("left") else "goes on")
    assert finish(process) == expected + "\n"


@pytest.mark.parametrize("cleanup", [KeyError("a thread"), RuntimeError("release unlocked lock")])
def test_what_python_fails_with_while_it_cleans_up_after_an_interrupt_does_not_hide_it(cleanup: Exception) -> None:
    class Alarm(Exception):
        pass

    def ring(number: int, frame: object) -> None:
        raise Alarm

    class Interrupted(threading.Thread):
        def start(self) -> None:
            try:
                signal.raise_signal(signal.SIGUSR1)
            finally:
                raise cleanup

    before = signal.signal(signal.SIGUSR1, ring)
    try:
        with pytest.raises(Alarm):
            start_thread(Interrupted())
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_alarm_that_raises_timeout_error_is_no_failure_of_the_disk() -> None:
    """The usual recipe raises TimeoutError, which is an OSError: what writes a file names it anew."""

    def ring(number: int, frame: object) -> None:
        raise TimeoutError("too slow")

    def write() -> None:
        try:
            signal.raise_signal(signal.SIGUSR1)
        except OSError as error:
            raise LedgerError("cannot write") from error

    before = signal.signal(signal.SIGUSR1, ring)
    try:
        with pytest.raises(LedgerError) as caught:
            write()
        with pytest.raises(TimeoutError, match="too slow"):
            let_through(caught.value)
    finally:
        signal.signal(signal.SIGUSR1, before)
    let_through(LedgerError("a failure of ours"))
