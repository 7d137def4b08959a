"""What is done to a painting after the network: how much of it shows, whose colours it has, its transparency."""

import numpy as np
import numpy.typing as npt

from worker.arrays import Pixels
from worker.codec import Picture, resize_alpha

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""BT.601."""


def mix(photo_HWC: Pixels, painted_HWC: Pixels, strength: float) -> Pixels:
    """The painting over the photo: `strength` 1 is the painting alone, 0 the photo alone."""
    if strength >= 1.0:
        return painted_HWC
    photo = photo_HWC.astype(np.float32)
    return _to_levels(photo + strength * (painted_HWC.astype(np.float32) - photo))


def keep_color(photo_HWC: Pixels, painted_HWC: Pixels) -> Pixels:
    """The painting's brightness (BT.601 luma) with the photo's colour differences (Gatys et al. 2016)."""
    photo = photo_HWC.astype(np.float32)
    change_HW = painted_HWC.astype(np.float32) @ _LUMA - photo @ _LUMA
    return _to_levels(photo + change_HW[:, :, None])


def compose(photo: Picture, painted_HWC: Pixels, strength: float, preserve_color: bool) -> Picture:
    """What is given back of a photo that the network has painted: `keep_color` if asked for, `mix`, the opacity."""
    if preserve_color:
        painted_HWC = keep_color(photo.pixels_HWC, painted_HWC)
    return with_alpha_of(photo, mix(photo.pixels_HWC, painted_HWC, strength))


def with_alpha_of(photo: Picture, pixels_HWC: Pixels) -> Picture:
    """A result with the photo's opacity, enlarged to the result's size."""
    if photo.alpha_HW is None:
        return Picture(pixels_HWC)
    height, width = pixels_HWC.shape[:2]
    return Picture(pixels_HWC, resize_alpha(photo.alpha_HW, height, width))


def _to_levels(values: npt.NDArray[np.float32]) -> Pixels:
    levels: Pixels = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return levels
