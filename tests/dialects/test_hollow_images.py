"""Files that are whole to the last box and hold no picture: no palette, no coded data, no size, data elsewhere. And
that nothing which an encoder writes is taken for one.
"""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from cachelayer.dialects.wire.containers import container_of
from tests.dialects.samples import SAMPLES, big_endian_tiff, box, chunk, made, picture, segment


def is_whole(data: bytes) -> bool:
    found = container_of(data)
    assert found is not None
    return found.is_whole


class TestPng:
    @staticmethod
    def png(*chunks: bytes, width: int = 1, height: int = 1, kind: bytes = b"\x08\0\0\0\0") -> bytes:
        header = chunk(b"IHDR", struct.pack(">II", width, height) + kind)
        return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND")

    PIXELS = chunk(b"IDAT", zlib.compress(b"\0\0"))
    PALETTE = chunk(b"PLTE", b"rgb")

    def test_colours_by_number_need_a_palette_before_them(self) -> None:
        by_number = b"\x08\x03\0\0\0"
        assert is_whole(self.png(self.PALETTE, self.PIXELS, kind=by_number))
        assert not is_whole(self.png(self.PIXELS, kind=by_number))
        assert not is_whole(self.png(self.PIXELS, self.PALETTE, kind=by_number))
        assert not is_whole(self.png(chunk(b"PLTE"), self.PIXELS, kind=by_number))
        assert not is_whole(self.png(chunk(b"PLTE", b"rg"), self.PIXELS, kind=by_number))

    @pytest.mark.parametrize(
        "kind", [b"\x08\x01\0\0\0", b"\x03\0\0\0\0", b"\x10\x03\0\0\0", b"\x08\0\1\0\0", b"\x08\0\0\0\2"]
    )
    def test_a_kind_that_there_is_not(self, kind: bytes) -> None:
        assert not is_whole(self.png(self.PALETTE, self.PIXELS, kind=kind))

    def test_fewer_bytes_than_any_packing_needs(self) -> None:
        side = 2_048
        packed = zlib.compress(bytes((side + 1) * side), 9)
        assert is_whole(self.png(chunk(b"IDAT", packed), width=side, height=side))
        assert not is_whole(self.png(chunk(b"IDAT", packed[:2_000]), width=side, height=side))

    @pytest.mark.parametrize(("width", "height"), [(0, 1), (1, 0)])
    def test_no_size(self, width: int, height: int) -> None:
        assert not is_whole(self.png(self.PIXELS, width=width, height=height))


class TestJpeg:
    @staticmethod
    def jpeg(
        *parts: bytes, height: int = 1, components: int = 1, kind: int = 0xC0, tables: bytes = segment(0xDB, bytes(65))
    ) -> bytes:
        head = struct.pack(">BHHB", 8, height, 1, components)
        frame = segment(kind, head + b"".join(bytes([number, 0x11, 0]) for number in range(1, components + 1)))
        return b"\xff\xd8" + tables + frame + b"".join(parts) + b"\xff\xd9"

    @staticmethod
    def scan(*components: int) -> bytes:
        numbers = b"".join(bytes([number, 0]) for number in components)
        return segment(0xDA, bytes([len(components)]) + numbers + b"\x00\x3f\x00")

    @pytest.mark.parametrize("coded", [b"", b"\xff", b"\xff\xff\xff", b"\xff\xd0", b"\xff\xd0\xff\xff\xd1\xff"])
    def test_an_empty_scan(self, coded: bytes) -> None:
        assert not is_whole(self.jpeg(self.scan(1), coded))
        assert is_whole(self.jpeg(self.scan(1), coded + b"\xff\x00"))
        assert is_whole(self.jpeg(self.scan(1), b"1" + coded))

    def test_a_height_that_nothing_tells(self) -> None:
        told, not_told = segment(0xDC, b"\x00\x01"), segment(0xDC, b"\x00\x00")
        assert is_whole(self.jpeg(self.scan(1), b"1", told, height=0))
        assert not is_whole(self.jpeg(self.scan(1), b"1", height=0))
        assert not is_whole(self.jpeg(self.scan(1), b"1", not_told, height=0))

    def test_no_tables(self) -> None:
        assert not is_whole(self.jpeg(self.scan(1), b"1", tables=b""))
        assert is_whole(self.jpeg(segment(0xDB, bytes(65)), self.scan(1), b"1", tables=b""))
        assert is_whole(self.jpeg(self.scan(1), b"1", tables=b"", kind=0xC3))

    def test_a_component_without_a_scan(self) -> None:
        assert is_whole(self.jpeg(self.scan(1, 2, 3), b"1", components=3))
        assert is_whole(self.jpeg(self.scan(1), b"1", self.scan(2, 3), b"2", components=3))
        assert not is_whole(self.jpeg(self.scan(1), b"1", self.scan(3), b"2", components=3))


class TestIsoMedia:
    @staticmethod
    def avif(offset: int, length: int = 10, *, size: tuple[int, int] = (1, 1)) -> bytes:
        sizes = box(b"iprp", box(b"ipco", box(b"pixi", bytes(4)) + box(b"ispe", bytes(4) + struct.pack(">II", *size))))
        located = b"\x01\0\0\0\x44\x00" + struct.pack(">HHHHHII", 1, 1, 0, 0, 1, offset, length)
        parts = box(b"pitm", bytes(4) + b"\x00\x01") + box(b"iloc", located) + sizes
        return box(b"ftyp", b"avif\0\0\0\0avifmif1") + box(b"meta", bytes(4) + parts) + box(b"mdat", bytes(10))

    def test_items_lie_in_the_media(self) -> None:
        start = len(self.avif(0)) - 10
        assert is_whole(self.avif(start))
        assert is_whole(self.avif(start, 0))
        assert is_whole(self.avif(start + 9, 0))
        for offset, length in ((0, 10), (start - 1, 10), (start - 1, 11), (start - 8, 0), (start + 1, 10)):
            assert not is_whole(self.avif(offset, length) + bytes(20))

    @pytest.mark.parametrize("size", [(0, 1), (1, 0)])
    def test_no_size(self, size: tuple[int, int]) -> None:
        start = len(self.avif(0)) - 10
        assert not is_whole(self.avif(start, size=size))


class TestTiff:
    """A picture of 4 x 4 in three colours, 48 bytes in one strip."""

    @staticmethod
    def changed(tag: int, value: int, *, to: int | None = None) -> bytes:
        """The value of a field, or its tag as well, in place of what stands there."""
        image = big_endian_tiff()
        at = next(at for kind in (3, 4) if (at := image.find(struct.pack(">HHI", tag, kind, 1))) != -1)
        kind = image[at + 3]
        entry = struct.pack(">HHI", to or tag, kind, 1) + struct.pack(">H" if kind == 3 else ">I", value).ljust(
            4, b"\0"
        )
        return image[:at] + entry + image[at + 12 :]

    def test_a_strip_that_is_too_short(self) -> None:
        assert is_whole(self.changed(279, 48))
        assert not is_whole(self.changed(279, 47))
        assert not is_whole(self.changed(257, 5))
        assert not is_whole(self.changed(256, 5))
        assert not is_whole(self.changed(258, 16))
        assert is_whole(self.changed(257, 3))

    def test_too_few_strips(self) -> None:
        assert is_whole(self.changed(262, 4, to=278))
        assert not is_whole(self.changed(262, 3, to=278))
        assert not is_whole(self.changed(262, 2, to=284))

    def test_colours_by_number_need_a_palette(self) -> None:
        assert not is_whole(self.changed(262, 3))

    @pytest.mark.parametrize("tag", [256, 257, 277])
    def test_no_size(self, tag: int) -> None:
        assert not is_whole(self.changed(tag, 0))
        if tag != 277:
            assert not is_whole(self.changed(tag, 4, to=65_000))

    def test_tiles(self) -> None:
        fields = {256: 20, 257: 20, 258: 8, 259: 1, 277: 1, 322: 16, 323: 16}
        offsets = [8 + 256 * number for number in range(4)]

        def tiled(counts: list[int], **changed: int) -> bytes:
            at = 8 + 1_024
            several = struct.pack(f">{len(counts)}I", *offsets[: len(counts)]) + struct.pack(
                f">{len(counts)}I", *counts
            )
            entries = [(tag, 3, 1, changed.get(f"_{tag}", value) << 16) for tag, value in fields.items()]
            entries += [(324, 4, len(counts), at), (325, 4, len(counts), at + 4 * len(counts))]
            table = b"".join(struct.pack(">HHII", *entry) for entry in entries)
            head = b"MM\0*" + struct.pack(">I", at + len(several))
            return head + bytes(1_024) + several + struct.pack(">H", len(entries)) + table + bytes(4)

        assert is_whole(tiled([256] * 4))
        assert is_whole(tiled([256, 0, 256, 256]))  # a hole, as GDAL leaves where nothing was drawn
        assert is_whole(tiled([9] * 4, _259=5))
        assert not is_whole(tiled([256, 256, 256, 255]))
        assert not is_whole(tiled([256] * 3))
        assert not is_whole(tiled([256] * 4, _323=0))


def test_gif_of_no_size() -> None:
    image = b"GIF89a" + bytes(7) + b"," + bytes(4) + b"\x01\x00\x01\x00\x00" + b"\x02\x01\x00\x00;"
    assert is_whole(image)
    for at in (18, 20):
        assert not is_whole(image[:at] + b"\0\0" + image[at + 2 :])


def test_webp_of_no_size() -> None:
    image = bytearray(made("WEBP"))
    assert image[12:16] == b"VP8 "
    image[26:28] = b"\0\xc0"
    assert not is_whole(bytes(image))


def test_webp_of_a_version_that_there_is_not() -> None:
    image = bytearray(made("WEBP", lossless=True))
    assert image[12:16] == b"VP8L"
    image[24] |= 0x20
    assert not is_whole(bytes(image))


MODES = {
    "PNG": ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"),
    "JPEG": ("1", "L", "RGB", "CMYK", "YCbCr"),
    "WEBP": ("L", "LA", "P", "RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB", "RGBA"),
    "AVIF": ("L", "LA", "P", "RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "F", "PA"),
}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes])
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (64, 40)])
def test_every_mode_that_pillow_writes(kind: str, mode: str, size: tuple[int, int]) -> None:
    plain = picture(64).resize(size)
    for image in (
        plain.convert("L").convert("I").convert(mode) if mode == "I;16" else _as(plain, mode),
        _blank(mode, size),
    ):
        for options in OPTIONS.get(kind, [{}]):
            out = io.BytesIO()
            image.save(out, kind, **options)
            assert is_whole(out.getvalue()), options


OPTIONS: dict[str, list[dict[str, object]]] = {
    "PNG": [{}, {"compress_level": 0}, {"optimize": True}],
    "JPEG": [{}, {"progressive": True}, {"quality": 1, "subsampling": 2}, {"optimize": True, "quality": 95}],
    "WEBP": [{}, {"lossless": True}, {"quality": 0}],
    "GIF": [{}, {"interlace": 0}],
    "TIFF": [{}, {"compression": "tiff_adobe_deflate"}, {"tiffinfo": {278: 2}}],
}


def _as(image: Image.Image, mode: str) -> Image.Image:
    if mode == "PA":
        return image.convert("P").convert("PA")
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    return image.convert(mode)


def _blank(mode: str, size: tuple[int, int]) -> Image.Image:
    """Of one colour, which packs best."""
    return Image.new(mode, size)


def test_the_samples_are_none_of_these() -> None:
    assert all(is_whole(sample.data) for sample in SAMPLES.values())
