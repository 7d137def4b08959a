"""Photos to send: drawn, so that nothing has to be fetched, with slopes, edges and grain as photos have."""

import io
import math

import numpy as np
from PIL import Image

from worker.arrays import Pixels

GRAIN = 6.0
"""Standard deviation in levels of 255. Without it JPEG files would be unlike those of photos."""


def draw_pixels(width: int, height: int, seed: int = 0) -> Pixels:
    """A picture (H, W, 3), the same for the same seed."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (max(height // 48, 2), max(width // 48, 2), 3), dtype=np.uint8)
    soft = Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)
    hard = Image.fromarray(blocks[::-1].copy()).resize((width, height), Image.Resampling.NEAREST)
    picture = np.asarray(Image.blend(soft, hard, 0.3)).astype(np.float32)
    # Grain in strips: for 50 megapixels it would otherwise take a gigabyte of its own.
    for top in range(0, height, 256):
        strip = picture[top : top + 256]
        strip += random.standard_normal(strip.shape, np.float32) * np.float32(GRAIN)
    return picture.clip(0, 255).astype(np.uint8)


def draw_jpeg(width: int, height: int, seed: int = 0) -> bytes:
    """The picture as a JPEG file of quality 90."""
    buffer = io.BytesIO()
    Image.fromarray(draw_pixels(width, height, seed)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def side_for(megapixels: float) -> int:
    """Side in px of the square of about that many megapixels, a multiple of 16."""
    return 16 * max(round(math.sqrt(megapixels * 1e6) / 16), 1)
