"""Runs pictures through networks on one device, in batches that fit."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worker.arrays import Norms, Pixels
from worker.batching import BatchKey, plan_batches
from worker.catalog import LoadedTrunk, LoadedUpscaler
from worker.contract import ErrorCode
from worker.errors import JobError
from worker.tiles import plan_tiles

log = logging.getLogger(__name__)

UPSCALE_TILE = 256
"""Side in px of the low-resolution tiles of pictures larger than that."""
UPSCALE_OVERLAP = 16
"""Px on each side of a tile that are thrown away; more than the receptive field's radius of the compact upscaler."""


@dataclass(frozen=True)
class PaintTask:
    """Paint one picture."""

    pixels_HWC: Pixels
    trunk: LoadedTrunk
    norm_P: Norms

    @property
    def key(self) -> BatchKey:
        """What it may be batched with."""
        height, width, _ = self.pixels_HWC.shape
        return BatchKey(self.trunk.card.digest, height, width)


@dataclass(frozen=True)
class EnlargeTask:
    """Enlarge one picture."""

    pixels_HWC: Pixels
    upscaler: LoadedUpscaler

    @property
    def key(self) -> BatchKey:
        """What it may be batched with."""
        height, width, _ = self.pixels_HWC.shape
        return BatchKey(self.upscaler.card.digest, height, width)


EngineTask = PaintTask | EnlargeTask


class Engine:
    """Turns tasks into pictures; a task that fails fails alone."""

    def __init__(self, budget_px: int) -> None:
        """`budget_px`: pixels that go to the device at once."""
        self._budget_px = budget_px

    def plan(self, tasks: Sequence[EngineTask]) -> list[list[int]]:
        """Indices of tasks in the batches in which `run` should get them, oldest first."""
        return plan_batches([task.key for task in tasks], self._budget_px)

    def run(self, tasks: Sequence[EngineTask]) -> list[Pixels | JobError]:
        """Results of tasks with equal keys, in their order. If the batch fails its halves are tried, then each task."""
        try:
            return self._run_batch(tasks)
        except Exception as error:
            if len(tasks) == 1:
                log.exception("A picture of %s cannot be computed.", tasks[0].key)
                return [_describe(error)]
            half = len(tasks) // 2
            return self.run(tasks[:half]) + self.run(tasks[half:])

    def _run_batch(self, tasks: Sequence[EngineTask]) -> list[Pixels | JobError]:
        first = tasks[0]
        if isinstance(first, PaintTask):
            paintings = [task for task in tasks if isinstance(task, PaintTask)]
            pixels_BHWC = np.stack([task.pixels_HWC for task in paintings])
            norm_BP = np.stack([task.norm_P for task in paintings])
            return list(first.trunk.network.paint(pixels_BHWC, norm_BP))
        return [enlarge_in_tiles(task.pixels_HWC, first.upscaler) for task in tasks]


def enlarge_in_tiles(pixels_HWC: Pixels, upscaler: LoadedUpscaler) -> Pixels:
    """A picture (H, W, 3) enlarged to (H * factor, W * factor, 3), in memory that grows only with the result."""
    height, width, _ = pixels_HWC.shape
    factor = upscaler.factor
    enlarged_HWC = np.empty((height * factor, width * factor, 3), np.uint8)
    for rows, columns in plan_tiles(height, width, UPSCALE_TILE, UPSCALE_OVERLAP):
        tile_BHWC = pixels_HWC[None, rows.start : rows.stop, columns.start : columns.stop]
        tile_HWC = upscaler.network.enlarge(tile_BHWC)[0]
        enlarged_HWC[
            rows.keep_start * factor : rows.keep_stop * factor,
            columns.keep_start * factor : columns.keep_stop * factor,
        ] = tile_HWC[
            (rows.keep_start - rows.start) * factor : (rows.keep_stop - rows.start) * factor,
            (columns.keep_start - columns.start) * factor : (columns.keep_stop - columns.start) * factor,
        ]
    return enlarged_HWC


def _describe(error: Exception) -> JobError:
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return JobError(ErrorCode.TOO_LARGE, "The picture does not fit into the device's memory: send a smaller one.")
    return JobError(ErrorCode.INTERNAL, "The picture could not be computed; the worker's log says why.")
