import io
import struct
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from service.problems import (
    AnimatedPicture,
    BrokenPicture,
    EmptyBody,
    Problem,
    TooFewPixels,
    TooManyPixels,
    UnsupportedPicture,
)
from service.uploads import InputFormat, sniff, validate
from tests.service.support import animated, encode, huge_png, rotated

LIMIT = 50_000_000
FORMATS = ["JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "GIF"]


@pytest.mark.parametrize("image_format", FORMATS)
def test_every_format_is_read(image_format: str) -> None:
    upload = validate(encode(image_format, (41, 23)), LIMIT)
    assert upload.format.upper() == image_format
    assert (upload.width, upload.height, upload.has_alpha) == (41, 23, False)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_every_jpeg_mode_is_read(mode: str) -> None:
    assert validate(encode("JPEG", mode=mode), LIMIT).format is InputFormat.JPEG


def test_first_picture_of_a_phone_s_pair_is_taken() -> None:
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "MPO", save_all=True, append_images=[Image.new("RGB", (30, 20))])
    upload = validate(file.getvalue(), LIMIT)
    assert (upload.format, upload.width, upload.height) == (InputFormat.JPEG, 30, 20)


def test_first_page_of_a_tiff_is_taken() -> None:
    assert validate(animated("TIFF"), LIMIT).format is InputFormat.TIFF


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "AVIF", "HEIF", "TIFF"])
def test_alpha_is_noticed(image_format: str) -> None:
    assert validate(encode(image_format, mode="RGBA"), LIMIT).has_alpha


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize(("orientation", "expected"), [(1, (40, 24)), (3, (40, 24)), (6, (24, 40)), (8, (24, 40))])
def test_size_is_upright(image_format: str, orientation: int, expected: tuple[int, int]) -> None:
    upload = validate(rotated(image_format, (40, 24), orientation), LIMIT)
    assert (upload.width, upload.height) == expected


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_animation_is_refused(image_format: str) -> None:
    with pytest.raises(AnimatedPicture, match=f"Animated {image_format}"):
        validate(animated(image_format), LIMIT)


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_file_cut_in_its_header_is_broken(image_format: str) -> None:
    with pytest.raises(BrokenPicture):
        validate(encode(image_format)[:18], LIMIT)


@pytest.mark.parametrize("data", [b"hello", b"<svg/>", b"%PDF-1.7", b"RIFF....AVI ", b"\0\0\0\x18ftypmp42", b"\xff"])
def test_what_is_no_picture_is_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedPicture):
        validate(data, LIMIT)


def test_nothing_is_an_empty_body() -> None:
    with pytest.raises(EmptyBody):
        validate(b"", LIMIT)


@pytest.mark.parametrize(("size", "taken"), [((16, 16), True), ((15, 400), False), ((400, 15), False)])
def test_shortest_side(size: tuple[int, int], taken: bool) -> None:
    if taken:
        assert validate(encode("PNG", size), LIMIT).width == 16
        return
    with pytest.raises(TooFewPixels, match="at least 16"):
        validate(encode("PNG", size), LIMIT)


@pytest.mark.parametrize("pixels", [959, 960])
def test_limit_of_pixels(pixels: int) -> None:
    data = encode("PNG", (40, 24))
    if pixels == 960:
        assert validate(data, pixels)
        return
    with pytest.raises(TooManyPixels, match="40 x 24"):
        validate(data, pixels)


def test_huge_png_is_refused_from_its_header() -> None:
    with pytest.raises(TooManyPixels, match="30000 x 30000 px; at most 50 megapixels"):
        validate(huge_png(30_000, 30_000), LIMIT)


def test_huge_webp_is_refused_from_its_header() -> None:
    body = b"\x2f" + struct.pack("<I", (16383 - 1) | (16383 - 1) << 14) + bytes(60)
    chunk = b"VP8L" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    with pytest.raises(TooManyPixels):
        validate(b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk, LIMIT)


def test_png_without_exif_is_not_decoded_for_it() -> None:
    # Its pixels are short of the announced ones, so decoding would fail.
    upload = validate(huge_png(6000, 5000), LIMIT)
    assert (upload.width, upload.height) == (6000, 5000)


def test_heif_size_is_the_decoded_one() -> None:
    data = rotated("HEIF", (40, 24))
    upload = validate(data, LIMIT)
    assert (upload.width, upload.height) == ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size


def test_a_palette_picture_without_a_palette_is_refused() -> None:
    whole = encode("PNG", mode="P")
    at, end = whole.index(b"PLTE") - 4, whole.index(b"IDAT") - 4
    with pytest.raises(BrokenPicture):
        validate(whole[:at] + whole[end:], LIMIT)


@settings(deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_damage_is_a_problem_and_nothing_else(image_format: str, data: st.DataObject) -> None:
    picture = bytearray(encode(image_format))
    places = st.lists(st.tuples(st.integers(0, len(picture) - 1), st.integers(0, 255)), max_size=8)
    for place, value in data.draw(places):
        picture[place] = value
    end = data.draw(st.integers(1, len(picture)))
    with suppress(Problem):
        validate(bytes(picture[:end]), LIMIT)


@given(st.binary(max_size=64))
def test_random_bytes_are_a_problem(data: bytes) -> None:
    with pytest.raises(Problem):
        validate(data, LIMIT)
    sniff(data)


def test_odd_metadata_fill_no_log() -> None:
    entries = b"".join(struct.pack(">HHII", tag, 2, 60_000, 0) for tag in range(300, 900))
    content = encode("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 600) + entries + bytes(4))
    script = "import sys; from service.uploads import validate; validate(sys.stdin.buffer.read(), 10**6)"
    done = subprocess.run([sys.executable, "-c", script], input=content, capture_output=True, check=True)
    assert done.stderr == b""
