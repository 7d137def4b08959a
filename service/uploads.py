"""Uploaded bytes -> `Upload`: format, size and limits, read from the file's header alone. No pixel is decoded here."""

import hashlib
import io
import warnings
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from PIL import ExifTags, Image, UnidentifiedImageError
from pillow_heif import register_heif_opener

from service.problems import (
    AnimatedPicture,
    BrokenPicture,
    EmptyBody,
    TooFewPixels,
    TooManyPixels,
    UnsupportedPicture,
)
from service.structure import check_structure
from worker.contract import MIN_SIDE

register_heif_opener()
# Sizes are checked here, against the operator's limit, before anything could be decoded.
Image.MAX_IMAGE_PIXELS = None
# A file could fill the log: Pillow warns of each odd entry of its metadata, in words of the file's choice.
warnings.filterwarnings("ignore", module=r"PIL\.")

READ: Final = "JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or still GIF"
TRANSPOSED: Final = range(5, 9)
"""EXIF orientations that exchange width and height."""
UPRIGHT: Final = ("TIFF", "HEIF")
"""Formats of which Pillow gives the upright size by itself."""
ANIMATED: Final = frozenset({"gif", "webp", "png", "avif"})
"""Formats whose further frames are an animation. Those of TIFF are pages, of MPO and HEIC further shots."""


class InputFormat(StrEnum):
    """File formats that are read. The values are Pillow's names in lower case."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    AVIF = "avif"
    HEIF = "heif"
    TIFF = "tiff"
    BMP = "bmp"
    GIF = "gif"


@dataclass(frozen=True)
class Upload:
    """A picture whose header has been read and found within the limits."""

    sha256: str
    """Of the file, in hexadecimal."""
    format: InputFormat
    width: int
    """In px, upright: after the EXIF orientation."""
    height: int
    has_alpha: bool


def validate(data: bytes, max_pixels: int) -> Upload:
    """Reads the header of an uploaded file.

    Raises `EmptyBody`, `UnsupportedPicture`, `AnimatedPicture`, `BrokenPicture`, `TooFewPixels`, or `TooManyPixels`
    over `max_pixels`.
    """
    if not data:
        raise EmptyBody
    found = sniff(data)
    if found is None:
        raise UnsupportedPicture(f"The upload is not a picture; send {READ}.")
    check_structure(data, found, max_pixels)
    image = _open(data, found)
    _check_size(image.width, image.height, max_pixels)
    if found in ANIMATED and _is_animated(image):
        raise AnimatedPicture.of_format(found)
    width, height = _upright(image)
    digest = hashlib.sha256(data).hexdigest()
    return Upload(digest, found, width, height, _has_alpha(image))


def sniff(data: bytes) -> InputFormat | None:
    """The format that the first bytes announce, or none of those that are read."""
    if data[4:8] == b"ftyp":
        return _sniff_brand(data)
    if data[:4] == b"RIFF":
        return InputFormat.WEBP if data[8:12] == b"WEBP" else None
    signatures = {
        b"\xff\xd8\xff": InputFormat.JPEG,
        b"\x89PNG\r\n\x1a\n": InputFormat.PNG,
        b"GIF87a": InputFormat.GIF,
        b"GIF89a": InputFormat.GIF,
        b"BM": InputFormat.BMP,
        b"II*\0": InputFormat.TIFF,
        b"MM\0*": InputFormat.TIFF,
        b"II+\0": InputFormat.TIFF,
        b"MM\0+": InputFormat.TIFF,
    }
    return next((found for signature, found in signatures.items() if data.startswith(signature)), None)


def _sniff_brand(data: bytes) -> InputFormat | None:
    brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    if b"avif" in brands or b"avis" in brands:
        return InputFormat.AVIF
    if any(brand in brands for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")):
        return InputFormat.HEIF
    return None


def _open(data: bytes, found: InputFormat) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=[found.upper()])
    except UnidentifiedImageError as error:
        raise BrokenPicture(f"The {found.upper()} file's header is damaged or incomplete; send it again.") from error
    # Pillow's parsers let struct.error, ValueError, OverflowError, EOFError, MemoryError and others through.
    except Exception as error:
        raise BrokenPicture(f"The {found.upper()} file cannot be read; send it again.") from error


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception as error:
        raise BrokenPicture("The file's frames cannot be read; send it again.") from error


def _has_alpha(image: Image.Image) -> bool:
    try:
        return image.has_transparency_data
    except Exception as error:  # a palette picture without a palette: AssertionError
        raise BrokenPicture("The file's transparency cannot be read; send it again.") from error


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooManyPixels(
            f"The picture has {width} x {height} px; at most {max_pixels / 1e6:g} megapixels are taken.",
            extensions={"max_pixels": max_pixels},
        )
    if min(width, height) < MIN_SIDE:
        raise TooFewPixels.of_size(width, height)


def _upright(image: Image.Image) -> tuple[int, int]:
    if image.format in UPRIGHT:
        return image.size
    try:
        # Not PngImageFile.getexif: it decodes the whole picture where the header has no EXIF.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF does not make the picture unreadable
        orientation = None
    return (image.height, image.width) if orientation in TRANSPOSED else image.size
