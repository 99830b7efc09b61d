"""Reference images that a JSON edit holds itself: data: URLs, bare base64, ``b64_json``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cachelayer.core.model import Request
from cachelayer.dialects.wire.signature import is_image
from tests.dialects.asks import EDIT, GENERATE, asked, b64, data_url, key, request

KINDS = {
    "PNG": b"\x89PNG\r\n\x1a\n" + b"\xfb" * 60,
    "JPEG": b"\xff\xd8\xff\xe0" + b"\xfb" * 60,
    "WebP": b"RIFF\x40\0\0\0WEBPVP8 " + b"\xfb" * 60,
    "GIF": b"GIF89a" + b"\xfb" * 60,
    "AVIF": b"\0\0\0\x20ftypavif" + b"\xfb" * 60,
    "HEIC": b"\0\0\0\x20ftypheic" + b"\xfb" * 60,
    "BMP": b"BM\x52\0\0\0" + b"\0" * 8 + b"\x28\0\0\0" + b"\xfb" * 64,
    "TIFF": b"II*\0" + b"\xfb" * 60,
    "TIFF, big-endian": b"MM\0*" + b"\xfb" * 60,
    "SVG": b'<?xml version="1.0"?>\n<!-- a hat -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
}
NONE = {
    "text": b"an id of some length, or a page: <html>",
    "BM alone": b"BMW of the year",
    "RIFF of sound": b"RIFF\x40\0\0\0WAVEfmt " + b"\0" * 60,
    "video": b"\0\0\0\x20ftypisom" + b"\0" * 60,
    "half a signature": b"\x89PNG",
    "svg inside": b"<html><svg></svg></html>",
}
PNG, OTHER = KINDS["PNG"], KINDS["PNG"] + b"\xff"


def edit(**fields: Any) -> Any:
    return request(EDIT, {"model": "m", "prompt": "p", **fields})


PLACES: dict[str, Callable[[str], Request]] = {
    "image": lambda text: edit(image=text),
    "in a list": lambda text: edit(images=[text]),
    "image_url": lambda text: edit(images=[{"image_url": text}]),
    "url": lambda text: edit(images=[{"type": "image_url", "url": text}]),
    "b64_json": lambda text: edit(images=[{"b64_json": text}]),
    "nested": lambda text: edit(images=[{"image_url": {"url": text}}]),
    "mask": lambda text: edit(image=data_url(PNG), mask={"b64_json": text}),
    "a generation's image": lambda text: request(GENERATE, {"prompt": "p", "image": text}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_known_images_are_told(kind: str) -> None:
    assert is_image(KINDS[kind], len(KINDS[kind]))


@pytest.mark.parametrize("kind", NONE)
def test_what_is_none_is_not_taken_for_one(kind: str) -> None:
    assert not is_image(NONE[kind], len(NONE[kind]))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("large", [False, True])
def test_base64_of_a_known_image_is_content(place: str, large: bool) -> None:
    more = b"\xfb" * 6_000 if large else b""
    build = PLACES[place]
    first, second = build(b64(PNG + more)), build(b64(OTHER + more))
    assert asked(first).never_cached is None
    assert key(first) != key(second)
    # Its bytes count, not their spelling.
    respelled = b64(PNG + more).replace("+", "-").replace("/", "_").rstrip("=")
    assert key(build(respelled)) == key(first)
    if large:
        padded = request(first.url, first.body + b" " * 100_000)
        assert asked(padded) == asked(first)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "text", ["asset-17", b64(b"an id"), b64(NONE["BM alone"]), b64(PNG) + "\n", "", "!" + b64(PNG)]
)
def test_what_may_be_an_id_is_not(place: str, text: str) -> None:
    assert asked(PLACES[place](text)).never_cached == "reference-unknown"


def test_the_places_are_told_apart() -> None:
    keys = {key(build(b64(PNG))) for build in PLACES.values()}
    assert len(keys) == len(PLACES)
    assert key(edit(images=[b64(PNG)])) != key(edit(images=[data_url(PNG)]))


@pytest.mark.parametrize(
    "image",
    [
        {"image_url": "asset-17", "b64_json": b64(PNG)},
        {"url": "asset-17", "image_url": data_url(PNG)},
        {"b64_json": b64(PNG), "file_id": "file-1"},
        {"b64_json": {"url": "https://h/x"}},
    ],
)
def test_an_image_that_says_two_things_is_not_known(image: Any) -> None:
    assert asked(edit(images=[image])).never_cached == "reference-unknown"
