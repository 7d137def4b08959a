"""Files of a few kilobytes that would cost whoever opens them a thousand times as much."""

import io
import struct
import zlib
from collections.abc import Sequence

import pillow_heif
import pytest
from PIL import Image

from service.isobmff import coded_pixels, copied_metadata, shown_pixels
from service.problems import BrokenPicture, TooManyPixels
from service.structure import MOST_METADATA, MOST_RUNS, MOST_SCANS, MOST_SEGMENTS, MOST_STRIPS, check_structure
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


@pytest.mark.parametrize("junk", [b"\0", b"\xff", b"\xff\0", b"\0\xda"])
def test_a_jpeg_with_junk_is_refused_once_it_is_much(junk: bytes) -> None:
    jpeg = encode("JPEG")
    first = 4 + int.from_bytes(jpeg[4:6], "big")
    assert validate(jpeg[:first] + 1_000 * junk + jpeg[first:], LIMIT).width == 40
    with pytest.raises(BrokenPicture, match="too many parts before its picture"):
        validate(jpeg[:first] + 100_000 * junk + jpeg[first:], LIMIT)


def progressive(scans: int, between: bytes = b"") -> bytes:
    """A JPEG that has so many: its last one, which changes nothing, again and again."""
    jpeg = encode("JPEG", (64, 48), "L", progressive=True)
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + (scans - jpeg.count(b"\xff\xda")) * (between + last) + jpeg[-2:]


@pytest.mark.parametrize(
    "between",
    [b"", b"\xff", b"\xff\xd0", b"\xff\0", b"\xff\x05\xff\xff", b"\xff\xfe\0\4\xff\xd9"],
    ids=["nothing", "filling", "a restart", "data", "an unknown marker", "an end within a remark"],
)
def test_a_jpeg_in_too_many_scans_is_refused(between: bytes) -> None:
    """Each costs the decoder a walk over all pixels, and 78 bytes of the file are one for 50 megapixels."""
    assert validate(progressive(MOST_SCANS, between), LIMIT).width == 64
    with pytest.raises(BrokenPicture, match="its picture in too many parts"):
        validate(progressive(MOST_SCANS + 1, between), LIMIT)


def test_a_jpeg_with_many_parts_between_its_scans_is_refused() -> None:
    with pytest.raises(BrokenPicture, match="its picture in too many parts"):
        validate(progressive(20, MOST_SEGMENTS // 10 * b"\xff\xfe\0\2"), LIMIT)


def test_scans_of_other_pictures_in_a_jpeg_do_not_count() -> None:
    """A preview in the metadata, and what phones put behind the picture: further shots, or a film."""
    others = 50 * progressive(12)
    preview = struct.pack(">BBH", 0xFF, 0xE1, 2 + len(others)) + others
    jpeg = progressive(12)
    assert validate(jpeg[:2] + preview + jpeg[2:] + others, LIMIT).width == 64


def test_a_jpeg_may_be_cut_off_or_restart_anywhere() -> None:
    buffer = io.BytesIO()
    Image.effect_noise((640, 480), 90).save(buffer, "JPEG", restart_marker_blocks=1)
    jpeg = buffer.getvalue()
    assert jpeg.count(b"\xff\xd0") > 500
    assert validate(jpeg, LIMIT).width == 640
    assert validate(jpeg[:-1_000], LIMIT).width == 640


def bmp(width: int, height: int, packing: int, content: bytes) -> bytes:
    bits = 4 if packing == 2 else 8
    head = struct.pack("<LllHHLLllLL", 40, width, height, 1, bits, packing, len(content), 0, 0, 2, 0)
    return b"BM" + struct.pack("<LHHL", 62 + len(content), 0, 0, 62) + head + b"\0\0\0\0\xff\xff\xff\0" + content


@pytest.mark.parametrize("packing", [1, 2])
def test_a_bmp_packed_in_runs_is_refused_once_it_is_large(packing: int) -> None:
    """Pillow unpacks it in Python, and fills the rest of a row byte by byte."""
    rows, larger = (height * b"\x01\x01\0\0" for height in (1_000, 1_001))
    assert validate(bmp(4_000, 1_000, packing, rows), 2 * MOST_RUNS).height == 1_000
    with pytest.raises(BrokenPicture, match="packed in runs"):
        validate(bmp(4_000, 1_001, packing, larger), 2 * MOST_RUNS)
    with pytest.raises(BrokenPicture, match="packed in runs"):
        validate(bmp(64, 64, packing, MOST_RUNS // 2 * b"\x01\x01"), LIMIT)


def test_a_large_bmp_that_is_not_packed_is_taken() -> None:
    assert validate(encode("BMP", (2_100, 2_000)), 2 * MOST_RUNS).width == 2_100


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


def heic_of_parts(parts: dict[int, list[int]], kinds: dict[int, bytes], grid: bytes = b"") -> bytes:
    """Of pictures of 64 x 64 px, some made of others. The first is shown; what is an `hvc1` holds pixels."""
    source = encode("HEIF", (64, 64))
    config, picture = source[source.index(b"hvcC") - 4 :], source[source.index(b"mdat") + 4 :]
    properties = [config[: int.from_bytes(config[:4], "big")], box(b"ispe", bytes(4), struct.pack(">LL", 64, 64))]
    head = box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")

    def meta(start: int) -> bytes:
        listed, placed, described = [], [], []
        for item, kind in kinds.items():
            coded = kind == b"hvc1"
            place = (0, 0, 1, start, len(picture)) if coded else (1, 0, 1, 0, len(grid))
            listed.append(box(b"infe", bytes([2, 0, 0, 0]), struct.pack(">HH4sx", item, 0, kind)))
            placed.append(struct.pack(">HHHHLL", item, *place))
            described.append(struct.pack(">HBBB", item, 2, 0x81 if coded else 2, 2))
        references = [
            box(b"dimg", struct.pack(f">HH{len(others)}H", item, len(others), *others))
            for item, others in parts.items()
        ]
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", bytes(4), struct.pack(">H", next(iter(kinds)))),
            box(b"iinf", bytes(4), struct.pack(">H", len(kinds)), *listed),
            box(b"iref", bytes(4), *references),
            box(b"iprp", box(b"ipco", *properties), box(b"ipma", bytes(4), struct.pack(">L", len(kinds)), *described)),
            box(b"iloc", bytes([1, 0, 0, 0]), b"\x44\0", struct.pack(">H", len(kinds)), *placed),
            box(b"idat", grid),
        )

    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", picture)


def tiled_heic(count: int) -> bytes:
    """One that is made of so many tiles, all the same, and shows a single one's size of them."""
    grid = bytes([0, 0, count - 1, 0]) + struct.pack(">HH", 64, 64)
    return heic_of_parts({2: count * [1]}, {2: b"grid", 1: b"hvc1"}, grid)


def test_a_heic_whose_tiles_are_more_than_it_shows_is_refused() -> None:
    """Six megabytes that said 64 x 64 px took a minute."""
    with Image.open(io.BytesIO(tiled_heic(200))) as image:
        image.load()
        assert image.size == (64, 64)
    assert shown_pixels(tiled_heic(200)) == 200 * 64 * 64
    assert validate(tiled_heic(200), 50 * 64 * 64).width == 64
    with pytest.raises(TooManyPixels, match="more pixels than its size says"):
        validate(tiled_heic(201), 50 * 64 * 64)


def test_pictures_of_a_heic_that_are_made_of_pictures_count_as_often_as_they_are_used() -> None:
    kinds = {4: b"iovl", 3: b"iovl", 2: b"iovl", 1: b"hvc1"}
    assert shown_pixels(heic_of_parts({4: [3, 3], 3: [2, 2, 2], 2: [1, 1]}, kinds)) == 12 * 64 * 64
    for circle in ({4: [3], 3: [2, 1], 2: [4, 3]}, {9: [8], 8: [7], 7: [6], 6: [5], 5: [4], 4: [1]}):
        with pytest.raises(BrokenPicture, match="made of each other"):
            validate(heic_of_parts(circle, kinds), LIMIT)


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
