"""A tier may fail in every way there is; the runtime sees "not there", one warning per kind, and a breaker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping

import pytest

from cachelayer.core.errors import NoRoom, StoreError
from cachelayer.runtime.tier import REST, TRIES, Tier
from cachelayer.stores.base import NONE, Evicted


class FailingStore:
    """A whole store in memory that fails with what it is told to."""

    def __init__(self) -> None:
        self.error: Callable[[], BaseException] | None = None
        self.only: str | None = None
        """Only this method fails."""
        self.asked: list[str] = []
        self._records: dict[str, bytes] = {}
        self._blobs: dict[str, bytes] = {}

    def _ask(self, name: str) -> None:
        self.asked.append(name)
        if self.error is not None and self.only in (None, name):
            raise self.error()

    def get(self, key: str) -> bytes | None:
        self._ask("get")
        return self._records.get(key)

    def read_blob(self, digest: str, buffer: memoryview, start: int = 0) -> int | None:
        self._ask("read_blob")
        if digest not in self._blobs:
            return None
        piece = self._blobs[digest][start : start + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)

    def put(
        self, key: str, record: bytes, blobs: Mapping[str, bytes], *, canonical: bytes, expires: float | None
    ) -> None:
        self._ask("put")
        self._records[key] = record
        self._blobs.update(blobs)

    def delete(self, key: str) -> bool:
        return self._records.pop(key, None) is not None

    def scan(self) -> Iterator[tuple[str, bytes]]:
        return iter(self._records.items())

    def canonical(self, key: str) -> bytes | None:
        return None

    def sizes(self) -> tuple[int, int, int]:
        return len(self._records), len(self._blobs), 0

    def take_evicted(self) -> Evicted:
        return NONE

    def close(self) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> FailingStore:
    return FailingStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tier(store: FailingStore, clock: Clock) -> Tier:
    return Tier("local", store, clock=clock)


def blob(tier: Tier, digest: str) -> bytes | None:
    buffer = bytearray(100)
    size = tier.read_blob(digest, memoryview(buffer))
    return None if size is None else bytes(buffer[:size])


def put(tier: Tier, key: str = "k") -> str | None:
    return tier.put(key, b"record", {"d": b"blob"}, canonical=b"{}", expires=None)


def test_what_a_working_store_says_is_handed_on(tier: Tier) -> None:
    assert tier.get("k") is None
    assert blob(tier, "d") is None
    assert put(tier) is None
    assert tier.get("k") == b"record"
    assert blob(tier, "d") == b"blob"
    assert tier.failures == 0


def test_a_tier_that_could_not_be_opened_is_not_there() -> None:
    tier = Tier("local", None)
    assert tier.get("k") is None
    assert blob(tier, "d") is None
    assert put(tier) == "tier-down"


def test_a_tier_that_could_not_be_opened_is_tried_again(store: FailingStore, clock: Clock) -> None:
    tried: list[float] = []

    def reopen() -> FailingStore:
        tried.append(clock.now)
        if len(tried) < 3:
            raise StoreError("no room yet")
        return store

    tier = Tier("local", None, reopen=reopen, clock=clock)
    for _ in range(3):
        clock.now += REST / 2
        assert put(tier) == "tier-down"
        assert put(tier) == "tier-down"
        assert tier.get("k") is None  # a look-up opens nothing: its caller waits for it
    assert tried == [1000 + REST]
    clock.now += REST / 2
    assert put(tier) == "tier-down"
    clock.now += REST
    assert put(tier) is None
    assert tier.get("k") == b"record"
    clock.now += REST
    assert put(tier) is None
    assert len(tried) == 3


def test_a_closed_tier_is_not_opened_again(store: FailingStore, clock: Clock) -> None:
    tier = Tier("local", None, reopen=lambda: store, clock=clock)
    tier.close()
    clock.now += REST
    assert put(tier) == "tier-down"
    assert store.asked == []


def test_a_tier_closed_while_it_opens_lets_go_of_the_store(clock: Clock) -> None:
    closed: list[bool] = []
    tier: Tier

    class Closable(FailingStore):
        def close(self) -> None:
            closed.append(True)

    def reopen() -> FailingStore:
        tier.close()
        return Closable()

    tier = Tier("local", None, reopen=reopen, clock=clock)
    clock.now += REST
    assert put(tier) == "tier-down"
    assert closed == [True]
    assert tier.store is None


@pytest.mark.parametrize(
    "error",
    [
        lambda: StoreError("down"),
        lambda: OSError(5, "Input/output error"),
        lambda: MemoryError(),
        lambda: RecursionError(),
        lambda: ValueError("a fault of the store's own"),
    ],
)
def test_no_exception_of_a_store_gets_out(error: Callable[[], BaseException], tier: Tier, store: FailingStore) -> None:
    store.error = error
    assert tier.get("k") is None
    assert blob(tier, "d") is None
    assert put(tier) == "tier-down"
    assert tier.failures == 3


def test_an_interrupt_gets_out(tier: Tier, store: FailingStore) -> None:
    store.error = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        tier.get("k")


def test_the_breaker_opens_rests_and_closes_again(tier: Tier, store: FailingStore, clock: Clock) -> None:
    store.error = lambda: StoreError("down")
    for _ in range(TRIES + 5):
        assert tier.get("k") is None
    assert len(store.asked) == TRIES
    assert tier.failures == TRIES

    clock.now += REST - 0.001
    tier.get("k")
    assert len(store.asked) == TRIES

    clock.now += 0.001  # one call tries, fails, and the rest begins anew
    for _ in range(3):
        tier.get("k")
    assert len(store.asked) == TRIES + 1

    store.error = None
    clock.now += REST
    assert tier.get("k") is None
    for _ in range(3):
        tier.get("k")
    assert len(store.asked) == TRIES + 5

    # Closed for good: it takes as many failures as at first to open it again.
    store.error = lambda: StoreError("down")
    for _ in range(TRIES + 5):
        tier.get("k")
    assert len(store.asked) == 2 * TRIES + 5


def test_failures_that_do_not_follow_one_another_open_nothing(tier: Tier, store: FailingStore) -> None:
    for _ in range(TRIES * 3):
        store.error = lambda: StoreError("down")
        tier.get("k")
        store.error = None
        tier.get("k")
    assert len(store.asked) == TRIES * 6


def test_after_the_rest_only_one_call_tries(clock: Clock) -> None:
    """Many callers wait for nothing when a tier hangs: after each rest one of them finds out."""
    entered, go_on = threading.Semaphore(0), threading.Event()

    class HangingStore(FailingStore):
        def get(self, key: str) -> bytes | None:
            if self.error is None:
                entered.release()
                go_on.wait(10)
            return super().get(key)

    store = HangingStore()
    tier = Tier("local", store, clock=clock)
    store.error = lambda: StoreError("down")
    for _ in range(TRIES):
        tier.get("k")
    store.error = None
    clock.now += REST
    trying = threading.Thread(target=tier.get, args=("k",))
    trying.start()
    assert entered.acquire(timeout=10)
    assert tier.get("k") is None  # returns at once, though the other call hangs
    assert len(store.asked) == TRIES
    go_on.set()
    trying.join()
    tier.get("k")
    assert len(store.asked) == TRIES + 2


def test_a_trial_that_never_comes_back_does_not_keep_the_tier_away(clock: Clock, store: FailingStore) -> None:
    tier = Tier("local", store, clock=clock)
    store.error = lambda: StoreError("down")
    for _ in range(TRIES):
        tier.get("k")
    store.error = KeyboardInterrupt  # the trial ends without a verdict
    clock.now += REST
    with pytest.raises(KeyboardInterrupt):
        tier.get("k")
    store.error = None
    clock.now += REST
    tier.get("k")
    tier.get("k")
    assert len(store.asked) == TRIES + 3


def test_reads_go_on_when_writes_fail(tier: Tier, store: FailingStore) -> None:
    put(tier)
    store.error, store.only = (lambda: OSError(30, "Read-only file system")), "put"
    for _ in range(TRIES + 3):
        assert put(tier, "other") == "tier-down"
    assert store.asked.count("put") == 1 + TRIES
    assert tier.get("k") == b"record"


def test_writes_go_on_when_reads_fail(tier: Tier, store: FailingStore) -> None:
    store.error, store.only = (lambda: StoreError("down")), "get"
    for _ in range(TRIES + 3):
        assert tier.get("k") is None
    assert put(tier) is None


def test_no_room_is_no_failure(tier: Tier, store: FailingStore, caplog: pytest.LogCaptureFixture) -> None:
    store.error, store.only = (lambda: NoRoom("too large")), "put"
    with caplog.at_level(logging.WARNING, "cachelayer"):
        for _ in range(TRIES + 3):
            assert put(tier) == "no-room"
    assert store.asked.count("put") == TRIES + 3  # a smaller answer may fit, so each is tried
    assert tier.failures == 0
    assert len(caplog.records) == 1


def test_each_kind_of_failure_is_warned_of_once(
    tier: Tier, store: FailingStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "cachelayer"):
        for error in (StoreError, OSError, StoreError, OSError):
            store.error = lambda error=error: error("gone")
            for _ in range(TRIES):
                tier.get("k")
                put(tier)
            clock.now += REST
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 4  # reading and writing, two kinds each
    assert len(set(messages)) == 4
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    assert sum("cannot read (StoreError: gone)" in message for message in messages) == 1


def test_threads_lose_no_failure(clock: Clock, store: FailingStore) -> None:
    store.error = lambda: StoreError("down")
    tier = Tier("local", store, clock=clock)
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        for _ in range(50):
            tier.get("k")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert TRIES <= len(store.asked) <= TRIES + 7  # those that were on their way when it opened
    assert tier.failures == len(store.asked)
