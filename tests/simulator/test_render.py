"""Pictures are of the asked size and format, carry visible text, and depend on what they say they depend on."""

import io
import struct
import subprocess
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cachelayer.simulator.render import render


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("format_", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("size", [(1024, 1024), (1376, 768), (672, 1584), (4096, 4096), (16, 16)])
def test_exactly_the_asked_size_in_the_asked_format(format_: str, size: tuple[int, int]) -> None:
    picture = render("a red fox in the snow", *size, format_)
    image = decoded(picture.data)
    assert (image.size, image.format) == (size, format_.upper())
    assert picture.mime == f"image/{format_}"


@pytest.mark.parametrize("prompt", ["a red fox", "word " * 400, "x" * 5000])
def test_the_text_is_visible(prompt: str) -> None:
    image = decoded(render(prompt, 1024, 1024, "png").data).convert("L").crop((0, 0, 1024, 820))
    background = image.getpixel((0, 0))
    assert background is not None
    assert not isinstance(background, tuple)
    drawn = sum(count for value, count in enumerate(image.histogram()) if abs(value - background) > 60)
    assert drawn > 5_000


def test_the_picture_of_a_long_prompt_keeps_its_margins() -> None:
    image = decoded(render("many words that wrap " * 60, 1024, 1024, "png").data)
    background = image.getpixel((0, 0))
    assert image.crop((1000, 0, 1024, 1000)).getcolors() == [(24 * 1000, background)]


def test_large_enough_to_be_kept_as_a_blob() -> None:
    for format_ in ("png", "jpeg", "webp"):
        assert len(render("a red fox", 1024, 1024, format_).data) > 16_384


def test_every_argument_changes_the_bytes() -> None:
    pictures = [
        render("a", 256, 256, "png"),
        render("b", 256, 256, "png"),
        render("a", 256, 272, "png"),
        render("a", 256, 256, "webp"),
        render("a", 256, 256, "png", seed=1),
        render("a", 256, 256, "png", index=1),
        render("a", 256, 256, "png", references=1),
        render("a", 256, 256, "png", transparent=True),
    ]
    assert len({picture.data for picture in pictures}) == len(pictures)


def test_the_same_bytes_without_the_memory_of_the_last_ones() -> None:
    first = render("again", 512, 512, "jpeg").data
    render.cache_clear()
    assert render("again", 512, 512, "jpeg").data == first


def test_transparent_where_the_format_can() -> None:
    corner = decoded(render("a", 256, 256, "png", transparent=True).data).getpixel((0, 0))
    assert isinstance(corner, tuple)
    assert corner[3] == 0
    assert decoded(render("a", 256, 256, "webp", transparent=True).data).mode == "RGBA"
    assert decoded(render("a", 256, 256, "jpeg", transparent=True).data).mode == "RGB"


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=200), st.integers(16, 300), st.integers(16, 300))
def test_any_prompt_renders(prompt: str, width: int, height: int) -> None:
    assert decoded(render(prompt, width, height, "png").data).size == (width, height)


WITHOUT_PILLOW = """
import sys
sys.modules["PIL"] = None
from cachelayer.simulator.render import render
picture = render("a red fox: \\u72d0", 1376, 768, "jpeg")
assert picture.format == "png"
sys.stdout.buffer.write(picture.data)
"""


def test_a_png_of_the_asked_size_without_pillow() -> None:
    data = subprocess.run([sys.executable, "-c", WITHOUT_PILLOW], check=True, capture_output=True).stdout
    image = decoded(data)
    assert (image.size, image.format) == ((1376, 768), "PNG")
    assert image.info["Description"] == "a red fox: 狐"
    position, checked = 8, 0
    while position < len(data):  # Pillow forgives wrong checksums in some chunks; we do not
        length, kind = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", data, position + 8 + length)[0] == zlib.crc32(kind + content)
        position, checked = position + 12 + length, checked + 1
    assert checked == 4


def test_importing_the_simulator_imports_neither_pillow_nor_the_sdks() -> None:
    code = "import sys, cachelayer.simulator; print(*{'PIL', 'openai', 'google.genai', 'httpx'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.split() == []
