"""What a part of a form is: a filename makes it a file, a type alone does not, and which it is counts."""

from __future__ import annotations

import itertools

import pytest

from cachelayer.core.canon import fields
from cachelayer.core.model import Request
from tests.dialects.asks import EDIT, asked, b64, data_url, field, file, form, form_body, key, request

PNG, OTHER = b"\x89PNG\r\n\x1a\n \xff one", b"\x89PNG\r\n\x1a\n \xff two"


def edit(*parts: bytes) -> Request:
    """A form of a prompt, an image and these parts, each a head and its data."""
    whole = form_body(field("prompt", "p"), file("image", PNG), boundary="b")
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts)
    return Request("POST", EDIT, {"content-type": "multipart/form-data; boundary=b"}, body + whole)


def part(name: str, data: bytes, *parameters: str, mime: str | None = None) -> bytes:
    head = "; ".join([f'Content-Disposition: form-data; name="{name}"', *parameters])
    return (head + ("" if mime is None else f"\r\nContent-Type: {mime}") + "\r\n\r\n").encode() + data


@pytest.mark.parametrize("name", ["mask", "image", "image[]", "markup", "x"])
@pytest.mark.parametrize("mime", [None, "image/png", "application/octet-stream", "text/plain"])
def test_the_same_bytes_as_a_file_as_a_field_and_as_neither(name: str, mime: str | None) -> None:
    """Common servers edit WITHOUT the mask of a part that has a type and no filename."""
    keys = [
        key(edit(part(name, OTHER, mime=mime))),
        key(edit(part(name, OTHER, 'filename="a.png"', mime=mime))),
        key(edit(part(name, OTHER, 'filename=""', mime=mime))),
        key(edit()),
    ]
    assert len(set(keys)) == len(keys)


def test_a_type_counts_whether_file_or_field() -> None:
    for parameters in ((), ('filename="a"',), ('filename=""',)):
        mimes = [None, "image/png", "image/webp", "text/plain; charset=latin-1"]
        keys = {key(edit(part("mask", OTHER, *parameters, mime=mime))) for mime in mimes}
        assert len(keys) == len(mimes)


@pytest.mark.parametrize(
    "parameter",
    ['filename="b.jpg"', "filename=b", "filename*=UTF-8''%C3%A9.png", "filename*=utf-8'de'x", "filename=\"it's'\""],
)
def test_a_filenames_text_does_not_count(parameter: str) -> None:
    """``filename*`` alone is a filename too."""
    plain = edit(part("mask", OTHER, 'filename="a.png"', mime="image/png"))
    assert key(edit(part("mask", OTHER, parameter, mime="image/png"))) == key(plain)
    assert asked(plain).references == 2
    assert asked(plain).never_cached is None


@pytest.mark.parametrize(
    "parameter", ['filename=""', 'filename=" "', 'filename="."', 'filename=".."', 'filename="a/"', "filename*=UTF-8''",
                  "filename=\"a\"; filename*=UTF-8''"]
)  # fmt: skip
def test_a_filename_that_names_nothing_is_neither(parameter: str) -> None:
    odd = key(edit(part("mask", OTHER, parameter, mime="image/png")))
    assert odd == key(edit(part("mask", OTHER, 'filename=""', mime="image/png")))
    assert odd != key(edit(part("mask", OTHER, 'filename="a.png"', mime="image/png")))


def test_an_image_that_came_as_text_is_no_file() -> None:
    """Nor what JSON says with the same text."""
    text = data_url(PNG)
    parts = [
        form(field("prompt", "p"), file("image", PNG)),
        form(field("prompt", "p"), field("image", text)),
        form(field("prompt", "p"), field("image[]", text)),
        form(field("prompt", "p"), field("image", b64(PNG))),
    ]
    assert len({key(one) for one in parts}) == len(parts)
    json = request(EDIT, {"prompt": "p", "images": [text]})
    assert key(json) == key(parts[0])
    assert [asked(one).never_cached for one in parts] == [None] * 4


def test_several_parts_of_one_name_keep_what_each_is() -> None:
    kinds = [part("image[]", OTHER, mime="image/png"), part("image[]", OTHER, 'filename="a"', mime="image/png")]
    pairs = list(itertools.product(kinds, repeat=2))
    keys = {key(edit(*pair)) for pair in pairs}
    assert len(keys) == len(pairs)


def test_two_images_of_which_one_is_a_field_are_not_a_list_of_files() -> None:
    both = form(field("prompt", "p"), file("image[]", PNG), file("image[]", OTHER))
    one = form(field("prompt", "p"), file("image[]", PNG), ("image[]", OTHER, None, "image/png"))
    assert key(both) != key(one)
    assert set(fields(asked(one))["body"]) == {"prompt", "image[]"}


@pytest.mark.parametrize(
    ("parts", "refusal"),
    [
        (
            [part("mask", b"file-17", mime="image/png")],
            "reference-unknown",
        ),  # text may be an id, whatever its type says
        ([part("mask", b"file-17", 'filename=""')], "reference-unknown"),
        ([part("mask", b"file-17")], "reference-unknown"),
        ([part("image[]", b"file-17")], "reference-unknown"),
        ([part("mask", b"https://h/x", mime="text/uri-list")], "reference-unknown"),
        ([part("x", b"https://h/x", mime="text/uri-list")], "reference-unknown"),
        ([part("file_id", b"17", mime="text/csv")], "reference-unknown"),
        ([part("file_id", b"17"), part("file_id", b"18")], "reference-unknown"),
        ([part("mask", OTHER, mime="image/png")], None),
        ([part("mask", b"file-17", 'filename="a"')], None),
        ([part("mask", data_url(OTHER).encode())], None),
        ([part("mask", b64(OTHER).encode())], None),
    ],
)
def test_what_holds_its_content(parts: list[bytes], refusal: str | None) -> None:
    assert asked(edit(*parts)).never_cached == refusal


@pytest.mark.parametrize("text", ["text/plain", "Text/Plain; charset=UTF-8"])
def test_plain_text_spelled_out_is_text(text: str) -> None:
    assert key(edit(part("n", b"2", mime=text))) == key(edit(part("n", b"2")))
    assert asked(edit(part("n", b"2", mime=text))).count == 2


def test_an_integer_in_a_file_is_none() -> None:
    assert asked(edit(part("n", b"2", 'filename="a"'))).count == 1
    assert asked(edit(part("n", b"2", mime="application/json"))).count == 1


def test_only_spaces_and_tabs_around_a_parts_type_do_not_count() -> None:
    plain = key(edit(part("mask", OTHER, 'filename="a"', mime="image/png")))
    assert key(edit(part("mask", OTHER, 'filename="a"', mime=" image/png\t"))) == plain
    assert key(edit(part("mask", OTHER, 'filename="a"', mime="image/png\u00a0"))) != plain


@pytest.mark.parametrize(
    "parameter",
    [
        "filename*=UTF-8''%2E%2E",
        "filename*=UTF-8''%2F",
        "filename*=UTF-8''dir%2F",
        "filename*=UTF-8''%20",
        'filename="%2e"',
        'filename="&#46;&#46;"',
        'filename="dir/"',
    ],
)
def test_a_name_of_nothing_in_any_spelling_makes_neither_file_nor_field(parameter: str) -> None:
    keys = [
        key(edit(part("mask", OTHER, *parameters, mime="image/png")))
        for parameters in ((), (parameter,), ('filename="m.png"',))
    ]
    assert len(set(keys)) == 3
