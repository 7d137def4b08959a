"""Proves a network on a picture of known content before anybody's photo goes through it."""

import numpy as np

from worker.arrays import Norms, Pixels
from worker.errors import ZooError
from worker.runtimes import Network

SIDE = 64
"""Px of the golden picture."""
LEAST_CONTRAST = 3
"""Levels of 255 between the darkest and the lightest value of any result that is a picture."""


def golden_picture() -> Pixels:
    """A picture (1, 64, 64, 3) with all there is in photos: slopes in each colour, edges, and fine detail."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    slopes_HWC = np.stack([rows * 4, columns * 4, 255 - 2 * (rows + columns)], axis=-1)
    disc_HW = (rows - 40) ** 2 + (columns - 22) ** 2 < 12**2
    slopes_HWC[disc_HW] = (230, 40, 60)
    slopes_HWC[4:20, 40:60] = np.where((rows + columns) % 2, 255, 0)[4:20, 40:60, None]
    return slopes_HWC.clip(0, 255).astype(np.uint8)[None]


def prove_painting(network: Network, norm_P: Norms) -> None:
    """Paints the golden picture. Raises `ZooError` if that is no picture."""
    if not np.isfinite(norm_P).all():
        raise ZooError("its vector holds values that are no numbers")
    photo_BHWC = golden_picture()
    _judge(network.paint(photo_BHWC, norm_P[None]), photo_BHWC.shape)


def prove_enlarging(network: Network, factor: int) -> None:
    """Enlarges the golden picture. Raises `ZooError` if that is no picture."""
    _judge(network.enlarge(golden_picture()), (1, SIDE * factor, SIDE * factor, 3))


def _judge(pixels_BHWC: Pixels, expected: tuple[int, ...]) -> None:
    if pixels_BHWC.shape != expected:
        raise ZooError(f"the golden picture comes out as {pixels_BHWC.shape} instead of {expected}")
    if int(pixels_BHWC.max()) - int(pixels_BHWC.min()) < LEAST_CONTRAST:
        raise ZooError("the golden picture comes out in a single colour")
