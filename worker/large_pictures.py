"""Photos too large to be painted in one piece: stage by stage, tile by tile, with the whole photo's statistics.

A trunk normalises each layer by its mean and variance over the whole photo. Taken from each tile, or from a reduced
photo, they are so far off that the painting is another one (`python -m benchmarks.large`), so they are measured on all
of it. Each layer's need those of the layers before it. So the layers at full resolution are surveyed tile by tile, once
for each; the residual blocks see a sixteenth of the places, few enough to keep what each convolution makes of them.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from worker.arrays import Norms, Pixels
from worker.careful import CarefulNetwork
from worker.runtimes import Values
from worker.runtimes.methods import Method
from worker.tiles import Tile, plan_even_tiles

Held = npt.NDArray[np.float16]
"""Features between stages."""

REDUCTION = 4
"""How many times smaller a side is that the residual blocks see."""
HELD: Final = np.float16
"""Type of the features that are kept between stages, three times 64 channels: what a photo of 50 megapixels costs most.
Stages compute in float32; rounding what they leave is less than the painting's own 8 bits show.
"""
SURVEYS_DOWN = 3
SURVEYS_UP = 2
"""Layers before the blocks and behind them, and so the surveys that find their statistics."""
STAGE_TILE_PX = 1_000_000
"""Tiles need not be larger: stages see only some pixels beyond a tile, so that little is computed twice."""
STAGES_WITH_REACH = (Method.DOWN_HELD, Method.BLOCK_FIRST, Method.BLOCK_SECOND, Method.UP_HELD)


def can_paint_in_tiles(network: CarefulNetwork) -> bool:
    """Whether a trunk's archive has the stages, each of which sees only so far."""
    return network.blocks > 0 and all(network.reach(method) is not None for method in STAGES_WITH_REACH)


class LargePainting:
    """A photo on its way to a painting."""

    def __init__(self, photo_HWC: Pixels, network: CarefulNetwork, norm_P: Norms, tile_px: int) -> None:
        """`tile_px`: most pixels of the photo, or features of so many, that go to the device at once."""
        self._photo_HWC = photo_HWC
        self._network = network
        self._norm_1P = norm_P[None]
        self._side = isqrt(min(tile_px, STAGE_TILE_PX)) // REDUCTION
        self._statistics_2C = np.stack([np.zeros(norm_P.size // 2), np.ones(norm_P.size // 2)]).astype(np.float32)

    def paint(self) -> Pixels:
        """The painting, of the photo's size."""
        channels = self._survey_before_blocks()
        features_1CHW = self._down()
        # Each stage would keep what it needed for the next tile, though none is to come.
        self._network.free_memory()
        for block in range(self._network.blocks):
            channels = self._paint_block(block, features_1CHW, channels)
            self._network.free_memory()
        self._survey_behind_blocks(features_1CHW)
        painted_HWC = self._up(features_1CHW)
        self._network.free_memory()
        return painted_HWC

    def _survey_before_blocks(self) -> int:
        """Finds the first layers' statistics; returns how many channels they have."""
        tiles = self._plan(Method.DOWN_HELD, REDUCTION)
        counts = [_kept_by_first_layers(self._of_photo(tile)) for tile in tiles]
        for _ in range(SURVEYS_DOWN):
            moments_2C = self._pool([self._survey_down(tile) for tile in tiles], counts)
            self._correct(moments_2C, 0)
        return int(moments_2C.shape[1])

    def _survey_behind_blocks(self, features_1CHW: Held) -> None:
        tiles = self._plan(Method.UP_HELD)
        for _ in range(SURVEYS_UP):
            moments_2C = self._pool(
                [self._survey_up(tile, features_1CHW) for tile in tiles], [(tile.kept_px,) for tile in tiles]
            )
            self._correct(moments_2C, self._statistics_2C.shape[1] - moments_2C.shape[1])

    def _paint_block(self, block: int, features_1CHW: Held, channels: int) -> int:
        """Changes the features in place. Takes and returns how many channels' statistics are known."""
        first_1CHW = self._convolve(Method.BLOCK_FIRST, block, features_1CHW)
        channels = self._measure(first_1CHW, channels)
        second_1CHW = self._convolve(Method.BLOCK_SECOND, block, first_1CHW, self._norm_1P, self._statistics_2C)
        channels = self._measure(second_1CHW, channels)
        vectors = (self._norm_1P, self._statistics_2C)
        for tile in self._plan(Method.BLOCK_SUM):
            parts = (_read(features_1CHW, tile), _read(second_1CHW, tile))
            sum_1CHW = self._network.stage(Method.BLOCK_SUM, *parts, *vectors, block=block)
            # The last tiles begin within those before them, where the block must not be added twice.
            _keep(features_1CHW, tile, sum_1CHW)
        return channels

    def _convolve(self, method: Method, block: int, features_1CHW: Held, *vectors: Values) -> Held:
        result_1CHW = np.empty_like(features_1CHW)
        for tile in self._plan(method):
            part_1CHW = self._network.stage(method, _read(features_1CHW, tile), *vectors, block=block)
            _keep(result_1CHW, tile, part_1CHW)
        return result_1CHW

    def _measure(self, features_1CHW: Held, first: int) -> int:
        """Takes means and variances of channels into the statistics. One at a time: none is copied whole."""
        for channel, held_HW in enumerate(torch.from_numpy(features_1CHW[0]), start=first):
            values_HW = held_HW.float().numpy()
            self._statistics_2C[:, channel] = values_HW.mean(), values_HW.var()
        return first + len(features_1CHW[0])

    def _plan(self, method: Method, px_per_place: int = 1) -> list[Tile]:
        """Tiles of the reduced photo, which overlap by as much as a stage sees."""
        sees = self._network.reach(method) if method in STAGES_WITH_REACH else 0
        overlap = -(-(sees or 0) // px_per_place)
        height, width = (-(-side // REDUCTION) for side in self._photo_HWC.shape[:2])
        return plan_even_tiles(height, width, self._side, overlap)

    def _of_photo(self, tile: Tile) -> Tile:
        height, width, _ = self._photo_HWC.shape
        return tile.enlarged(REDUCTION, height, width)

    def _survey_down(self, tile: Tile) -> Values:
        on_photo = self._of_photo(tile)
        pixels_1HWC = self._photo_HWC[on_photo.read][None]
        return self._network.stage(Method.SURVEY_DOWN, pixels_1HWC, _mask(on_photo), self._norm_1P, self._statistics_2C)

    def _survey_up(self, tile: Tile, features_1CHW: Held) -> Values:
        part_1CHW = _read(features_1CHW, tile)
        return self._network.stage(Method.SURVEY_UP, part_1CHW, _mask(tile), self._norm_1P, self._statistics_2C)

    @staticmethod
    def _pool(moments: Sequence[Values], counts: Sequence[Sequence[int]]) -> Values:
        """Means (2, C) over the whole photo of what was surveyed in its tiles.

        `counts`: how many values each tile has, layer by layer, of which each has twice the channels of the one before;
        or one number, of which that of all layers is a fixed multiple.
        """
        counts_TL = np.array(counts, np.float64)
        channels_L = 2 ** np.arange(counts_TL.shape[1])
        moments_T2C = np.stack(moments)
        weights_TC = np.repeat(counts_TL, channels_L * (moments_T2C.shape[2] // channels_L.sum()), axis=1)
        weights_T1C = (weights_TC / weights_TC.sum(axis=0))[:, None]
        pooled_2C: Values = (moments_T2C * weights_T1C).sum(axis=0)
        return pooled_2C

    def _correct(self, moments_2C: Values, first: int) -> None:
        """Takes means of the deviation from the means assumed so far, and of its square, into the statistics."""
        channels = slice(first, first + moments_2C.shape[1])
        self._statistics_2C[1, channels] = np.maximum(moments_2C[1] - moments_2C[0] ** 2, 0)
        self._statistics_2C[0, channels] += moments_2C[0]

    def _down(self) -> Held:
        tiles = self._plan(Method.DOWN_HELD, REDUCTION)
        features_1CHW: Held = np.empty((1, 0, 0, 0), HELD)
        for tile in tiles:
            pixels_1HWC = self._photo_HWC[self._of_photo(tile).read][None]
            part_1CHW = self._network.stage(Method.DOWN_HELD, pixels_1HWC, self._norm_1P, self._statistics_2C)
            if not features_1CHW.size:
                height, width = tiles[-1].rows.stop, tiles[-1].columns.stop
                features_1CHW = np.empty((1, part_1CHW.shape[1], height, width), HELD)
            _keep(features_1CHW, tile, part_1CHW)
        return features_1CHW

    def _up(self, features_1CHW: Held) -> Pixels:
        painted_HWC = np.empty_like(self._photo_HWC)
        for tile in self._plan(Method.UP_HELD):
            on_photo = self._of_photo(tile)
            (part_HWC,) = self._network.finish(
                _read(features_1CHW, tile), self._photo_HWC[on_photo.read][None], self._norm_1P, self._statistics_2C
            )
            painted_HWC[on_photo.kept] = part_HWC[on_photo.inner]
        return painted_HWC


def _kept_by_first_layers(on_photo: Tile) -> list[int]:
    """Values of a channel that are kept of a tile behind each of the first layers: later ones halve a side, rounded up.

    In tiles at the lower and right edge that is not in proportion.
    """
    height, width = on_photo.kept_shape
    strides = [2**layer for layer in range(SURVEYS_DOWN)]
    return [-(-height // stride) * -(-width // stride) for stride in strides]


def _read(held_1CHW: Held, tile: Tile) -> Values:
    """What a stage reads for a tile. By torch: NumPy converts float16 one value at a time."""
    values_1CHW: Values = torch.from_numpy(held_1CHW)[..., *tile.read].float().contiguous().numpy()
    return values_1CHW


def _keep(held_1CHW: Held, tile: Tile, values_1CHW: Values) -> None:
    """Keeps what a stage made of a tile."""
    torch.from_numpy(held_1CHW)[..., *tile.kept].copy_(torch.from_numpy(values_1CHW)[..., *tile.inner])


def _mask(tile: Tile) -> Values:
    """(1, 1, H, W): 1 where a tile is kept, so that pixels that lie in two tiles are counted once."""
    mask_11HW = np.zeros((1, 1, *tile.shape), np.float32)
    mask_11HW[..., *tile.inner] = 1
    return mask_11HW
