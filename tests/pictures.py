"""Pictures that tests draw: with edges, flat areas, gradients and texture, so that losing any of them shows."""

import io

import numpy as np
import pillow_heif
from PIL import Image, ImageDraw


def draw_photo(width: int, height: int) -> Image.Image:
    """A landscape of a sort: sky, sun, hills and noise."""
    down, across = np.mgrid[0:height, 0:width].astype(np.float32)
    sky = np.stack([90 + 100 * down / height, 140 + 60 * across / width, 230 - 80 * down / height], axis=2)
    noise = np.random.default_rng(7).normal(0, 6, (height, width, 1))
    image = Image.fromarray(np.clip(sky + noise, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    pen.ellipse((width * 0.6, height * 0.1, width * 0.8, height * 0.35), fill=(250, 230, 120))
    pen.polygon(
        [
            (0, height),
            (width * 0.3, height * 0.45),
            (width * 0.55, height * 0.8),
            (width, height * 0.5),
            (width, height),
        ],
        fill=(40, 90, 50),
    )
    return image


def encode(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def encode_heic(image: Image.Image, quality: int = 95) -> bytes:
    """The picture as an iPhone would write it; Pillow alone has no such format."""
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=quality)
    return buffer.getvalue()


def decode(content: bytes) -> Image.Image:
    """A file as a loaded picture."""
    image = Image.open(io.BytesIO(content))
    image.load()
    return image
