"""Files of a few kilobytes that would cost whoever opens them a thousand times as much."""

import io
import struct
import zlib
from collections.abc import Sequence

import pillow_heif
import pytest
from PIL import Image

from service.isobmff import coded_pixels, copied_metadata
from service.problems import BrokenPicture, TooManyPixels
from service.structure import MOST_METADATA, MOST_SEGMENTS, MOST_STRIPS, check_structure
from service.uploads import validate
from tests.service.support import encode

LIMIT = 1_000_000


def with_segments(marker: int, content: bytes, count: int) -> bytes:
    jpeg = encode("JPEG")
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2).join([b"", *[content] * count]) + jpeg[2:]


@pytest.mark.parametrize(
    ("marker", "content", "count"),
    [(0xE1, b"", MOST_SEGMENTS), (0xE1, b"Exif\0\0" + bytes(60_000), 70), (0xFE, b"a remark", MOST_SEGMENTS)],
    ids=["empty", "EXIF", "remarks"],
)
def test_a_jpeg_in_too_many_parts_is_refused(marker: int, content: bytes, count: int) -> None:
    with pytest.raises(BrokenPicture, match="too many parts before its picture"):
        validate(with_segments(marker, content, count), LIMIT)


def test_a_jpeg_with_long_metadata_is_taken() -> None:
    """As phones write that keep a second picture, or a film, in extended XMP."""
    assert (
        validate(with_segments(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000), 300), LIMIT).width == 40
    )


@pytest.mark.parametrize("junk", [b"\0", b"\xff", b"\xff\0"])
def test_a_jpeg_with_junk_is_refused_once_it_is_much(junk: bytes) -> None:
    jpeg = encode("JPEG")
    first = 4 + int.from_bytes(jpeg[4:6], "big")
    assert validate(jpeg[:first] + 1_000 * junk + jpeg[first:], LIMIT).width == 40
    with pytest.raises(BrokenPicture, match="too many parts before its picture"):
        validate(jpeg[:first] + 100_000 * junk + jpeg[first:], LIMIT)


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_png_in_too_many_parts_is_refused(at_the_end: bool) -> None:
    png, chunk = encode("PNG") + bytes(100_000), b"\0\0\0\0prVt" + struct.pack(">L", zlib.crc32(b"prVt"))
    place = png.index(b"IEND" if at_the_end else b"IDAT") - 4
    assert validate(png[:place] + 100 * chunk + png[place:], LIMIT).width == 40
    with pytest.raises(BrokenPicture, match="too many parts"):
        validate(png[:place] + MOST_SEGMENTS * chunk + png[place:], LIMIT)


def tiff(tags: Sequence[tuple[int, int, int, int]], big: bool, order: str = "<") -> bytes:
    """One that has these tags alone: number, type, count and value."""
    mark = b"II" if order == "<" else b"MM"
    if big:
        head = mark + struct.pack(order + "HHHQQ", 43, 8, 0, 16, len(tags))
        return head + b"".join(struct.pack(order + "HHQ", *tag[:3]) + value(tag, order, 8) for tag in tags)
    head = mark + struct.pack(order + "HLH", 42, 8, len(tags))
    return head + b"".join(struct.pack(order + "HHL", *tag[:3]) + value(tag, order, 4) for tag in tags)


def value(tag: tuple[int, int, int, int], order: str, room: int) -> bytes:
    return struct.pack(order + {3: "H", 4: "L"}.get(tag[1], "B"), tag[3]).ljust(room, b"\0")


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_whose_tiles_are_larger_than_what_is_taken_is_refused(big: bool, order: str) -> None:
    size = [(256, 3, 1, 64), (257, 3, 1, 64)]
    check_structure(tiff([*size, (322, 3, 1, 256), (323, 3, 1, 256)], big, order), "tiff", LIMIT)
    with pytest.raises(TooManyPixels, match="more pixels than its size says"):
        validate(tiff([*size, (322, 4, 1, 10_000), (323, 3, 1, 10_000)], big, order), LIMIT)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tag", [273, 324])
def test_a_tiff_in_too_many_pieces_is_refused(big: bool, tag: int) -> None:
    with pytest.raises(BrokenPicture, match="too many pieces"):
        validate(tiff([(256, 3, 1, 64), (tag, 1, MOST_STRIPS + 1, 0)], big), LIMIT)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_avif_that_holds_a_larger_picture_than_it_says_is_refused(mode: str) -> None:
    avif = encode("AVIF", (600, 500), mode)
    assert coded_pixels(avif) == [300_000] * (2 if mode == "RGBA" else 1)
    assert validate(avif, 300_000).width == 600
    small = avif.replace(b"ispe\0\0\0\0" + struct.pack(">LL", 600, 500), b"ispe\0\0\0\0" + struct.pack(">LL", 64, 64))
    with Image.open(io.BytesIO(small)) as named:
        assert named.size == (64, 64)
    with pytest.raises(TooManyPixels, match="more pixels than its size says"):
        validate(small, 299_999)


def box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">L4s", 8 + sum(map(len, content)), kind) + b"".join(content)


def test_a_heic_whose_pictures_share_their_metadata_is_refused_once_the_copies_are_much() -> None:
    def heic(pictures: int) -> bytes:
        items = [box(b"infe", bytes([2, 0, 0, 0]), struct.pack(">HH4s", 1, 0, b"Exif"))]
        items += [
            box(b"infe", bytes([2, 0, 0, 0]), struct.pack(">HH4s", 2 + index, 0, b"hvc1")) for index in range(pictures)
        ]
        meta = box(
            b"meta",
            bytes(4),
            box(b"iinf", bytes(4), struct.pack(">H", len(items)), *items),
            box(b"iloc", bytes(4), b"\x44\0", struct.pack(">HHHHLL", 1, 1, 0, 1, 0, 100_000)),
            box(b"iref", bytes(4), box(b"cdsc", struct.pack(f">HH{pictures}H", 1, pictures, *range(2, 2 + pictures)))),
        )
        return box(b"ftyp", b"heic" + bytes(4) + b"mif1heic") + meta + box(b"mdat", bytes(200_000))

    assert copied_metadata(heic(3)) == 300_000
    check_structure(heic(3), "heif", LIMIT)
    with pytest.raises(BrokenPicture, match="more metadata than pictures"):
        validate(heic(MOST_METADATA // 100_000 + 1), LIMIT)


@pytest.mark.parametrize("image_format", ["AVIF", "HEIF", "JPEG", "TIFF"])
def test_what_phones_append_is_not_looked_at(image_format: str) -> None:
    for appended in (bytes(100_000), b"\0\0\0\3SEFT" + 20_000 * b"\0\0\0\x08mpvd"):
        assert validate(encode(image_format) + appended, LIMIT).width == 40


@pytest.mark.parametrize("repeated", [b"meta", b"iinf", b"iloc", b"iprp"])
def test_a_file_that_says_twice_what_is_in_it_is_refused(repeated: bytes) -> None:
    avif = encode("AVIF")
    start = avif.index(repeated) - 4
    size = int.from_bytes(avif[start : start + 4], "big")
    again = avif[:start] + 2 * avif[start : start + size] + avif[start + size :]
    if repeated != b"meta":
        place = avif.index(b"meta") - 4
        larger = int.from_bytes(avif[place : place + 4], "big") + size
        again = again[:place] + larger.to_bytes(4, "big") + again[place + 4 :]
    with pytest.raises(BrokenPicture, match="says twice"):
        validate(again, LIMIT)


def test_metadata_and_profiles_count_for_the_pictures_that_have_them() -> None:
    exif, heif = Image.Exif(), io.BytesIO()
    exif[0x010E] = 5_000 * "x"
    pictures = pillow_heif.HeifFile()  # type: ignore[no-untyped-call]
    for _ in range(3):
        pictures.add_from_pillow(Image.new("RGB", (64, 48)))
    pictures.save(heif, exif=exif.tobytes())
    alone = io.BytesIO()
    pictures[0].to_pillow().save(alone, "HEIF", icc_profile=7_000 * b"\0")

    assert 5_000 < copied_metadata(heif.getvalue()) < 20_000
    assert 7_000 < copied_metadata(alone.getvalue()) < 8_000
    assert validate(heif.getvalue(), LIMIT).width == 64


@pytest.mark.parametrize("brand", [b"heic", b"avif"])
@pytest.mark.parametrize(
    "content",
    [
        struct.pack(">L4s", 4, b"meta"),
        20_000 * box(b"free"),
        box(b"meta", bytes(4), box(b"iloc", bytes(4), b"\0\0", struct.pack(">HHHH", 1, 1, 0, 60_000))),
        box(b"meta", bytes(4), box(b"iloc", bytes(4), b"\x44\0", struct.pack(">HHHH", 60_000, 1, 0, 1))),
        box(b"meta", bytes(4), 50_000 * box(b"free")),
    ],
    ids=["size", "boxes", "places", "cut off", "parts"],
)
def test_damaged_boxes_are_refused(brand: bytes, content: bytes) -> None:
    with pytest.raises(BrokenPicture):
        validate(box(b"ftyp", brand + bytes(4) + brand) + content, LIMIT)
