import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.pictures import draw_photo, encode, encode_heic
from worker.codec import Picture, decode, is_one_pass_jpeg
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


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "JPEG"])
def test_damaged_exif_data_are_passed_over(file_format: str) -> None:
    picture = decode(encode(PHOTO, file_format, exif=b"Exif\x00\x00garbage, no TIFF file"))
    assert picture.pixels_HWC.shape == (61, 97, 3)


def test_a_colour_profile_is_converted_to_srgb() -> None:
    image = Image.new("RGB", (32, 32), (255, 0, 0))
    red_level, _, blue_level = decode(encode(image, "PNG", icc_profile=swapped_profile())).pixels_HWC[16, 16]
    assert blue_level > 200 > red_level


def swapped_profile() -> bytes:
    """A profile whose red and blue are swapped: whoever passes over it gets blue for red."""
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = srgb.find(b"rXYZ"), srgb.find(b"bXYZ")
    srgb[red : red + 4], srgb[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(srgb)


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


def in_three_scans() -> bytes:
    """A JPEG that is not progressive, but has a scan for each channel: three grey ones of one size, put together."""
    luma, blue, red = (encode(channel, "JPEG", quality=95) for channel in PHOTO.convert("YCbCr").split())
    frame = luma.index(b"\xff\xc0")
    tables = luma.index(b"\xff\xc4")
    one = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, PHOTO.height, PHOTO.width, 3)
    one += b"".join(bytes([channel, 0x11, 0]) for channel in (1, 2, 3))
    file = luma[:frame] + one + luma[tables : luma.index(b"\xff\xda")]
    for channel, jpeg in enumerate((luma, blue, red), start=1):
        start = jpeg.index(b"\xff\xda")
        file += jpeg[start : start + 5] + bytes([channel]) + jpeg[start + 6 : -2]
    return file + b"\xff\xd9"


def with_segment(jpeg: bytes, segment: bytes) -> bytes:
    return jpeg[:2] + segment + jpeg[2:]


BASELINE, PROGRESSIVE = (encode(PHOTO, "JPEG", progressive=progressive) for progressive in (False, True))
PREVIEW = b"\xff\xe1" + struct.pack(">H", len(BASELINE)) + BASELINE[2:]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (BASELINE, True),
        (encode(PHOTO.convert("L"), "JPEG"), True),
        (encode(PHOTO.convert("CMYK"), "JPEG"), True),
        (encode(PHOTO, "JPEG", exif=b"Exif\0\0" + PROGRESSIVE), True),
        (PROGRESSIVE, False),
        (with_segment(PROGRESSIVE, PREVIEW), False),
        (with_segment(PROGRESSIVE, b"\xff\xd0" + PREVIEW), False),
        (in_three_scans(), False),
        (encode(PHOTO, "PNG"), False),
        (BASELINE[: BASELINE.index(b"\xff\xda")], False),
        (b"", False),
    ],
    ids=[
        "colour",
        "grey",
        "CMYK",
        "preview is progressive",
        "progressive",
        "preview is not",
        "preview behind a restart",
        "a scan for each channel",
        "PNG",
        "cut off",
        "empty",
    ],
)
def test_jpegs_that_are_held_whole_while_they_are_decoded_are_known(content: bytes, expected: bool) -> None:
    assert is_one_pass_jpeg(content) is expected


def test_a_jpeg_with_a_scan_for_each_channel_is_read() -> None:
    assert difference(decode(in_three_scans()), PHOTO) < 4


def jpeg_in_tiff(scans: int) -> bytes:
    """A TIFF whose one strip is a progressive JPEG in so many scans."""
    jpeg = encode(PHOTO.convert("L"), "JPEG", progressive=True)
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    jpeg = jpeg[:-2] + (scans - jpeg.count(b"\xff\xda")) * last + jpeg[-2:]
    tags = {256: 97, 257: 61, 258: 8, 259: 7, 262: 1, 273: 8, 277: 1, 278: 61, 279: len(jpeg)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(jpeg)) + jpeg + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_a_tiff_whose_jpeg_has_too_many_scans_is_refused() -> None:
    """By libtiff, from 100 on: the service need not look into it."""
    assert decode(jpeg_in_tiff(20)).width == 97
    with pytest.raises(JobError) as refusal:
        decode(jpeg_in_tiff(200))
    assert refusal.value.code is ErrorCode.BROKEN_PICTURE


def deep_tiff(levels_HW: np.ndarray, bits: int, *, white_is_zero: bool = False) -> bytes:
    """A grey TIFF of so many bits a pixel, without gaps between them."""
    height, width = levels_HW.shape
    data = levels_HW.astype("<u2").tobytes() if bits == 16 else packed(levels_HW, bits)
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: int(not white_is_zero), 273: 8, 277: 1, 278: height}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    entries += struct.pack("<HHII", 279, 4, 1, len(data))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags) + 1) + entries + bytes(4)


def packed(levels: np.ndarray, bits: int) -> bytes:
    """Rows of levels, the highest bit first, each row from a new byte on."""
    rows = levels.reshape(len(levels), -1)
    spread = (rows[:, :, None] >> np.arange(bits)[::-1]) & 1
    return np.packbits(spread.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


RAMP_HW = np.linspace(0, 255, 64).round().astype(int).repeat(16).reshape(64, 16).T


@pytest.mark.parametrize(("bits", "white_is_zero"), [(12, False), (16, False), (16, True)])
def test_grey_of_many_bits_is_as_bright_as_it_looks(bits: int, white_is_zero: bool) -> None:
    levels_HW = RAMP_HW * (2**bits - 1) // 255
    picture = decode(
        deep_tiff(2**bits - 1 - levels_HW if white_is_zero else levels_HW, bits, white_is_zero=white_is_zero)
    )
    assert np.abs(picture.pixels_HWC[..., 0].astype(int) - RAMP_HW).max() <= 1


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_tiff_whose_white_nobody_knows_is_refused(mode: str) -> None:
    with pytest.raises(JobError, match="32 bits"):
        decode(encode(PHOTO.convert("L").convert(mode), "TIFF"))


@pytest.mark.parametrize("bits", [2, 4, 16])
def test_a_grey_level_may_be_transparent_in_any_depth(bits: int) -> None:
    most = 2**bits - 1
    levels_HW = np.tile(np.array([0, most // 3, most]), (16, 6))
    picture = decode(png(levels_HW, bits, struct.pack(">H", most // 3)))
    assert picture.alpha_HW is not None
    assert picture.alpha_HW[0, :3].tolist() == [255, 0, 255]
    assert picture.pixels_HWC[0, :3, 0].tolist() == [0, 85, 255]


def test_a_deep_colour_may_be_transparent() -> None:
    levels_HWC = np.tile(np.array([[57_000, 100, 100], [100, 100, 57_000]]), (16, 8, 1))
    picture = decode(png(levels_HWC, 16, struct.pack(">HHH", 57_000, 100, 100)))
    assert picture.alpha_HW is not None
    assert picture.alpha_HW[0, :2].tolist() == [0, 255]


def png(levels: np.ndarray, bits: int, transparent: bytes) -> bytes:
    """A grey (H, W) or coloured (H, W, 3) PNG of any depth, of which one level is transparent."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = levels.shape[:2]
    rows = packed(levels, bits)
    stride = len(rows) // height
    header = struct.pack(">IIBBBBB", width, height, bits, 0 if levels.ndim == 2 else 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + rows[at : at + stride] for at in range(0, len(rows), stride)))
    chunks = chunk(b"IHDR", header) + chunk(b"tRNS", transparent) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_the_profile_of_a_ycbcr_tiff_counts() -> None:
    image = Image.new("RGB", (32, 32), (255, 0, 0)).convert("YCbCr")
    red_level, _, blue_level = decode(encode(image, "TIFF", icc_profile=swapped_profile())).pixels_HWC[16, 16]
    assert blue_level > 200 > red_level


def test_memory_that_runs_out_at_the_end_is_said_to_have_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", fail)
    with pytest.raises(JobError) as refusal:
        decode(encode(PHOTO, "PNG"), 32)
    assert refusal.value.code is ErrorCode.TOO_LARGE


@pytest.mark.parametrize("file_format", PictureFormat)
@pytest.mark.parametrize("size", [(97, 61), (400, 300)], ids=["small", "large"])
def test_files_are_written_as_pillow_writes_them(file_format: PictureFormat, size: tuple[int, int]) -> None:
    photo = draw_photo(*size)
    content = encode_picture(Picture(np.asarray(photo)), file_format, 80)
    options: dict[PictureFormat, dict[str, object]] = {
        PictureFormat.JPEG: {"quality": 80},
        PictureFormat.PNG: {"compress_level": 1},
        PictureFormat.WEBP: {"quality": 80, "method": 2},
        PictureFormat.AVIF: {"quality": 80, "speed": 8},
    }
    assert content == encode(photo, file_format.upper(), **options[file_format])


def turns_beside(work: Callable[[], object]) -> int:
    """How often this thread gets the interpreter while another one is at work."""
    thread = threading.Thread(target=work)
    turns = 0
    thread.start()
    while thread.is_alive():
        time.sleep(0)  # gives it to whoever wants it
        turns += 1
    return turns


def test_an_encoder_lets_other_threads_run() -> None:
    photo = draw_photo(3000, 2000)
    picture = Picture(np.asarray(photo))
    ours = turns_beside(lambda: encode_picture(picture, PictureFormat.JPEG, 80))
    assert ours > 3 * turns_beside(lambda: encode(photo, "JPEG", quality=80))


def test_odd_metadata_fill_no_log() -> None:
    entries = b"".join(struct.pack(">HHII", tag, 2, 60_000, 0) for tag in range(300, 900))
    content = encode(PHOTO, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 600) + entries + bytes(4))
    script = "import sys; from worker.codec import decode; decode(sys.stdin.buffer.read())"
    done = subprocess.run([sys.executable, "-c", script], input=content, capture_output=True, check=True)
    assert done.stderr == b""
