"""What counts as a whole image: every family, cut anywhere, damaged, disguised, or made to last for ever."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cachelayer.dialects.wire.containers import Container, container_of, known_type
from tests.dialects.samples import SAMPLES, box, chunk, core_bmp, made, segment

IMAGES = Path(__file__).parents[3] / "shared" / "data" / "images"

samples = pytest.mark.parametrize("name", SAMPLES)


def is_whole(data: bytes) -> bool:
    found = container_of(data)
    return found is not None and found.is_whole


@samples
class TestEveryFamily:
    def test_whole(self, name: str) -> None:
        sample = SAMPLES[name]
        assert container_of(sample.data) == Container(sample.type, is_whole=True)
        assert known_type(sample.data) == sample.type

    @pytest.mark.parametrize("behind", [b"\0", b"\n", b"\xff\xd9", b"trailing data", bytes(9_999)])
    def test_bytes_behind_the_end_are_allowed(self, name: str, behind: bytes) -> None:
        assert is_whole(SAMPLES[name].data + behind)

    def test_no_prefix_is_whole(self, name: str) -> None:
        sample = SAMPLES[name]
        assert [cut for cut in range(sample.end) if is_whole(sample.data[:cut])] == []


@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_damage_never_raises(name: str, data: st.DataObject) -> None:
    image = bytearray(SAMPLES[name].data)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(image) - 1))
        image[at : at + data.draw(st.integers(1, 8))] = data.draw(st.binary(max_size=8))
        if not image:
            break
    container_of(bytes(image))


@given(st.sampled_from(sorted(SAMPLES)), st.binary(max_size=400))
def test_a_signature_with_anything_behind_it_never_raises(name: str, rest: bytes) -> None:
    for size in (2, 4, 8, 12, 16):
        container_of(SAMPLES[name].data[:size] + rest)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(b"")
@example(b"\x00")
@example(b"BM")
@example(b"BMW is a car, and this is a text that begins like a bitmap")
@example(b'{"error": {"code": 500, "message": "upstream"}}')
@example(b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1><svg></svg></body></html>")
@example(b"<html><svg xmlns='http://www.w3.org/2000/svg'/></html>")
@example(b"<svg")
@example(b"<svg></SVG>")
@example(b"%PDF-1.7")
@example(b"RIFF\x24\x00\x00\x00WAVEfmt ")
@example(b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom")
def test_anything_else_is_no_image(data: bytes) -> None:
    assert not is_whole(data)


class TestPng:
    IHDR = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    IDAT = chunk(b"IDAT", zlib.compress(b"\0\0"))
    HEAD = b"\x89PNG\r\n\x1a\n"

    def test_the_parts_that_make_it(self) -> None:
        end = chunk(b"IEND")
        assert is_whole(self.HEAD + self.IHDR + self.IDAT + end)
        assert not is_whole(self.HEAD + self.IHDR + end)
        assert not is_whole(self.HEAD + self.IHDR + chunk(b"IDAT") + end)
        assert not is_whole(self.HEAD + self.IDAT + self.IHDR + end)
        assert not is_whole(self.HEAD + self.IHDR + self.IHDR + self.IDAT + end)
        assert not is_whole(self.HEAD + self.IHDR + self.IDAT)

    def test_an_end_in_the_pixels_is_none(self) -> None:
        hidden = self.HEAD + self.IHDR + chunk(b"IDAT", zlib.compress(b"\0\0") + chunk(b"IEND"))
        assert not is_whole(hidden)
        assert is_whole(hidden + chunk(b"IEND"))

    def test_checksums_of_what_decoders_need(self) -> None:
        text = chunk(b"tEXt", b"a\0b")
        wrong = text[:-1] + bytes([text[-1] ^ 1])
        assert is_whole(self.HEAD + self.IHDR + wrong + self.IDAT + chunk(b"IEND"))
        bad = self.IDAT[:-1] + bytes([self.IDAT[-1] ^ 1])
        assert not is_whole(self.HEAD + self.IHDR + bad + chunk(b"IEND"))

    @given(st.integers(8, len(made("PNG")) - 1), st.integers(1, 255))
    def test_no_byte_may_be_another(self, at: int, change: int) -> None:
        image = bytearray(made("PNG"))
        image[at] ^= change
        assert not is_whole(bytes(image))


class TestJpeg:
    FRAME = segment(0xDB, bytes(65)) + segment(0xC0, struct.pack(">BHHB", 8, 1, 1, 1) + b"\x01\x11\x00")
    SCAN = segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")

    @pytest.mark.parametrize(
        ("body", "whole"),
        [
            (FRAME + SCAN + b"data", True),
            (FRAME + SCAN + b"da\xff\x00ta\xff\xd0more\xff\xff\xff", True),
            (b"\xff\xff\xff" + FRAME + b"\xff" + SCAN + b"data", True),
            (FRAME + SCAN + b"1" + segment(0xC4, b"\xff\xd9 table") + SCAN + b"2", True),
            (FRAME + SCAN + b"1" + segment(0xDC, b"\x00\x01"), True),
            (segment(0xEE, b"\xff\xda\xff\xd9") + FRAME + SCAN + b"data", True),
            (b"\xff\x00" + FRAME + SCAN + b"data", True),
            (b"", False),
            (FRAME, False),
            (SCAN + b"data", False),
            (segment(0xE1, b"Exif" + made("JPEG", 8)), False),
            (FRAME + SCAN + b"data\xff\xd8", False),
            (segment(0xC4, b"\0" * 12) + SCAN, False),
            (segment(0xC0, struct.pack(">BHHB", 8, 1, 0, 1) + b"\x01\x11\x00") + SCAN, False),
            (b"\xff\xe1\x00\x01" + FRAME + SCAN, False),
        ],
    )
    def test_markers(self, body: bytes, whole: bool) -> None:
        assert is_whole(b"\xff\xd8" + body + b"\xff\xd9") is whole
        assert not is_whole(b"\xff\xd8" + body)

    def test_only_the_thumbnail_is_there(self) -> None:
        image = SAMPLES["jpeg with a thumbnail"].data
        behind_it = image.index(b"\xff\xd9") + 2
        assert image.index(b"\xff\xd8", 2) < behind_it < len(image) // 2 + 400
        assert not is_whole(image[:behind_it])


class TestWebp:
    def riff(self, *chunks: bytes, size: int | None = None) -> bytes:
        body = b"WEBP" + b"".join(chunks)
        return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body

    def part(self, kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1)

    LOSSLESS = made("WEBP", lossless=True)[20:]

    def test_the_parts_that_make_it(self) -> None:
        image = self.part(b"VP8L", self.LOSSLESS)
        extended = self.part(b"VP8X", bytes(10))
        animated = self.part(b"VP8X", b"\x02" + bytes(9))
        frame = self.part(b"ANMF", bytes(16) + image)
        assert is_whole(self.riff(image))
        assert is_whole(self.riff(extended, self.part(b"ICCP", b"odd"), image, self.part(b"EXIF", b"exif")))
        assert is_whole(self.riff(animated, self.part(b"ANIM", bytes(6)), frame, frame))
        assert not is_whole(self.riff())
        assert not is_whole(self.riff(extended))
        assert not is_whole(self.riff(self.part(b"EXIF", b"exif"), image))
        assert not is_whole(self.riff(animated, self.part(b"ANIM", bytes(6))))
        assert not is_whole(self.riff(animated, self.part(b"ANMF", bytes(16))))
        assert not is_whole(self.riff(self.part(b"VP8L", b"/")))
        assert not is_whole(self.riff(self.part(b"VP8 ", self.LOSSLESS)))

    def test_half_of_it_under_a_size_that_fits(self) -> None:
        image = made("WEBP")
        half = image[: len(image) // 2 & ~1]
        assert not is_whole(half[:4] + struct.pack("<I", len(half) - 8) + half[8:])

    def test_the_last_padding_may_be_left_out_with_its_place(self) -> None:
        odd = self.LOSSLESS + b"\0" if len(self.LOSSLESS) % 2 == 0 else self.LOSSLESS
        image = self.riff(self.part(b"VP8L", odd))[:-1]
        assert not is_whole(image)
        assert is_whole(image[:4] + struct.pack("<I", len(image) - 8) + image[8:])

    def test_a_first_partition_that_does_not_fit(self) -> None:
        image = bytearray(made("WEBP"))
        image[20:23] = (int.from_bytes(image[20:23], "little") & 0x1F | 0x7FFFF << 5).to_bytes(3, "little")
        assert not is_whole(bytes(image))


class TestGif:
    def test_a_trailer_without_an_image(self) -> None:
        assert not is_whole(b"GIF89a" + bytes(7) + b";")
        assert not is_whole(b"GIF89a" + bytes(7) + b"\x21\xfe\x03abc\x00;")

    def test_an_image_without_data(self) -> None:
        image = b"GIF89a" + bytes(7) + b"," + bytes(4) + b"\1\0\1\0\0" + b"\x02"
        assert not is_whole(image + b"\x00;")
        assert is_whole(image + b"\x01\x00\x00;")


class TestIsoMedia:
    FTYP = box(b"ftyp", b"avif\0\0\0\0avifmif1")

    def meta(self, iloc: bytes, idat: bytes = b"") -> bytes:
        parts = box(b"pitm", bytes(4) + b"\x00\x01") + box(b"iloc", iloc)
        return box(b"meta", bytes(4) + parts + (box(b"idat", idat) if idat else b""))

    def located(self, offset: int, length: int, *, method: int = 0, item: int = 1, reference: int = 0) -> bytes:
        head = b"\x01\0\0\0\x44\x00" + struct.pack(">H", 1)
        return head + struct.pack(">HHHHII", item, method, reference, 1, offset, length)

    def image(self, *, spare: int = 0, mdat: bytes = b"", head_size: int = 8, **where: int) -> bytes:
        head = self.FTYP + self.meta(self.located(0, 10, **where))
        start = len(head) + head_size
        return self.FTYP + self.meta(self.located(start, 10 + spare, **where)) + (mdat or box(b"mdat", bytes(10)))

    def test_items_lie_in_the_file(self) -> None:
        assert is_whole(self.image())
        assert not is_whole(self.image(spare=1))
        assert not is_whole(self.image(item=2))
        assert not is_whole(self.image(reference=1))
        assert not is_whole(self.image(method=2))

    def test_items_in_the_meta_box(self) -> None:
        assert is_whole(self.FTYP + self.meta(self.located(2, 8, method=1), bytes(10)))
        assert not is_whole(self.FTYP + self.meta(self.located(3, 8, method=1), bytes(10)))
        assert not is_whole(self.FTYP + self.meta(self.located(0, 8, method=1)))

    def test_sizes_of_boxes(self) -> None:
        assert is_whole(self.image(mdat=b"\0\0\0\0mdat" + bytes(10)))
        assert not is_whole(self.image(mdat=b"\0\0\0\0mdat" + bytes(9)))
        large = struct.pack(">I4sQ", 1, b"mdat", 26) + bytes(10)
        assert is_whole(self.image(mdat=large, head_size=16))
        assert not is_whole(self.image(mdat=struct.pack(">I4sQ", 1, b"mdat", 1 << 63) + bytes(10)))
        assert not is_whole(self.image(mdat=struct.pack(">I4sQ", 1, b"mdat", 0) + bytes(10)))

    def test_no_items_at_all(self) -> None:
        assert not is_whole(self.FTYP)
        assert not is_whole(self.FTYP + box(b"mdat", bytes(99)))
        assert not is_whole(self.FTYP + box(b"meta", bytes(4)) + box(b"mdat", bytes(99)))

    def test_a_sequence_without_a_still_image(self) -> None:
        head = box(b"ftyp", b"msf1\0\0\0\0msf1hevc") + box(b"moov", bytes(8))
        assert is_whole(head + box(b"mdat", bytes(99)))
        assert not is_whole(head + b"\0\0\0\0mdat" + bytes(99))

    def test_other_media_in_the_same_boxes(self) -> None:
        assert known_type(box(b"ftyp", b"isom\0\0\0\0isommp41") + box(b"moov") + box(b"mdat", bytes(9))) is None


class TestBmp:
    def test_more_rows_than_there_are(self) -> None:
        image = bytearray(made("BMP"))
        struct.pack_into("<I", image, 22, 25)
        assert not is_whole(bytes(image))
        struct.pack_into("<i", image, 22, -24)
        assert is_whole(bytes(image))

    @pytest.mark.parametrize("declared", [0, 1, 1 << 31])
    def test_the_files_own_size_is_seldom_right(self, declared: int) -> None:
        image = bytearray(made("BMP"))
        struct.pack_into("<I", image, 2, declared)
        assert is_whole(bytes(image))
        assert is_whole(core_bmp())

    def test_run_lengths_end_where_a_size_says(self) -> None:
        image = bytearray(SAMPLES["bmp in run lengths without a size"].data)
        struct.pack_into("<I", image, 2, 0)
        assert not is_whole(bytes(image))


class TestTiff:
    def test_directories_that_lead_in_a_circle(self) -> None:
        image = bytearray(SAMPLES["tiff, big endian"].data)
        image[-4:] = image[4:8]
        assert not is_whole(bytes(image))

    def test_an_image_outside_the_file(self) -> None:
        image = SAMPLES["tiff, big endian"].data
        placed = struct.pack(">HHII", 273, 4, 1, 8)
        assert not is_whole(image.replace(placed, struct.pack(">HHII", 273, 4, 1, len(image) - 47)))
        assert is_whole(image.replace(placed, struct.pack(">HHII", 273, 4, 1, len(image) - 48)))

    def test_no_size_of_the_only_strip(self) -> None:
        image = SAMPLES["tiff, big endian"].data
        counted = struct.pack(">HHII", 279, 4, 1, 48)
        assert counted in image
        assert is_whole(image.replace(counted, struct.pack(">HHII", 65000, 4, 1, 48)))
        packed = image.replace(struct.pack(">HHIHH", 259, 3, 1, 1, 0), struct.pack(">HHIHH", 259, 3, 1, 5, 0))
        assert not is_whole(packed.replace(counted, struct.pack(">HHII", 65000, 4, 1, 48)))

    def test_a_directory_without_an_image(self) -> None:
        assert not is_whole(b"II*\0" + struct.pack("<IHHHIII", 8, 1, 256, 3, 1, 4, 0))


class TestSvg:
    @pytest.mark.parametrize(
        ("text", "whole"),
        [
            (b"<svg/>", True),
            (b"  \n<svg></svg>", True),
            (b"<?xml version='1.0'?><!-- x --><?go on?><svg:svg xmlns:svg='http://www.w3.org/2000/svg'/>", True),
            (b"<svg><a></svg>", False),
            (b"<svg><![CDATA[</svg>", False),
            (b"<svg>&nothing;</svg>", False),
            (b"<svg a=1></svg>", False),
            (b"<svg xmlns='urn:another'/>", False),
            (b"<notsvg><svg/></notsvg>", False),
            (b'<?xml version="1.0" encoding="no-such"?><svg/>', False),
            (b"<svg>\xff</svg>", False),
        ],
    )
    def test_well_formed(self, text: bytes, whole: bool) -> None:
        assert is_whole(text) is whole

    @pytest.mark.parametrize(
        "declared",
        [
            '<!ENTITY a "b">',
            '<!ENTITY % a "b">',
            '<!ENTITY a SYSTEM "file:///etc/passwd">',
            '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;">',
        ],
    )
    def test_entities_are_refused(self, declared: str) -> None:
        assert not is_whole(f"<!DOCTYPE svg [{declared}]><svg>&a;</svg>".encode())
        assert not is_whole(f"<!DOCTYPE svg [{declared}]><svg></svg>".encode())

    def test_attributes_for_every_element_are_refused(self) -> None:
        assert not is_whole(b'<!DOCTYPE svg [<!ATTLIST svg a CDATA "x">]><svg/>')
        assert is_whole(b"<!DOCTYPE svg [<!ELEMENT svg ANY>]><svg/>")


BOMBS = {
    "png": b"\x89PNG\r\n\x1a\n" + TestPng.IHDR + chunk(b"teXt") * 600_000,
    "jpeg": b"\xff\xd8" + b"\xff\xfe\x00\x02" * 600_000,
    "jpeg of stuffed bytes": b"\xff\xd8" + TestJpeg.FRAME + TestJpeg.SCAN + b"\xff\x00" * 3_000_000,
    "jpeg of fill bytes": b"\xff\xd8" + b"\xff" * 6_000_000,
    "jpeg of padding": b"\xff\xd8" + b"\xff\x00" * 3_000_000,
    "gif": b"GIF89a" + bytes(7) + b"," + bytes(9) + b"\x02" + b"\x01a" * 2_000_000,
    "gif of extensions": b"GIF89a" + bytes(7) + b"\x21\xfe\x00" * 600_000,
    "webp": b"RIFF" + struct.pack("<I", 4_800_020) + b"WEBPVP8X\x0a\0\0\0" + bytes(10) + b"JUNK\0\0\0\0" * 600_000,
    "avif": box(b"ftyp", b"avif\0\0\0\0") + box(b"free") * 600_000,
    "tiff of directories": b"II*\0" + b"".join(struct.pack("<IH", 8 + 6 * i, 0) for i in range(600_000)),
    "tiff of strips": b"II*\0"
    + struct.pack("<IHHHIIHHIII", 8, 2, 273, 4, 600_000, 64, 279, 4, 600_000, 64, 0)
    + bytes(2_500_000),
    "svg": b"<svg>" + b"<a/>" * 600_000 + b"</svg>",
    "svg of depth": b"<svg>" + b"<a>" * 600_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_walks_are_bounded(name: str) -> None:
    """Each of these would be walked for many seconds, or for ever, by a walker without a bound."""
    assert not is_whole(BOMBS[name])


@pytest.mark.shared
def test_all_images_of_other_projects() -> None:
    """None raises; all that decode and are of a known family are whole, but those that are damaged on purpose."""
    if not IMAGES.is_dir():
        pytest.skip(f"{IMAGES} is not there")
    families = {"PNG", "JPEG", "MPO", "WEBP", "GIF", "AVIF", "BMP", "DIB", "TIFF"}
    refused, seen = [], 0
    for line in (IMAGES / "MANIFEST.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        data = (IMAGES / row["file"]).read_bytes()
        whole = is_whole(data)
        if row.get("err") or row.get("fmt") not in families or not known_type(data):
            continue
        seen += 1
        if not whole:
            refused.append(Path(row["file"]).name)
    # Both have pixels under a wrong checksum, which Pillow does not look at.
    assert refused == ["x_interlaced_chck.png", "xcsn0g01.png"]
    assert seen > 300
