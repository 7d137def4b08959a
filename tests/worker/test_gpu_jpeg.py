"""JPEGs for a GPU: which ones go there and what becomes of them, on any machine; and on a GPU what it decodes."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from tests.pictures import draw_photo, encode
from worker.arrays import Pixels
from worker.codec import decode
from worker.contract import ErrorCode
from worker.errors import JobError
from worker.gpu_jpeg import GpuJpegDecoder, QuickJpeg, find_quick_jpeg, measure_quick_jpeg

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

PHOTO = draw_photo(97, 61)
PLAIN = encode(PHOTO, "JPEG", quality=95)


class Decoder:
    """In place of a GPU; marks what it has decoded."""

    MARK = 7

    def __init__(self, error: Exception | None = None) -> None:
        self.decoded = 0
        self._error = error

    def __call__(self, content: bytes) -> Pixels:
        self.decoded += 1
        if self._error:
            raise self._error
        with Image.open(io.BytesIO(content)) as image:
            pixels_HWC = np.array(image)
        pixels_HWC[0, 0] = self.MARK
        return pixels_HWC


@pytest.fixture
def codec() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as codec:
        yield codec


def test_a_jpeg_is_decoded_by_the_gpu_and_looks_as_pillows() -> None:
    decoder = Decoder()
    picture = decode(PLAIN, quick_jpeg=QuickJpeg(decoder, PHOTO.width * PHOTO.height))
    assert (picture.pixels_HWC[0, 0] == Decoder.MARK).all()
    assert np.array_equal(picture.pixels_HWC[1:], decode(PLAIN).pixels_HWC[1:])
    assert decoder.decoded == 1


def test_orientation_and_colour_profile_are_applied_to_what_the_gpu_decoded() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = encode(PHOTO, "JPEG", quality=95, exif=exif, icc_profile=profile)
    decoder = Decoder()
    picture = decode(content, quick_jpeg=QuickJpeg(decoder, 0))
    expected = decode(content)
    assert decoder.decoded == 1
    assert picture.pixels_HWC.shape == expected.pixels_HWC.shape == (97, 61, 3)
    assert np.array_equal(picture.pixels_HWC[1:, :], expected.pixels_HWC[1:, :])


@pytest.mark.parametrize(
    "content",
    [
        encode(PHOTO, "PNG"),
        encode(PHOTO.convert("L"), "JPEG"),
        encode(PHOTO.convert("CMYK"), "JPEG"),
        encode(PHOTO, "JPEG", keep_rgb=True),
        encode(PHOTO.resize((60, 40)), "JPEG"),
    ],
    ids=["png", "grey", "cmyk", "rgb", "small"],
)
def test_pillow_reads_what_is_small_or_unusual(content: bytes) -> None:
    decoder = Decoder()
    picture = decode(content, quick_jpeg=QuickJpeg(decoder, PHOTO.width * PHOTO.height))
    assert decoder.decoded == 0
    assert np.array_equal(picture.pixels_HWC, decode(content).pixels_HWC)


def test_a_reduced_photo_is_read_in_reduced_size_by_pillow() -> None:
    decoder = Decoder()
    content = encode(draw_photo(400, 300), "JPEG")
    picture = decode(content, size=64, quick_jpeg=QuickJpeg(decoder, 0))
    assert decoder.decoded == 0
    assert picture.pixels_HWC.shape == (48, 64, 3)


def test_a_cut_off_file_is_refused_whatever_a_gpu_would_make_of_it() -> None:
    decoder = Decoder()
    with pytest.raises(JobError) as failure:
        decode(PLAIN[: len(PLAIN) // 2], quick_jpeg=QuickJpeg(decoder, 0))
    assert failure.value.code is ErrorCode.BROKEN_PICTURE
    assert decoder.decoded == 0


@pytest.mark.parametrize("error", [RuntimeError("nvjpegDecode failed: 5"), torch.OutOfMemoryError("CUDA")])
def test_pillow_reads_what_the_gpu_refuses(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    picture = decode(PLAIN, quick_jpeg=QuickJpeg(Decoder(error), 0))
    assert np.array_equal(picture.pixels_HWC, decode(PLAIN).pixels_HWC)
    assert "the GPU refuses" in caplog.text


def test_a_decoder_that_is_quicker_is_used_from_the_size_on_where_it_is(codec: ThreadPoolExecutor) -> None:
    def decode_large_at_once(content: bytes) -> Pixels:
        with Image.open(io.BytesIO(content)) as image:
            if image.width < 512:
                image.resize((2048, 2048), Image.Resampling.LANCZOS)
        return np.zeros((1, 1, 3), np.uint8)

    found = measure_quick_jpeg(decode_large_at_once, codec, threads=2, sides=(1024, 512, 256, 128))
    assert found is not None
    assert found.least_px == 512 * 512


def test_a_decoder_that_is_no_quicker_is_not_used(codec: ThreadPoolExecutor) -> None:
    def decode_thrice(content: bytes) -> Pixels:
        for _ in range(3):
            with Image.open(io.BytesIO(content)) as image:
                pixels_HWC = np.array(image)
        return pixels_HWC

    assert measure_quick_jpeg(decode_thrice, codec, threads=2, sides=(512, 256)) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_pillow_goes_on(codec: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture) -> None:
    assert find_quick_jpeg("cuda:0", codec, 2) is None
    assert "JPEGs cannot be decoded on cuda:0" in caplog.text


@needs_gpu
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_a_gpu_decodes_as_pillow_does(subsampling: str) -> None:
    content = encode(draw_photo(640, 427), "JPEG", quality=95, subsampling=subsampling)
    decoder = GpuJpegDecoder("cuda:0")
    expected_HWC = decode(content).pixels_HWC.astype(int)
    with ThreadPoolExecutor(4) as codec:
        for pixels_HWC in codec.map(decoder, [content] * 16):
            assert pixels_HWC.shape == expected_HWC.shape
            assert np.abs(pixels_HWC.astype(int) - expected_HWC).mean() < 2


@needs_gpu
def test_a_gpu_says_that_a_file_is_damaged() -> None:
    with pytest.raises(RuntimeError):
        GpuJpegDecoder("cuda:0")(b"\xff\xd8" + bytes(1000) + b"\xff\xd9")
