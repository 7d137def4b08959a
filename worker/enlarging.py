"""Photos enlarged tile by tile: tiles of one size from all photos of a batch go to the device together."""

from collections.abc import Iterator, Sequence
from math import isqrt, prod

import numpy as np

from worker.arrays import Pixels
from worker.careful import CarefulNetwork
from worker.tiles import Tile, even_side, plan_even_spans, plan_even_tiles

UPSCALE_TILE = 320
"""Most px of a tile's side. Larger tiles have less overlap to compute twice, and photos up to it are but one."""
STEP = 16
"""A tile's sides are multiples of it, so that photos of similar sizes have tiles of one size."""

Place = tuple[int, Tile]
"""A tile with the number of its photo."""


def enlarge_in_tiles(
    photos: Sequence[Pixels], network: CarefulNetwork, factor: int, overlap: int, tile_px: int, batch_px: int
) -> list[Pixels]:
    """Photos (H, W, 3) of any sizes enlarged to (H * factor, W * factor, 3), in memory that grows with them alone."""
    results = [np.empty((h * factor, w * factor, 3), np.uint8) for h, w, _ in (photo.shape for photo in photos)]
    for batch in _plan_batches(photos, overlap, isqrt(tile_px), batch_px):
        tiles_BHWC = np.stack([photos[index][tile.read] for index, tile in batch])
        for (index, tile), enlarged_HWC in zip(batch, network.enlarge(tiles_BHWC), strict=True):
            large = tile.enlarged(factor, *results[index].shape[:2])
            results[index][large.kept] = enlarged_HWC[large.inner]
    return results


def tile_shape(height: int, width: int, side: int, overlap: int) -> tuple[int, int]:
    """Height and width of each of a photo's tiles, at most `side`."""
    return even_side(height, side, overlap, STEP), even_side(width, side, overlap, STEP)


def tiled_size(height: int, width: int, side: int, overlap: int) -> tuple[int, int]:
    """Height and width that a photo's tiles have side by side."""
    rows, columns = (
        sum(span.length for span in plan_even_spans(length, side, overlap, STEP)) for length in (height, width)
    )
    return rows, columns


def _plan_batches(photos: Sequence[Pixels], overlap: int, side: int, batch_px: int) -> Iterator[list[Place]]:
    by_shape: dict[tuple[int, int], list[Place]] = {}
    for index, photo_HWC in enumerate(photos):
        height, width, _ = photo_HWC.shape
        for tile in plan_even_tiles(height, width, side, overlap, STEP):
            by_shape.setdefault(tile.shape, []).append((index, tile))
    for shape, places in by_shape.items():
        size = max(batch_px // prod(shape), 1)
        for start in range(0, len(places), size):
            yield places[start : start + size]
