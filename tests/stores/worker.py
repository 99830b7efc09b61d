"""Samples to store, and the processes that the tests start and kill: python worker.py MODE FOLDER LIMIT SEED."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import xxhash
from blake3 import blake3

from cachelayer.core.entry import BlobRef, Entry, Text, decode, encode, read_body
from cachelayer.core.errors import NoRoom, StoreError
from cachelayer.core.model import Cost
from cachelayer.stores.base import Given, Parcel, Store
from cachelayer.stores.local import LocalStore, open_local


@dataclass(frozen=True)
class Sample:
    key: str
    record: bytes
    blobs: dict[str, bytes]
    body: bytes

    @property
    def size(self) -> int:
        """Bytes of the record and the blobs."""
        return len(self.record) + sum(map(len, self.blobs.values()))

    @property
    def parcel(self) -> Parcel:
        """What is put."""
        return Parcel(self.key, self.record, Given(self.blobs, b'{"of":"%s"}' % self.key.encode()))

    def put(self, store: Store, *, expires: float | None = None) -> None:
        put(store, self, canonical=b'{"of":"%s"}' % self.key.encode(), expires=expires)


def sample(name: object, *blobs: bytes, text: bytes = b"text") -> Sample:
    """A whole entry, as core makes them, under a key derived from its name."""
    key = blake3(repr(name).encode()).hexdigest()
    template: list[Text | BlobRef] = [Text(text)]
    for data in blobs:
        digest, xxh3 = blake3(data).hexdigest(), xxhash.xxh3_64_intdigest(data)
        template.append(BlobRef(digest, len(data), xxh3, False, "image/png", True))
    entry = Entry(
        key=key,
        spec=1,
        namespace="default",
        created=1.0,
        expires=None,
        status=200,
        headers=(),
        template=tuple(template),
        cost=Cost(Decimal("0.04"), "exact", "test"),
        latency=1.0,
        operation="image",
        model="m",
        host="h",
        images=len(blobs),
    )
    return Sample(key, encode(entry), {blake3(data).hexdigest(): data for data in blobs}, text + b"".join(blobs))


def drawn(rng: random.Random, names: int = 12) -> Sample:
    """One of few samples whose blobs overlap, so that writers meet."""
    number = rng.randrange(names)
    blobs = [bytes([n]) * (1000 + 3000 * n) for n in {number % 5, number % 3 + 5}]
    return sample(number, *blobs, text=bytes(100 * number))


def put(store: Store, one: Sample, *, canonical: bytes = b"", expires: float | None = None) -> None:
    """Put an entry, over whatever is there."""
    parcel = Parcel(one.key, one.record, Given(one.blobs, canonical))
    version: bytes | None = None
    while not store.put(parcel, expires=expires, replace=version):  # others may put the same meanwhile
        there = store.fetch(one.key)
        version = None if there is None else there.version


def get(store: Store, key: str) -> bytes | None:
    """The record under a key."""
    found = store.fetch(key)
    return found.record if isinstance(found, Parcel) else None


def whole(store: Store, key: str) -> bytes | None:
    """The body under a key, None when there is no entry. Raises Broken when its record or a blob is not whole."""
    found = store.fetch(key)
    return read_body(decode(found.record), found.contents.pour) if isinstance(found, Parcel) else None


def keys(store: Store) -> list[str]:
    """The keys of all entries, newest first."""
    return [head.key for head in store.heads()]


def blob(store: LocalStore, digest: str) -> bytes | None:
    """The bytes of a blob, whichever entry it belongs to."""
    return store._contents.blob(digest)


def canonical(store: Store, key: str) -> bytes | None:
    """The canonical request of an entry."""
    found = store.fetch(key)
    return found.contents.canonical() if isinstance(found, Parcel) else None


def delete(store: Store, key: str) -> bool:
    """Whether there was an entry to delete."""
    return store.delete([key]) == 1


def churn(folder: Path, limit: int, seed: int) -> None:
    """Put and delete for ever; a line for each."""
    rng = random.Random(seed)
    store = open_local(folder, size_limit=limit)
    while True:
        chosen = drawn(rng)
        if rng.random() < 0.2:
            store.delete([chosen.key])
        else:
            try:
                chosen.put(store)
            except NoRoom:
                # The soak stops us all, for ten seconds where it waits for one of SQLite's locks that one of us holds:
                # as long as a put waits for room. Room that was lost would be missing the second time too.
                chosen.put(store)
        print(chosen.key, flush=True)


def press(folder: Path, limit: int, seed: int) -> None:
    """Put new entries of every size for ever, far more than fit; a line for each."""
    rng = random.Random(seed)
    store = open_local(folder, size_limit=limit)
    number = 0
    while True:
        number += 1
        blobs = [rng.randbytes(rng.randrange(1000, limit // 20)) for _ in range(rng.choice([0, 0, 0, 0, 0, 0, 1, 2]))]
        one = sample((seed, number), *blobs, text=rng.randbytes(rng.randrange(10, 14_000)))
        canonical = rng.randbytes(rng.choice([100, 1000, 1000, 3000, limit // 50]))
        put(store, one, canonical=canonical)
        print(one.key, flush=True)


def collect(folder: Path, limit: int, seed: int) -> None:
    """Clean up for ever; a line for each round."""
    store = open_local(folder, size_limit=limit)
    while True:
        store.maintain()
        print("round", flush=True)


def fill(folder: Path, limit: int, seed: int) -> None:
    """Put 60 entries of one's own and 60 that every seed has, then say how many are whole and end."""
    store = open_local(folder, size_limit=limit)
    samples = [sample((seed, n), b"%d" % seed * 50, text=b"%d" % n) for n in range(60)]
    samples += [sample(n, b"shared" * n + b".", text=b"") for n in range(60)]
    for one in samples:
        one.put(store)
    print(sum(whole(store, one.key) == one.body for one in samples), flush=True)
    store.close()


def read_only(folder: Path, limit: int, seed: int) -> None:
    """As nobody, who may read the folder: what is there, and whether a put is refused."""
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    store = open_local(folder, size_limit=limit)
    print(sum(whole(store, key) is not None for key in keys(store)))
    try:
        sample("new").put(store)
    except StoreError as error:
        print(type(error).__name__)
    store.close()


def small_files(folder: Path, limit: int, seed: int) -> None:
    """With files limited to 300 kB by the kernel: a large blob fails with EFBIG, small ones go on."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = open_local(folder, size_limit=limit)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    for name, blobs in (("large", [b"a" * 200_000, b"b" * 400_000]), ("small", [b"a" * 200_000])):
        try:
            sample(name, *blobs).put(store)
            print("stored")
        except StoreError as error:
            print(type(error).__name__)
    print(store.sizes()[2])
    store.close()


def take_room(folder: Path, limit: int, seed: int) -> None:
    """Stop in the middle of a put: room reserved, one blob in place, one under its temporary name. Then fork, so that
    a child outlives the writer, and wait to be killed."""
    store = open_local(folder, size_limit=limit)
    assert store._opened is not None
    space = store._opened.space
    assert space is not None
    placed, unfinished = sample("placed", b"p" * 50_000), b"u" * 50_000
    (digest,) = placed.blobs
    space.reserve(100, 100, {digest: 50_000, "ab" * 32: 50_000})
    store._files.write(digest, placed.blobs[digest], space.writer.name())
    (folder / "incoming" / space.writer.name()).write_bytes(unfinished)
    child = os.fork()
    if child:
        print(child, flush=True)
    signal.pause()


def forks(folder: Path, limit: int, seed: int) -> None:
    """Threads read and write; meanwhile children are forked that read and write what the parent has open."""
    store = open_local(folder, size_limit=limit)
    samples = [sample(n, b"%d" % n * 1000) for n in range(20)]
    for one in samples:
        one.put(store)
    over = threading.Event()

    def hammer() -> None:
        while not over.is_set():
            for one in samples:
                assert whole(store, one.key) == one.body
            samples[0].put(store)

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    children = []
    for number in range(8):
        child = os.fork()
        if child == 0:
            good = all(whole(store, one.key) == one.body for one in samples)
            mine = sample(("child", number), b"child%d" % number * 1000)
            mine.put(store)
            good = good and whole(store, mine.key) == mine.body
            store.close()
            os._exit(0 if good else 1)
        children.append(child)
    codes = [os.waitpid(child, 0)[1] for child in children]
    over.set()
    for thread in threads:
        thread.join()
    put(store, samples[0])
    print(sum(codes), store.sizes()[0], dict(store.problems), flush=True)
    store.close()


MODES: dict[str, Callable[[Path, int, int], None]] = {
    mode.__name__: mode for mode in (churn, collect, fill, forks, press, read_only, small_files, take_room)
}

if __name__ == "__main__":
    MODES[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
