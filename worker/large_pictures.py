"""Photos too large to be painted in one piece: stage by stage, tile by tile, with the whole photo's statistics.

A trunk normalises each layer by its mean and variance over the whole photo. Taken from each tile, or from a reduced
photo, they are so far off that the painting is another one (`python -m benchmarks.large`), so they are measured on all
of it. Each layer's need those of the layers before it. What a layer makes at half the photo's resolution or less is few
enough values to be kept until it has been measured; the two layers at full resolution are surveyed tile by tile, and
computed again for the layer behind them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import torch

from worker.arrays import Norms, Pixels
from worker.careful import CarefulNetwork
from worker.runtimes import Values
from worker.runtimes.methods import Method
from worker.tiles import Tile, plan_even_tiles

Held = npt.NDArray[np.float16]
"""Features between stages: (1, C, H, W)."""

REDUCTION = 4
"""How many times smaller a side is of what the residual blocks see. Tiles are cut between the places there."""
HELD: Final = np.float16
"""Type of the features that are kept between stages: what a photo of 50 megapixels costs most, 24 bytes a pixel.
Stages compute in float32; rounding what they leave is less than the painting's own 8 bits show. Features that it
cannot hold are as large as it can: as infinities they would take all others of their channel with them.
"""
MOST_HELD: Final = float(np.finfo(HELD).max)
STAGE_TILE_PX = 1_000_000
"""Tiles need not be larger: stages see only some pixels beyond a tile, so that little is computed twice."""


@dataclass(frozen=True)
class Scale:
    """Px of a stage's input and of its result for each place of the residual blocks, along one axis."""

    input: int = 1
    result: int = 1


SCALES = {
    Method.DOWN_SURVEY: Scale(REDUCTION),
    Method.DOWN_SECOND: Scale(REDUCTION, 2),
    Method.DOWN_THIRD: Scale(2),
    Method.DOWN_END: Scale(),
    Method.BLOCK_FIRST: Scale(),
    Method.BLOCK_SECOND: Scale(),
    Method.BLOCK_SUM: Scale(),
    Method.UP_BEGIN: Scale(1, 2),
    Method.UP_SURVEY: Scale(2),
    Method.UP_END: Scale(2, REDUCTION),
}
CHANGES = (Method.DOWN_END, Method.BLOCK_SUM)
"""Stages that see no neighbours, so that they can write over what they read."""
SURVEYS = {Method.DOWN_SURVEY: Method.DOWN_SECOND, Method.UP_SURVEY: Method.UP_END}
"""Surveys, and the stages that compute their layers again, and that see at least as far."""
WITHOUT_STATISTICS = (Method.DOWN_SURVEY, Method.BLOCK_FIRST, Method.UP_BEGIN)
"""Stages that normalise nothing."""
WITHOUT_STYLE = (Method.DOWN_SURVEY, Method.BLOCK_FIRST)
"""Those that mix no channels either."""


def can_paint_in_tiles(network: CarefulNetwork) -> bool:
    """Whether a trunk's archive has the stages, each of which sees only so far."""
    seeing = (method for method in SCALES if method not in (*CHANGES, *SURVEYS))
    return network.blocks > 0 and all(network.reach(method) is not None for method in seeing)


class LargePainting:
    """A photo on its way to a painting."""

    def __init__(self, photo_HWC: Pixels, network: CarefulNetwork, norm_P: Norms, tile_px: int) -> None:
        """`tile_px`: most pixels of the photo, or features of so many, that go to the device at once."""
        self._photo_HWC = photo_HWC
        self._network = network
        self._side = isqrt(min(tile_px, STAGE_TILE_PX)) // REDUCTION
        self._norm_1P = norm_P[None]
        # Room for more than there are: a vector has at least two values for each.
        self._statistics_2C = np.zeros((2, norm_P.size // 2), np.float32)
        self._known = 0
        """Channels whose statistics have been taken, in the network's order."""

    def paint(self) -> Pixels:
        """The painting, of the photo's size. To be called once."""
        features_1CHW = self._down()
        for block in range(self._network.blocks):
            first_1CHW = self._measured(Method.BLOCK_FIRST, features_1CHW, block)
            second_1CHW = self._measured(Method.BLOCK_SECOND, first_1CHW, block)
            self._change(Method.BLOCK_SUM, features_1CHW, second_1CHW, block=block)
            del first_1CHW, second_1CHW
        enlarged_1CHW = self._measured(Method.UP_BEGIN, features_1CHW)
        del features_1CHW
        self._survey(Method.UP_SURVEY, enlarged_1CHW)
        return self._finish(enlarged_1CHW)

    def _down(self) -> Held:
        """The features that go into the first block."""
        self._survey(Method.DOWN_SURVEY, self._photo_HWC)
        features_1CHW = self._measured(Method.DOWN_THIRD, self._measured(Method.DOWN_SECOND, self._photo_HWC))
        self._change(Method.DOWN_END, features_1CHW)
        return features_1CHW

    def _measured(self, method: Method, before: Pixels | Held, block: int = 0) -> Held:
        """What a stage makes of all that the one before it made. Its statistics are taken."""
        scale = SCALES[method]
        size = [-(-side * scale.result // scale.input) for side in _size(before)]
        result_1CHW: Held = np.empty(0, HELD)
        for tile, on_input in self._plan(method, before):
            part_1CHW = self._network.stage(method, _read(before, on_input), *self._vectors(method), block=block)
            if not result_1CHW.size:
                result_1CHW = np.empty((1, part_1CHW.shape[1], *size), HELD)
            _keep(result_1CHW, tile.enlarged(scale.result, *size), part_1CHW)
        self._network.end_stage()
        self._take(_measure(result_1CHW))
        return result_1CHW

    def _change(self, method: Method, features_1CHW: Held, *others: Held, block: int = 0) -> None:
        """Puts a stage's result in the place of its input. It is as large, and no value depends on its neighbours."""
        for tile, _ in self._plan(method, features_1CHW):
            parts = [_read_features(held_1CHW, tile) for held_1CHW in (features_1CHW, *others)]
            # The last tiles begin within those before them, where nothing must be changed twice.
            _keep(features_1CHW, tile, self._network.stage(method, *parts, *self._vectors(method), block=block))
        self._network.end_stage()

    def _survey(self, method: Method, before: Pixels | Held) -> None:
        """Takes the statistics of a layer that is too large to be kept."""
        tiles = [on_input for _, on_input in self._plan(method, before)]
        moments = [
            self._network.stage(method, _read(before, tile), _mask(tile), *self._vectors(method)) for tile in tiles
        ]
        self._network.end_stage()
        self._take(_pool(moments, [tile.kept_px for tile in tiles]))

    def _finish(self, enlarged_1CHW: Held) -> Pixels:
        painted_HWC = np.empty_like(self._photo_HWC)
        for tile, on_input in self._plan(Method.UP_END, enlarged_1CHW):
            on_photo = tile.enlarged(REDUCTION, *_size(painted_HWC))
            pixels_1HWC = self._photo_HWC[on_photo.read][None]
            features_1CHW = _read_features(enlarged_1CHW, on_input)
            (part_HWC,) = self._network.finish(features_1CHW, pixels_1HWC, self._norm_1P, self._statistics_2C)
            painted_HWC[on_photo.kept] = part_HWC[on_photo.inner]
        self._network.end_stage()
        return painted_HWC

    def _take(self, statistics_2C: Values) -> None:
        """Notes the next layer's means and variances."""
        channels = slice(self._known, self._known + statistics_2C.shape[1])
        self._statistics_2C[:, channels] = statistics_2C
        self._known = channels.stop

    def _vectors(self, method: Method) -> tuple[Values, ...]:
        style = () if method in WITHOUT_STYLE else (self._norm_1P,)
        return style if method in WITHOUT_STATISTICS else (*style, self._statistics_2C)

    def _plan(self, method: Method, before: Pixels | Held) -> Iterator[tuple[Tile, Tile]]:
        """Tiles of the places, which overlap by as much as the stage sees, and the same tiles of its input."""
        scale = SCALES[method].input
        sees = 0 if method in CHANGES else self._network.reach(SURVEYS.get(method, method))
        height, width = (-(-side // scale) for side in _size(before))
        for tile in plan_even_tiles(height, width, self._side, -(-(sees or 0) // scale)):
            yield tile, tile.enlarged(scale, *_size(before))


def _size(picture: Pixels | Held) -> tuple[int, int]:
    """Height and width of a photo (H, W, 3) or of features (1, C, H, W)."""
    height, width = picture.shape[:2] if picture.dtype == np.uint8 else picture.shape[2:]
    return height, width


def _read(picture: Pixels | Held, tile: Tile) -> Pixels | Values:
    """What a stage reads of a tile: pixels (1, H, W, 3), or features as float32."""
    if picture.dtype == np.uint8:
        return cast(Pixels, picture)[tile.read][None]
    return _read_features(cast(Held, picture), tile)


def _read_features(held_1CHW: Held, tile: Tile) -> Values:
    # By torch: NumPy converts float16 one value at a time.
    values_1CHW: Values = torch.from_numpy(held_1CHW)[..., *tile.read].float().contiguous().numpy()
    return values_1CHW


def _keep(held_1CHW: Held, tile: Tile, values_1CHW: Values) -> None:
    """Keeps what a stage made of a tile."""
    values = torch.from_numpy(values_1CHW)[..., *tile.inner].clamp(-MOST_HELD, MOST_HELD)
    torch.from_numpy(held_1CHW)[..., *tile.kept].copy_(values)


def _mask(tile: Tile) -> Values:
    """(1, 1, H, W): 1 where a tile is kept, so that pixels that lie in two tiles are counted once."""
    mask_11HW = np.zeros((1, 1, *tile.shape), np.float32)
    mask_11HW[..., *tile.inner] = 1
    return mask_11HW


def _measure(features_1CHW: Held) -> Values:
    """Means and variances (2, C). One channel at a time: none is copied whole."""
    channels = map(torch.Tensor.float, torch.from_numpy(features_1CHW[0]))
    statistics = [torch.stack([values_HW.mean(), values_HW.var(correction=0)]) for values_HW in channels]
    statistics_2C: Values = torch.stack(statistics, dim=1).numpy()
    return statistics_2C


def _pool(moments: Sequence[Values], counts: Sequence[int]) -> Values:
    """Means and variances (2, C) over all tiles, from those of each tile and how many values it has."""
    moments_T2C, weights_T1 = np.stack(moments).astype(np.float64), np.array(counts, np.float64)[:, None] / sum(counts)
    mean_C = (weights_T1 * moments_T2C[:, 0]).sum(axis=0)
    var_C = (weights_T1 * (moments_T2C[:, 1] + (moments_T2C[:, 0] - mean_C) ** 2)).sum(axis=0)
    return np.stack([mean_C, var_C]).astype(np.float32)
