"""What is done to a painting after the network: how much of it shows, whose colours it has, its transparency."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from worker.arrays import Pixels
from worker.codec import Picture, resize_alpha

_Values = npt.NDArray[np.float32]
_STRIP = 64
"""Rows."""
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""BT.601."""


def mix(photo_HWC: Pixels, painted_HWC: Pixels, strength: float) -> Pixels:
    """The painting over the photo: `strength` 1 is the painting alone, 0 the photo alone."""
    if strength >= 1.0:
        return painted_HWC
    return _in_strips(photo_HWC, painted_HWC, lambda photo, painted: photo + strength * (painted - photo))


def keep_color(photo_HWC: Pixels, painted_HWC: Pixels) -> Pixels:
    """The painting's brightness (BT.601 luma) with the photo's colour differences (Gatys et al. 2016)."""
    return _in_strips(photo_HWC, painted_HWC, _keep_color)


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


def _keep_color(photo_HWC: _Values, painted_HWC: _Values) -> _Values:
    change_HW = (painted_HWC - photo_HWC) @ _LUMA
    return photo_HWC + change_HW.astype(np.float32)[:, :, None]


def _in_strips(photo_HWC: Pixels, painted_HWC: Pixels, combine: Callable[[_Values, _Values], _Values]) -> Pixels:
    """`combine` of both as float32, some rows at a time: a large photo's whole numbers would take gigabytes."""
    levels_HWC = np.empty_like(photo_HWC)
    for top in range(0, len(photo_HWC), _STRIP):
        rows = slice(top, top + _STRIP)
        values = combine(photo_HWC[rows].astype(np.float32), painted_HWC[rows].astype(np.float32))
        levels_HWC[rows] = np.clip(values + 0.5, 0, 255)
    return levels_HWC
