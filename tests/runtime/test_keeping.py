"""What a flight finds under its key when it comes to store: nothing, a good entry, or one that serves nobody."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pybase64
import pytest
from PIL import Image

from cachelayer import Cache
from cachelayer.stores.base import Given, Parcel

URL = "https://api.openai.com/v1/images/generations"
BODY = {"model": "gpt-image-2", "prompt": "a lighthouse"}
"""Asked for in every test."""


def answer(note: str) -> bytes:
    """A good answer, with a blob, that can be told from others."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    image = pybase64.b64encode(out.getvalue() + note.encode() * 5000).decode()  # bytes behind the end are kept
    return json.dumps({"created": 1, "data": [{"b64_json": image}]}).encode()


def client(cache: Cache, note: str, meanwhile: Callable[[], object] = lambda: None) -> httpx.Client:
    """meanwhile: called while the provider works."""

    def provider(request: httpx.Request) -> httpx.Response:
        meanwhile()
        return httpx.Response(200, headers={"content-type": "application/json"}, content=answer(note))

    return cache.wrap(httpx.Client(transport=httpx.MockTransport(provider)))


@pytest.fixture
def theirs(tmp_path: Path) -> Parcel:
    """What another process makes of the same request."""
    with Cache(path=tmp_path / "theirs") as cache:
        client(cache, "theirs").post(URL, json=BODY)
        store = cache._engine.tier.store
        assert store is not None
        (head,) = store.heads()
        found = store.fetch(head.key)
        assert isinstance(found, Parcel)
        blobs = list((tmp_path / "theirs" / "blobs").rglob("?" * 64))
        contents = found.contents
        kept = {blob.name: contents.blob(blob.name) or b"" for blob in blobs}
        return Parcel(found.key, found.record, Given(kept, contents.canonical()))


def test_a_good_entry_of_another_process_stays(tmp_path: Path, theirs: Parcel) -> None:
    with Cache(path=tmp_path / "ours") as cache:
        store = cache._engine.tier.store
        assert store is not None
        mine = client(cache, "ours", lambda: store.put(theirs)).post(URL, json=BODY)
        assert mine.headers["x-cachelayer"] == "MISS"
        assert mine.content == answer("ours")
        cache.wait_idle(10)
        again = client(cache, "again").post(URL, json=BODY)
        assert again.headers["x-cachelayer"] == "HIT"
        assert again.content == answer("theirs")
        assert cache.stats().not_kept == 0
        assert store.sizes()[:2] == (1, 1)


def test_a_damaged_entry_is_replaced(tmp_path: Path, theirs: Parcel) -> None:
    with Cache(path=tmp_path / "ours") as cache:
        store = cache._engine.tier.store
        assert store is not None

        def put_and_damage() -> None:
            store.put(theirs)
            (blob,) = (tmp_path / "ours" / "blobs").rglob("?" * 64)
            blob.write_bytes(b"X" + blob.read_bytes()[1:])

        client(cache, "ours", put_and_damage).post(URL, json=BODY)
        cache.wait_idle(10)
        again = client(cache, "again").post(URL, json=BODY)
        assert again.headers["x-cachelayer"] == "HIT"
        assert again.content == answer("ours")
        assert store.sizes()[:2] == (1, 1)
