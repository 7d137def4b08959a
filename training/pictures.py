"""Picture files to tensors and back."""

import io
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from training.checkpoint import write_whole
from training.errors import StyleImageError

# What Pillow raises for damaged files besides OSError; the last two while it rewrites damaged EXIF of a turned photo.
_DAMAGED = (
    *(RuntimeError, SyntaxError, ValueError, EOFError, LookupError, struct.error, Image.DecompressionBombError),
    *(TypeError, AttributeError),
)

_SRGB = ImageCms.createProfile("sRGB")
_PROFILE_MODES = {"RGB", "CMYK", "L", "LAB"}


def read_rgb(path: Path, largest_side: int | None = None) -> Image.Image:
    """The picture upright, in sRGB, no longer than `largest_side` px a side. Raises `OSError` if unreadable.

    Colour profiles are converted, and 32 bits a channel refused, as by `worker.codec`. What is transparent lies on
    white.
    """
    try:
        with Image.open(path) as image:
            if largest_side is not None:
                image.draft("RGB", (largest_side, largest_side))
            _check_depth(image)
            upright = _to_rgb(ImageOps.exif_transpose(image))
    except _DAMAGED as error:
        raise OSError(f"damaged picture ({error})") from error
    if largest_side is not None and max(upright.size) > largest_side:
        upright.thumbnail((largest_side, largest_side), Image.Resampling.BICUBIC)
    return upright


def _check_depth(image: Image.Image) -> None:
    """Raises `OSError` for numbers of which nobody knows which is white: floats and 32-bit integers."""
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise OSError("it has 32 bits a channel; up to 16 are read")


def _to_rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        # Pillow itself clips levels of 16 bits at 255.
        levels_HW = (np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8)
        return _to_srgb(Image.fromarray(levels_HW), profile)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        color = _to_srgb(image.convert("L") if image.mode == "LA" else rgba.convert("RGB"), profile)
        color.putalpha(rgba.getchannel("A"))
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), color).convert("RGB")
    return _to_srgb(image, profile)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode in ("P", "YCbCr"):
        image = image.convert("RGB")
    if profile and image.mode in _PROFILE_MODES:
        converted = _apply_profile(image, profile)
        if converted is not None:
            return converted
    return image.convert("RGB")


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """The picture in sRGB, or none if the profile is damaged or meant for other channels."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def read_square(path: Path, size: int) -> Tensor:
    """The middle of a picture as float (3, size, size) in [0, 1]. Raises `OSError` if unreadable."""
    photo = read_rgb(path)
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    square = photo.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return to_picture(square)


def read_style_image(path: Path, size: int) -> Tensor:
    """The style image (3, H, W) in [0, 1], its longer side `size` px. Raises `StyleImageError`."""
    try:
        image = read_rgb(path)
    except OSError as error:
        raise StyleImageError(f"Cannot read the style image {path}: {error}.") from error
    scale = size / max(image.size)
    resized = image.resize([max(round(side * scale), 32) for side in image.size], Image.Resampling.LANCZOS)
    return to_picture(resized)


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB picture as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def to_picture(image: Image.Image) -> Tensor:
    """An RGB picture as float (3, H, W) in [0, 1]."""
    return to_tensor(image).float() / 255


def to_image(picture_3HW: Tensor) -> Image.Image:
    """A float picture in [0, 1] as an RGB image."""
    levels_HW3 = (picture_3HW.detach().float().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    return Image.fromarray(levels_HW3.numpy())


def through_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """What is left of an RGB picture that has been a JPEG of Pillow's `quality`, colours at half the resolution."""
    with io.BytesIO() as file:
        image.save(file, "JPEG", quality=quality)
        with Image.open(file) as saved:
            return saved.convert("RGB")


def save_image(image: Image.Image, path: Path) -> None:
    """Writes a JPEG or PNG, whole or not at all. Raises `CheckpointError`."""
    write_whole(path, lambda temporary: image.save(temporary, quality=90))
