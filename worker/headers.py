"""What a picture file's header says, read without decoding the picture."""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from worker.codec import READ_FORMATS
from worker.contract import MIN_SIDE, ErrorCode, PictureFormat
from worker.errors import JobError

_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
"""Formats whose further frames are an animation; those of TIFF are pages, of HEIC further shots."""
_JPEG = ("JPEG", "MPO")
"""Phones and cameras put a further shot behind a JPEG."""
_TRANSPOSED = (5, 6, 7, 8)


@dataclass(frozen=True)
class Header:
    """A picture as its file announces it."""

    width: int
    """In px, upright."""
    height: int
    format: PictureFormat
    """The file's own format, or the nearest that is written."""
    is_one_pass_jpeg: bool
    """Whether it can be reduced while it is decoded, which progressive ones cannot."""


def read_header(file: Path | bytes) -> Header:
    """The header of a file that can be worked on. Raises `JobError` for what is none."""
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=READ_FORMATS) as image:
            animated = image.format in _ANIMATED and getattr(image, "is_animated", False)
            is_one_pass = image.format in _JPEG and not image.info.get("progressive")
            header = Header(*_upright(image), _written_format(image), is_one_pass)
    except UnidentifiedImageError as error:
        raise JobError(ErrorCode.BROKEN_PICTURE, "The file is no picture, or its beginning is damaged.") from error
    except OSError as error:
        raise JobError(ErrorCode.BROKEN_PICTURE, f"The file cannot be read: {error.strerror or error}.") from error
    except Exception as error:
        # Pillow's plugins raise almost anything on damaged files.
        raise JobError(ErrorCode.BROKEN_PICTURE, f"The file cannot be read: {error}.") from error
    if animated:
        raise JobError(ErrorCode.BROKEN_PICTURE, "The file is an animation; still pictures are taken.")
    if min(header.width, header.height) < MIN_SIDE:
        too_small = f"The picture has {header.width} x {header.height} px; each side must have at least {MIN_SIDE}."
        raise JobError(ErrorCode.BROKEN_PICTURE, too_small)
    return header


def _upright(image: Image.Image) -> tuple[int, int]:
    if image.format in ("TIFF", "HEIF"):  # their readers give the upright size by themselves
        return image.size
    try:
        # Not PngImageFile.getexif: it decodes the whole picture where the header has no EXIF.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF does not make the picture unreadable
        orientation = None
    return (image.height, image.width) if orientation in _TRANSPOSED else image.size


def _written_format(image: Image.Image) -> PictureFormat:
    if image.format == "HEIF":
        return PictureFormat.PNG if image.has_transparency_data else PictureFormat.JPEG
    name = "jpeg" if image.format in _JPEG else (image.format or "").lower()
    return PictureFormat(name) if name in list(PictureFormat) else PictureFormat.PNG
