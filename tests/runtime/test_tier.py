"""A tier may fail in every way there is; the runtime sees "not there", one warning per kind, and a breaker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from cachelayer.core.entry import Take
from cachelayer.core.errors import NoRoom, StoreError
from cachelayer.runtime.tier import Tier
from cachelayer.stores.base import Contents, Evicted, Given, Head, Parcel, Sizes
from cachelayer.stores.layers import REST, TRIES


class FailingStore:
    """A whole store in memory that fails with what it is told to."""

    def __init__(self) -> None:
        self.error: Callable[[], BaseException] | None = None
        self.only: str | None = None
        """Only this method fails."""
        self.asked: list[str] = []
        self._kept: dict[str, Parcel] = {}

    def _ask(self, name: str) -> None:
        self.asked.append(name)
        if self.error is not None and self.only in (None, name):
            raise self.error()

    def fetch(self, key: str) -> Parcel | None:
        self._ask("fetch")
        found = self._kept.get(key)
        return None if found is None else found._replace(contents=FailingContents(self, found.contents))

    def put(self, parcel: Parcel, *, expires: float | None = None, replace: bytes | None = None) -> bool:
        self._ask("put")
        if parcel.key in self._kept and replace != self._kept[parcel.key].record:
            return False
        self._kept[parcel.key] = parcel
        return True

    def delete(self, keys: Iterable[str]) -> int:
        return sum(self._kept.pop(key, None) is not None for key in keys)

    def heads(self, prefix: str = "") -> Iterator[Head]:
        return iter([Head(key, 0.0, 0.0, None, 0) for key in self._kept])

    def sizes(self) -> Sizes:
        return Sizes(len(self._kept))

    def take_evicted(self) -> Evicted:
        return Evicted()

    def close(self) -> None:
        pass


class FailingContents:
    def __init__(self, store: FailingStore, contents: Contents) -> None:
        self._store, self._contents = store, contents

    def pour(self, digest: str, buffer: memoryview, take: Take) -> bool:
        self._store._ask("pour")
        return self._contents.pour(digest, buffer, take)

    def blob(self, digest: str) -> bytes | None:
        self._store._ask("blob")
        return self._contents.blob(digest)

    def canonical(self) -> bytes | None:
        self._store._ask("canonical")
        return self._contents.canonical()


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


PARCEL = Parcel("k", b"record", Given({"d": b"blob"}, b"{}"))


def get(tier: Tier, key: str = "k") -> bytes | None:
    found = tier.fetch(key)
    return found.record if isinstance(found, Parcel) else None


def found_in(tier: Tier) -> Parcel:
    found = tier.fetch("k")
    assert isinstance(found, Parcel)
    return found


def put(tier: Tier, key: str = "k") -> bool | str:
    return tier.put(PARCEL._replace(key=key))


def test_what_a_working_store_says_is_handed_on(tier: Tier) -> None:
    assert get(tier) is None
    assert put(tier) is True
    assert get(tier) == b"record"
    contents = found_in(tier).contents
    pieces: list[bytes] = []

    def take(piece: memoryview) -> bool:
        pieces.append(bytes(piece))
        return True

    assert contents.pour("d", memoryview(bytearray(3)), take)
    assert pieces == [b"blo", b"b"]
    assert contents.pour("other", memoryview(bytearray(3)), lambda piece: True) is False
    assert (contents.blob("d"), contents.canonical()) == (b"blob", b"{}")
    assert tier.failures == 0


def test_a_tier_that_could_not_be_opened_is_not_there() -> None:
    tier = Tier("local", None)
    assert get(tier) is None
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
        assert get(tier) is None  # a look-up opens nothing: its caller waits for it
    assert tried == [1000 + REST]
    clock.now += REST / 2
    assert put(tier) == "tier-down"
    clock.now += REST
    assert put(tier) is True
    assert get(tier) == b"record"
    clock.now += REST
    assert put(tier, "other") is True
    assert put(tier, "other") is False  # another entry is there
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
    put(tier)
    contents = found_in(tier).contents
    store.error = error
    assert get(tier) is None
    assert contents.pour("d", memoryview(bytearray(3)), lambda piece: True) is False
    assert put(tier, "other") == "tier-down"
    assert tier.failures == 3


def test_an_interrupt_gets_out(tier: Tier, store: FailingStore) -> None:
    store.error = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        get(tier)


def test_the_breaker_opens_rests_and_closes_again(tier: Tier, store: FailingStore, clock: Clock) -> None:
    store.error = lambda: StoreError("down")
    for _ in range(TRIES + 5):
        assert get(tier) is None
    assert len(store.asked) == TRIES
    assert tier.failures == TRIES

    clock.now += REST - 0.001
    get(tier)
    assert len(store.asked) == TRIES

    clock.now += 0.001  # one call tries, fails, and the rest begins anew
    for _ in range(3):
        get(tier)
    assert len(store.asked) == TRIES + 1

    store.error = None
    clock.now += REST
    assert get(tier) is None
    for _ in range(3):
        get(tier)
    assert len(store.asked) == TRIES + 5

    # Closed for good: it takes as many failures as at first to open it again.
    store.error = lambda: StoreError("down")
    for _ in range(TRIES + 5):
        get(tier)
    assert len(store.asked) == 2 * TRIES + 5


def test_failures_that_do_not_follow_one_another_open_nothing(tier: Tier, store: FailingStore) -> None:
    for _ in range(TRIES * 3):
        store.error = lambda: StoreError("down")
        get(tier)
        store.error = None
        get(tier)
    assert len(store.asked) == TRIES * 6


def test_after_the_rest_only_one_call_tries(clock: Clock) -> None:
    """Many callers wait for nothing when a tier hangs: after each rest one of them finds out."""
    entered, go_on = threading.Semaphore(0), threading.Event()

    class HangingStore(FailingStore):
        def fetch(self, key: str) -> Parcel | None:
            if self.error is None:
                entered.release()
                go_on.wait(10)
            return super().fetch(key)

    store = HangingStore()
    tier = Tier("local", store, clock=clock)
    store.error = lambda: StoreError("down")
    for _ in range(TRIES):
        get(tier)
    store.error = None
    clock.now += REST
    trying = threading.Thread(target=get, args=(tier,))
    trying.start()
    assert entered.acquire(timeout=10)
    assert get(tier) is None  # returns at once, though the other call hangs
    assert len(store.asked) == TRIES
    go_on.set()
    trying.join()
    get(tier)
    assert len(store.asked) == TRIES + 2


def test_a_trial_that_never_comes_back_does_not_keep_the_tier_away(clock: Clock, store: FailingStore) -> None:
    tier = Tier("local", store, clock=clock)
    store.error = lambda: StoreError("down")
    for _ in range(TRIES):
        get(tier)
    store.error = KeyboardInterrupt  # the trial ends without a verdict
    clock.now += REST
    with pytest.raises(KeyboardInterrupt):
        get(tier)
    store.error = None
    clock.now += REST
    get(tier)
    get(tier)
    assert len(store.asked) == TRIES + 3


def test_reads_go_on_when_writes_fail(tier: Tier, store: FailingStore) -> None:
    put(tier)
    store.error, store.only = (lambda: OSError(30, "Read-only file system")), "put"
    for _ in range(TRIES + 3):
        assert put(tier, "other") == "tier-down"
    assert store.asked.count("put") == 1 + TRIES
    assert get(tier) == b"record"


def test_writes_go_on_when_reads_fail(tier: Tier, store: FailingStore) -> None:
    store.error, store.only = (lambda: StoreError("down")), "get"
    for _ in range(TRIES + 3):
        assert get(tier) is None
    assert put(tier) is True


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
                get(tier)
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
            get(tier)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert TRIES <= len(store.asked) <= TRIES + 7  # those that were on their way when it opened
    assert tier.failures == len(store.asked)
