import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.pictures import draw_photo, encode, encode_heic
from worker.codec import Picture, decode
from worker.codec import encode as encode_picture
from worker.contract import ErrorCode, PictureFormat
from worker.errors import JobError

PHOTO = draw_photo(97, 61)


def difference(picture: Picture, expected: Image.Image) -> float:
    return float(np.abs(picture.pixels_HWC.astype(int) - np.asarray(expected.convert("RGB")).astype(int)).mean())


@pytest.mark.parametrize(
    ("content", "tolerance"),
    [
        (encode(PHOTO, "PNG"), 0),
        (encode(PHOTO, "BMP"), 0),
        (encode(PHOTO, "TIFF"), 0),
        (encode(PHOTO, "JPEG", quality=95), 3),
        (encode(PHOTO, "WEBP", lossless=True), 0),
        (encode(PHOTO, "AVIF", quality=95), 4),
        (encode_heic(PHOTO), 4),
        (encode(PHOTO.quantize(256), "GIF"), 12),
        (encode(PHOTO.quantize(256), "PNG"), 12),
    ],
    ids=["png", "bmp", "tiff", "jpeg", "webp", "avif", "heic", "gif", "palette"],
)
def test_formats_are_read_as_they_look(content: bytes, tolerance: float) -> None:
    picture = decode(content)
    assert picture.pixels_HWC.shape == (61, 97, 3)
    assert picture.alpha_HW is None
    assert difference(picture, PHOTO) <= tolerance


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16", "CMYK", "YCbCr"])
def test_modes_are_read_as_they_look(mode: str) -> None:
    gray = PHOTO.convert("L")
    if mode == "I;16":
        image, expected = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257), gray
    elif mode in ("L", "1"):
        image = expected = gray.convert(mode)
    elif mode == "LA":
        image, expected = gray.convert("LA"), gray
    else:
        image, expected = PHOTO.convert(mode), PHOTO
    file_format = {"CMYK": "TIFF", "YCbCr": "TIFF"}.get(mode, "PNG")
    assert difference(decode(encode(image, file_format)), expected) < 1.5


def test_cmyk_jpeg_is_not_inverted() -> None:
    content = encode(PHOTO.convert("CMYK"), "JPEG", quality=95)
    assert difference(decode(content), PHOTO) < 4


def test_the_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    picture = decode(encode(PHOTO, "PNG", exif=exif))
    assert difference(picture, PHOTO.rotate(-90, expand=True)) == 0


def test_a_colour_profile_is_converted_to_srgb() -> None:
    # A profile whose red and blue are swapped: whoever passes over it gets blue for red.
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = srgb.find(b"rXYZ"), srgb.find(b"bXYZ")
    srgb[red : red + 4], srgb[blue : blue + 4] = b"bXYZ", b"rXYZ"
    picture = decode(encode(Image.new("RGB", (32, 32), (255, 0, 0)), "PNG", icc_profile=bytes(srgb)))
    red_level, _, blue_level = picture.pixels_HWC[16, 16]
    assert blue_level > 200 > red_level


def test_a_damaged_profile_is_passed_over() -> None:
    assert difference(decode(encode(PHOTO, "PNG", icc_profile=b"no profile")), PHOTO) == 0


@pytest.mark.parametrize("file_format", [PictureFormat.PNG, PictureFormat.WEBP, PictureFormat.AVIF])
def test_transparency_comes_back(file_format: PictureFormat) -> None:
    image = PHOTO.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(PHOTO.size))
    picture = decode(encode(image, "PNG"))
    assert picture.alpha_HW is not None
    again = decode(encode_picture(picture, file_format, 95))
    assert again.alpha_HW is not None
    assert np.abs(again.alpha_HW.astype(int) - picture.alpha_HW.astype(int)).mean() < 2


def test_jpeg_lays_transparency_on_white() -> None:
    picture = Picture(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8))
    assert decode(encode_picture(picture, PictureFormat.JPEG, 95)).pixels_HWC.min() > 250


def test_a_transparent_palette_has_alpha() -> None:
    image = Image.new("P", (32, 32), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    picture = decode(encode(image, "GIF", transparency=0))
    assert picture.alpha_HW is not None
    assert picture.alpha_HW.max() == 0


def test_size_limits_the_longer_side_and_never_enlarges() -> None:
    content = encode(draw_photo(400, 200), "JPEG")
    assert decode(content, 100).pixels_HWC.shape == (50, 100, 3)
    assert decode(content, 1000).pixels_HWC.shape == (200, 400, 3)
    assert decode(encode(draw_photo(900, 30)), 100).pixels_HWC.shape == (16, 100, 3)


@pytest.mark.parametrize("content", [b"", b"hello", encode(PHOTO, "JPEG")[:700], encode(PHOTO, "PNG")[:-900]])
def test_damaged_files_are_refused(content: bytes) -> None:
    with pytest.raises(JobError) as refusal:
        decode(content)
    assert refusal.value.code is ErrorCode.BROKEN_PICTURE
