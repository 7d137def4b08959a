"""Runs pictures through networks on one device, in batches that fit."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isqrt, prod
from typing import Literal

import numpy as np

from worker.arrays import Norms, Pixels
from worker.batching import BatchKey, plan_batches
from worker.careful import CarefulNetwork
from worker.catalog import LoadedTrunk, LoadedUpscaler
from worker.contract import ErrorCode
from worker.device_calls import DeviceCalls
from worker.enlarging import UPSCALE_TILE, enlarge_in_tiles, tile_shape, tiled_size
from worker.errors import DeviceLostError, JobError
from worker.large_pictures import STAGE_TILE_PX, LargePainting, can_paint_in_tiles
from worker.limits import SIDE, Limits, is_out_of_memory
from worker.runtimes.methods import Method

log = logging.getLogger(__name__)

WHOLE_PX = 4_000_000
"""Pixels of a photo up to which it is painted in one piece, unless told otherwise."""
LEAST_TILE_PX = 128 * 128
"""Pixels of the smallest tile that is tried when memory runs out."""
MEASURING_S = 1.5
"""Seconds that it may take to find a network's best batch: batches of four on two slow cores."""
TILE_ROUNDS = 4
"""Rounds of a photo's tiles that go to a device which computes several side by side: at their end it waits for the
slowest, and then for the photo. Pictures to be painted go there in one round, because the next are behind them."""

Reason = Literal["half_batch", "failed_batch", "tiles", "float32"]


@dataclass(frozen=True)
class PaintTask:
    """Paint one picture."""

    pixels_HWC: Pixels
    trunk: LoadedTrunk
    norm_P: Norms

    @property
    def model(self) -> LoadedTrunk:
        """What computes it."""
        return self.trunk

    @property
    def key(self) -> BatchKey:
        """What it may be batched with."""
        height, width, _ = self.pixels_HWC.shape
        return BatchKey(self.trunk.card.digest, height, width, self.trunk.card.kind)


@dataclass(frozen=True)
class EnlargeTask:
    """Enlarge one picture."""

    pixels_HWC: Pixels
    upscaler: LoadedUpscaler

    @property
    def model(self) -> LoadedUpscaler:
        """What computes it."""
        return self.upscaler

    @property
    def overlap(self) -> int | None:
        """Px that the tiles of this picture share with their neighbours; none if it has to go in one piece."""
        return self.upscaler.network.reach(Method.FORWARD)

    @property
    def key(self) -> BatchKey:
        """What it may be batched with: pictures of as many pixels, counted with the overlap of their tiles."""
        height, width, _ = self.pixels_HWC.shape
        if self.overlap is not None:
            height, width = tiled_size(height, width, UPSCALE_TILE, self.overlap)
        return BatchKey(self.upscaler.card.digest, height, width, self.upscaler.card.kind)


EngineTask = PaintTask | EnlargeTask


def tell_nobody(reason: Reason) -> None:
    """For those who do not count retries."""


class Engine:
    """Turns tasks into pictures; a task that fails fails alone. Several threads may have batches computed.

    If memory runs out, the batch is tried without others beside it, then half of it, then smaller tiles; then the
    picture is too large. What helped is remembered. A GPU that is lost fails whatever comes: then it is the engine that
    fails.
    """

    def __init__(
        self,
        batch_px: int | None,
        whole_px: int = WHOLE_PX,
        report: Callable[[Reason], None] = tell_nobody,
        count_busy: Callable[[float], object] = lambda _: None,
    ) -> None:
        """`batch_px`: pixels that go to the device at once, none to measure what is best (`measure`).

        `whole_px`: pixels up to which a photo is painted in one piece. `report` is told of each retry, `count_busy` of
        the seconds that the device was busy.
        """
        self._limits = Limits(batch_px, whole_px)
        self._report = report
        self._calls = DeviceCalls(count_busy)

    @property
    def busy_since(self) -> float | None:
        """When the device was called, in seconds of `time.monotonic`; none while it is idle.

        A large picture is many calls: it may take longer than any device that does not hang takes for one.
        """
        return self._calls.busy_since

    def measure(self, models: Iterable[LoadedTrunk | LoadedUpscaler]) -> None:
        """Finds the best batch of each model, unless it was given.

        Takes about `MEASURING_S` for each, beside what it takes to plan and compile.
        """
        for model in models:
            rounds = TILE_ROUNDS if isinstance(model, LoadedUpscaler) else 1
            self._limits.measure(model.card.kind, _trial(model), MEASURING_S, model.network.side_by_side, rounds)
            model.network.free_memory()
            log.info("%s: %.2f megapixels at once.", model.card.name, self._limits.batch_px(model.card.kind) / 1e6)

    def plan(self, tasks: Sequence[EngineTask]) -> list[list[int]]:
        """Indices of tasks in the batches in which `run` should get them, oldest first."""
        keys = [task.key for task in tasks]
        return plan_batches(keys, min((self.budget_px(key) for key in keys), default=0))

    @property
    def starting_budget_px(self) -> int:
        """Pixels that should go to the device at once as long as nothing is known of the pictures to come."""
        return self._limits.least_batch_px

    def budget_px(self, key: BatchKey) -> int:
        """Pixels of pictures with that key that should go to the device at once."""
        return self._limits.batch_px(key.kind, key.pixels)

    def run(self, tasks: Sequence[EngineTask]) -> list[Pixels | JobError]:
        """Results of tasks with equal keys, in their order. If the batch fails its halves are tried, then each task.

        Raises `DeviceLostError`.
        """
        with self._calls.together() as visit:
            outcome = self._try(tasks)
        if not isinstance(outcome, Exception):
            return outcome
        # What is found out about a failure should be about these tasks, not about those beside them.
        with self._calls.alone():
            if is_out_of_memory(outcome) and visit.met_others:
                tasks[0].model.network.free_memory()
                return self._run(tasks)
            return self._retry(tasks, outcome)

    def _run(self, tasks: Sequence[EngineTask]) -> list[Pixels | JobError]:
        outcome = self._try(tasks)
        return self._retry(tasks, outcome) if isinstance(outcome, Exception) else outcome

    def _try(self, tasks: Sequence[EngineTask]) -> list[Pixels | JobError] | Exception:
        try:
            return self._compute(tasks)
        except Exception as error:
            if not is_out_of_memory(error):
                log.exception("A batch of %d for %s cannot be computed.", len(tasks), tasks[0].key)
            # Its frames hold the memory that the next try needs.
            return error.with_traceback(None)

    def _retry(self, tasks: Sequence[EngineTask], failure: Exception) -> list[Pixels | JobError]:
        if is_out_of_memory(failure):
            return self._retry_with_less(tasks)
        if len(tasks) > 1:
            return self._run_halves(tasks, "failed_batch")
        if _is_of_gpu(failure):
            _check_device(tasks[0].model)
        return [_cannot_compute()]

    def _retry_with_less(self, tasks: Sequence[EngineTask]) -> list[Pixels | JobError]:
        key = tasks[0].key
        log.warning("Memory runs out with a batch of %d for %s.", len(tasks), key)
        tasks[0].model.network.free_memory()
        before = self._limits.remembered(key.kind)
        if len(tasks) > 1 or self._takes_tiles_together(tasks[0]):
            self._limits.halve_batch(key.kind, self._at_once_px(tasks))
            results = self._run_halves(tasks, "half_batch")
        else:
            results = [self._retry_in_tiles(tasks[0])]
        if any(isinstance(result, JobError) for result in results):
            self._limits.restore(key.kind, before)
        return results

    def _run_halves(self, tasks: Sequence[EngineTask], reason: Reason) -> list[Pixels | JobError]:
        """Of a single photo it is its tiles that go in smaller batches."""
        self._report(reason)
        half = len(tasks) // 2
        return [result for part in (tasks[:half], tasks[half:]) if part for result in self._run(part)]

    def _retry_in_tiles(self, task: EngineTask) -> Pixels | JobError:
        tried_px = self._tried_px(task)
        if not self._has_tiles(task) or tried_px <= LEAST_TILE_PX:
            return JobError(
                ErrorCode.TOO_LARGE, "The picture does not fit into the device's memory: send a smaller one."
            )
        self._report("tiles")
        self._limits.limit_tile(task.key.kind, max(tried_px // 4, LEAST_TILE_PX))
        return self._run([task])[0]

    def _tried_px(self, task: EngineTask) -> int:
        """Pixels of a picture, or of each of its tiles, that went to the device."""
        height, width, _ = task.pixels_HWC.shape
        tile_px = self._tile_px(task)
        if isinstance(task, EnlargeTask):
            return (
                height * width
                if task.overlap is None
                else prod(tile_shape(height, width, isqrt(tile_px), task.overlap))
            )
        return height * width if height * width <= tile_px else min(tile_px, STAGE_TILE_PX)

    def _at_once_px(self, tasks: Sequence[EngineTask]) -> int:
        """Pixels of a batch that went to the device together."""
        first, batch_px = tasks[0], len(tasks) * tasks[0].key.pixels
        if isinstance(first, EnlargeTask) and first.overlap is not None:
            return min(batch_px, self._tiles_px(first))
        return batch_px

    def _takes_tiles_together(self, task: EngineTask) -> bool:
        """Whether several tiles of a picture go to the device at once."""
        if isinstance(task, PaintTask) or task.overlap is None:
            return False
        return min(self._tiles_px(task), task.key.pixels) >= 2 * self._tried_px(task)

    def _tiles_px(self, task: EnlargeTask) -> int:
        """Pixels of the tiles that go to the device at once."""
        return self._limits.tiles_px(task.key.kind, self._tried_px(task), task.upscaler.factor)

    def _compute(self, tasks: Sequence[EngineTask]) -> list[Pixels | JobError]:
        first = tasks[0]
        tile_px = self._tile_px(first)
        if isinstance(first, EnlargeTask):
            return [*self._enlarge(first, [task.pixels_HWC for task in tasks], tile_px)]
        paintings = [task for task in tasks if isinstance(task, PaintTask)]
        network = self._careful(first)
        if first.key.pixels > tile_px and self._has_tiles(first):
            return [LargePainting(task.pixels_HWC, network, task.norm_P, tile_px).paint() for task in paintings]
        pixels_BHWC = np.stack([task.pixels_HWC for task in paintings])
        return [*network.paint(pixels_BHWC, np.stack([task.norm_P for task in paintings]))]

    def _enlarge(self, first: EnlargeTask, photos: Sequence[Pixels], tile_px: int) -> list[Pixels]:
        network = self._careful(first)
        if first.overlap is None:
            return network.enlarge(np.stack(photos))
        batch_px = self._tiles_px(first)
        return enlarge_in_tiles(photos, network, first.upscaler.factor, first.overlap, tile_px, batch_px)

    def _tile_px(self, task: EngineTask) -> int:
        at_first = UPSCALE_TILE * UPSCALE_TILE if isinstance(task, EnlargeTask) else None
        return self._limits.tile_px(task.key.kind, at_first)

    def _has_tiles(self, task: EngineTask) -> bool:
        return task.overlap is not None if isinstance(task, EnlargeTask) else can_paint_in_tiles(self._careful(task))

    def _careful(self, task: EngineTask) -> CarefulNetwork:
        return CarefulNetwork(task.model.network, lambda: self._report("float32"), self._calls.note)


def _trial(model: LoadedTrunk | LoadedUpscaler) -> Callable[[int], object]:
    """Computes pictures of noise, as many as it is told."""
    noise_HWC = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    norm_P = np.ones(model.card.norm_size or 0, np.float32)

    def run(pictures: int) -> object:
        pixels_BHWC = np.stack([noise_HWC] * pictures)
        if isinstance(model, LoadedUpscaler):
            return model.network.enlarge(pixels_BHWC)
        return model.network.paint(pixels_BHWC, np.stack([norm_P] * pictures))

    return run


def _is_of_gpu(error: Exception) -> bool:
    """Whether it is CUDA that failed, or cuDNN."""
    message = str(error).lower()
    return "cuda" in message or "cudnn" in message


def _check_device(model: LoadedTrunk | LoadedUpscaler) -> None:
    """Raises `DeviceLostError` if not even a small picture of noise is computed: after some errors a GPU goes on."""
    try:
        _trial(model)(1)
    except Exception as error:
        if not is_out_of_memory(error):
            raise DeviceLostError("The device computes nothing any more.") from error


def _cannot_compute() -> JobError:
    return JobError(ErrorCode.INTERNAL, "The picture could not be computed; the worker's log says why.")
