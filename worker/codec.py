"""Image files to 8-bit sRGB pixels and back."""

import io
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np
import pillow_heif
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

from worker.arrays import Pixels
from worker.contract import MIN_SIDE, ErrorCode, PictureFormat
from worker.cores import usable_cores
from worker.errors import JobError
from worker.gpu_jpeg import QuickJpeg

pillow_heif.register_heif_opener()
# The service has checked the pixel count against its own limit before it took the file.
Image.MAX_IMAGE_PIXELS = None
# A file could fill the log: Pillow warns of each odd entry of its metadata, in words of the file's choice.
warnings.filterwarnings("ignore", module=r"PIL\.")

CODEC_THREADS = min(max(usable_cores(), 2), 16)
"""Threads that decode and encode. As many files are decoded at a time, whose sizes are not known before."""

SYSTEM_FILE_PX = 128 * 128

READ_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "GIF")

_START_OF_IMAGE, _SCAN = b"\xff\xd8", 0xDA
_SEQUENTIAL = (0xC0, 0xC1)
"""JPEG's frames that may be decoded row by row, and at a fraction of their size."""
_SEGMENTS = frozenset({*range(0xC0, 0xD0), *range(0xDA, 0xFF)})
"""JPEG's markers that are followed by their length."""

_SRGB = ImageCms.createProfile("sRGB")
_SIXTEEN_BIT_MODES = {"I;16", "I;16B", "I;16L", "I;16N", "I"}
_WHITE_IS_ZERO = 0
_PROFILE_MODES = {"RGB", "CMYK", "L", "LAB"}


@dataclass(frozen=True)
class Picture:
    """A decoded picture."""

    pixels_HWC: Pixels
    """uint8 sRGB (H, W, 3)."""
    alpha_HW: Pixels | None = None
    """uint8 opacity (H, W); none where the file is opaque."""

    @property
    def height(self) -> int:
        """In px."""
        return int(self.pixels_HWC.shape[0])

    @property
    def width(self) -> int:
        """In px."""
        return int(self.pixels_HWC.shape[1])


def decode(content: bytes, size: int | None = None, quick_jpeg: QuickJpeg | None = None) -> Picture:
    """The file's first picture upright, in sRGB, its longer side at most `size` px.

    `quick_jpeg` reads the JPEGs that it can. Raises `JobError` (broken_picture) for files that are damaged, truncated
    or of no format we read.
    """
    try:
        with Image.open(io.BytesIO(content), formats=READ_FORMATS) as file:
            full_size = file.size
            if size is not None:
                file.draft(None, (2 * size, 2 * size))
            image = quick_jpeg.read(file, content) if quick_jpeg and file.size == full_size else file
            _check_depth(image)
            _scale_transparent_level(image)
            _turn_upright(image)
            color, alpha = _split_alpha(image)
            rgb = _to_srgb(color, image.info.get("icc_profile"))
        return _picture(rgb, alpha, size)
    except JobError:
        raise
    except MemoryError as error:
        raise JobError(ErrorCode.TOO_LARGE, "The picture does not fit into memory: send a smaller one.") from error
    except Exception as error:
        # Pillow's plugins raise almost anything on damaged files: OSError, ValueError, struct.error, SyntaxError.
        raise JobError(ErrorCode.BROKEN_PICTURE, f"The file cannot be decoded: {error}.") from error


def decoding_px(pixels: int, size: int | None, *, is_one_pass_jpeg: bool) -> int:
    """Most pixels that `decode` holds of a picture of so many. `is_one_pass_jpeg`: see the function."""
    # The JPEG decoder itself reduces, to twice the size and a bit.
    return min(pixels, (4 * size) ** 2) if size and is_one_pass_jpeg else pixels


def is_one_pass_jpeg(content: bytes) -> bool:
    """Whether it is a JPEG of which the decoder holds some rows at a time.

    Of one in several scans, as progressive ones are, it holds every coefficient until the last, whatever the size asked
    for. Other files, and whatever is unusual in front of the picture, count as such.
    """
    if not content.startswith(_START_OF_IMAGE):
        return False
    position, channels = len(_START_OF_IMAGE), 0
    while position + 10 <= len(content) and content[position] == 0xFF and content[position + 1] in _SEGMENTS:
        if content[position + 1] == _SCAN:
            return content[position + 4] == channels
        if content[position + 1] in _SEQUENTIAL:
            channels = content[position + 9]
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return False


def _picture(rgb: Image.Image, alpha: Image.Image | None, size: int | None) -> Picture:
    if size is not None:
        target = _fit(rgb.size, size)
        rgb = rgb.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)
        alpha = alpha.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0) if alpha else None
    return Picture(np.asarray(rgb), np.asarray(alpha) if alpha else None)


def _fit(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Width and height reduced so that the longer is at most `longest`, and none is below what networks take."""
    scale = min(1.0, longest / max(size))
    return max(round(size[0] * scale), MIN_SIDE), max(round(size[1] * scale), MIN_SIDE)


def _turn_upright(image: Image.Image) -> None:
    """As its EXIF data say. They are at times damaged where the picture is not, which is then left as it lies."""
    # First: what is wrong with the pixels is to be told.
    image.load()
    # What Pillow raises about damaged EXIF data has no common class.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _check_depth(image: Image.Image) -> None:
    """Raises `JobError` for numbers of which nobody knows which is white: floats and 32-bit integers."""
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise JobError(ErrorCode.BROKEN_PICTURE, "The file has 32 bits a channel; up to 16 are read.")


def _scale_transparent_level(image: Image.Image) -> None:
    """A PNG names the level that is transparent in its own depth. Pillow scales the pixels to 8 bits, but not that."""
    level = image.info.get("transparency")
    if not isinstance(image, PngImageFile) or level is None or not image.tile:
        return
    raw_mode = image.tile[0].args
    if raw_mode in ("L;2", "L;4"):
        image.info["transparency"] = level * 255 // (2 ** int(str(raw_mode)[-1]) - 1)
    elif raw_mode == "RGB;16B":
        image.info["transparency"] = tuple(channel >> 8 for channel in level)


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    if not image.has_transparency_data:
        return image, None
    if image.mode in _SIXTEEN_BIT_MODES:
        visible_HW = np.asarray(image) != image.info["transparency"]
        return image, None if visible_HW.all() else Image.fromarray(visible_HW.astype(np.uint8) * 255)
    if image.mode == "La":  # multiplied by its alpha
        image = image.convert("LA")
    if image.mode not in ("RGBA", "LA"):
        image = image.convert("RGBA")
    alpha = image.getchannel("A")
    color = image.convert("L" if image.mode == "LA" else "RGB")
    opaque = alpha.getextrema() == (255, 255)
    return color, None if opaque else alpha


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode in _SIXTEEN_BIT_MODES:
        image = _reduce_to_8_bits(image)
    if image.mode in ("P", "YCbCr"):
        image = image.convert("RGB")
    if profile and image.mode in _PROFILE_MODES:
        converted = _apply_profile(image, profile)
        if converted is not None:
            return converted
    # Pillow would make a copy even of what is RGB.
    return image if image.mode == "RGB" else image.convert("RGB")


def _reduce_to_8_bits(image: Image.Image) -> Image.Image:
    """Of a grey picture of 16 bits. A TIFF may hold fewer in them, and may count from white to black."""
    tags = getattr(image, "tag_v2", {})
    (bits, *_), is_negative = tags.get(BITSPERSAMPLE, (16,)), tags.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO
    levels_HW = np.asarray(image).astype(np.float32) * (255.0 / (2**bits - 1))
    if is_negative:
        levels_HW = 255.0 - levels_HW
    return Image.fromarray(np.clip(levels_HW + 0.5, 0, 255).astype(np.uint8))


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """The picture in sRGB, or none if the profile is damaged or meant for other channels."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def resize_alpha(alpha_HW: Pixels, height: int, width: int) -> Pixels:
    """Opacity enlarged with the picture, bicubically."""
    return np.asarray(Image.fromarray(alpha_HW).resize((width, height), Image.Resampling.BICUBIC))


def encode(picture: Picture, file_format: PictureFormat, quality: int) -> bytes:
    """The picture as a file. Without an alpha channel in the format (JPEG) it is laid on white."""
    image = Image.fromarray(picture.pixels_HWC)
    if picture.alpha_HW is not None:
        alpha = Image.fromarray(picture.alpha_HW)
        if file_format is PictureFormat.JPEG:
            image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
        else:
            image.putalpha(alpha)
    with _open_buffer(image) as buffer:
        _save(image, buffer, file_format, quality)
        buffer.seek(0)
        return buffer.read()


def _open_buffer(image: Image.Image) -> BinaryIO:
    """Where a file is written to in memory.

    Pillow's JPEG encoder keeps all other threads from running unless it writes to a file of the system's: two pictures
    take it as long as one that way. For tiny ones such a file takes longer than they do.
    """
    if image.width * image.height < SYSTEM_FILE_PX or not hasattr(os, "memfd_create"):
        return io.BytesIO()
    return cast("BinaryIO", io.FileIO(os.memfd_create("picture"), "w+b"))


def _save(image: Image.Image, buffer: BinaryIO, file_format: PictureFormat, quality: int) -> None:
    match file_format:
        case PictureFormat.JPEG:
            # Painted strokes have saturated edges: halved colour resolution shows from 90 on.
            image.save(buffer, "JPEG", quality=quality, subsampling="4:4:4" if quality >= 90 else "4:2:0")
        case PictureFormat.PNG:
            # Level 1 is four times as fast as the default and a tenth larger on painted pictures.
            image.save(buffer, "PNG", compress_level=1)
        case PictureFormat.WEBP:
            image.save(buffer, "WEBP", quality=quality, method=2)
        case PictureFormat.AVIF:
            image.save(buffer, "AVIF", quality=quality, speed=8)
