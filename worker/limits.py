"""How many pixels a device takes at once, for each kind of network: measured, and less once its memory has run out.

Networks of a kind differ in their weights alone: one that is trained again while the worker runs needs no measuring.
"""

import time
from collections.abc import Callable, Sequence

UNMEASURED_PX = 1_000_000
"""Pixels of a batch of a kind of network that has not been measured."""
UNMEASURED_RESULT_PX = 8_000_000
"""Pixels that may come of tiles of such a kind at once: enlarged 8 times, the above would take 6 GB."""
SIDE = 256
"""Px of the pictures that are measured with."""
SIDE_BY_SIDE_PX = 1_000_000
STREAM_PX = 512 * 512
"""Pixels, of all of them or of each, up to which as many pictures make a batch as the device computes best at one time,
whatever was measured."""
BATCHES = (1, 2, 4, 8, 16, 32, 64)
"""Batches that are tried. 64 pictures are 4 megapixels, more than makes any device faster."""
UNTIMED = 2
"""Runs of each before the one that counts."""
ENOUGH = 0.95
"""Part of the greatest throughput that is good enough for a smaller batch, with which nobody waits as long."""

_MEMORY_MESSAGES = (
    "out of memory",
    "allocate memory",
    "bytes of memory",  # OpenVINO: "Failed to allocate 64 bytes of memory"
    "bad_alloc",
    "alloc_failed",
    "allocation_failed",
    "not enough memory",
    "unable to find an engine",  # cuDNN, when none of its ways to convolve found memory to work in
    "32-bit index math",  # CUDA's paddings, beyond 2**31 values
)

Remembered = tuple[int | None, int | None, int | None]
"""Pixels of a batch and of a tile, and pictures of the least batch, of a kind; none for what it has not."""


class Limits:
    """What may go to the device at once."""

    def __init__(self, batch_px: int | None, tile_px: int) -> None:
        """`batch_px`: pixels of a batch, none if they are measured. `tile_px`: of the largest picture in one piece."""
        self._fixed_px = batch_px
        self._whole_px = tile_px
        self._batch_px: dict[str, int] = {}
        self._tile_px: dict[str, int] = {}
        self._side_by_side: dict[str, int] = {}

    def batch_px(self, kind: str, picture_px: int = 0) -> int:
        """Pixels of a batch of pictures of that size for networks of that kind."""
        side_by_side_px = self._side_by_side.get(kind, 0) * picture_px
        batch_px = self._batch_px.get(kind, self.least_batch_px)
        is_small = picture_px <= STREAM_PX or side_by_side_px <= SIDE_BY_SIDE_PX
        return max(batch_px, side_by_side_px) if is_small else batch_px

    def tiles_px(self, kind: str, tile_px: int, factor: int) -> int:
        """Pixels of tiles of that size that are enlarged at once by that factor."""
        batch_px = self.batch_px(kind, tile_px)
        is_known = self._fixed_px is not None or kind in self._batch_px
        return batch_px if is_known else min(batch_px, UNMEASURED_RESULT_PX // factor**2)

    def tile_px(self, kind: str, at_first: int | None = None) -> int:
        """Pixels of a tile for that kind; `at_first`, or those of a whole picture, until memory ran out."""
        return self._tile_px.get(kind, at_first or self._whole_px)

    def measure(
        self, kind: str, run: Callable[[int], object], limit_s: float, side_by_side: int = 1, rounds: int = 1
    ) -> None:
        """Finds the best batch of a kind of network in about `limit_s`; `run` computes that many pictures of 256x256.

        `side_by_side`: how many of them its device computes best at one time. If several, a batch is `rounds` of them,
        and one round is run so that the first client need not wait for what it takes to plan it.
        """
        if self._fixed_px is not None:
            return
        if side_by_side > 1:
            run(side_by_side)
            pictures = rounds * side_by_side
        else:
            pictures = find_batch(run, BATCHES, limit_s)
        self._batch_px[kind] = pictures * SIDE * SIDE
        self._side_by_side[kind] = side_by_side

    def halve_batch(self, kind: str, tried_px: int) -> None:
        """Remembers that a batch of so many pixels was too much."""
        self._batch_px[kind] = min(self.batch_px(kind), tried_px) // 2
        self._side_by_side.pop(kind, None)

    def limit_tile(self, kind: str, tile_px: int) -> None:
        """Remembers that larger tiles are too much."""
        self._tile_px[kind] = tile_px

    def remembered(self, kind: str) -> Remembered:
        """What was found out about a kind, for `restore`."""
        return self._batch_px.get(kind), self._tile_px.get(kind), self._side_by_side.get(kind)

    def restore(self, kind: str, remembered: Remembered) -> None:
        """Forgets what was found out since: a picture that fits in no way says nothing about the others."""
        for limits, value in zip((self._batch_px, self._tile_px, self._side_by_side), remembered, strict=True):
            if value is None:
                limits.pop(kind, None)
            else:
                limits[kind] = value

    @property
    def least_batch_px(self) -> int:
        """For a kind that joined later: a neighbour's batch is a better guess than any number of ours."""
        return self._fixed_px or min(self._batch_px.values(), default=UNMEASURED_PX)


def find_batch(
    run: Callable[[int], object],
    sizes: Sequence[int],
    limit_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """The smallest of `sizes` that is nearly as fast as the fastest, of those that can be tried in the time given."""
    spent_s = 0.0
    rates: dict[int, float] = {}
    for size in sizes:
        try:
            # The first run of a shape also plans it, and TorchScript compiles for it in the second.
            for _ in range(UNTIMED):
                run(size)
            started = clock()
            run(size)
        except (RuntimeError, MemoryError) as error:
            if rates and is_out_of_memory(error):
                break
            raise
        took = clock() - started
        rates[size] = size / max(took, 1e-9)
        # What planning and compiling took says nothing of what comes, and is not counted. The next is twice as large.
        spent_s += (UNTIMED + 1) * took
        if spent_s + 2 * (UNTIMED + 1) * took > limit_s:
            break
    return next(size for size, rate in rates.items() if rate >= ENOUGH * max(rates.values()))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, PyTorch, CUDA or OpenVINO says that memory ran out."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or any(known in message for known in _MEMORY_MESSAGES)
