"""Computes the pictures of a batch side by side, each on a share of the cores.

A picture that all cores compute together waits after every layer for the slowest of them, and whatever else runs on the
machine makes one slow: a service that uses a tenth of one core of two costs the network a tenth of its speed. Pictures
that have cores of their own do not wait for each other. Small ones share a request: one costs as much as computing
twenty pixels square.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import openvino as ov

from worker.arrays import Pixels
from worker.runtimes import Values

TOGETHER_PX = 128 * 128
"""Pixels up to which pictures go in one request. Four of 64x64 take 0.74 of the time of four requests; of larger ones
streams would only wait for each other at the end of a batch."""


class Streams:
    """A compiled network with as many pictures in hand as it has streams. One thread at a time may use it."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._compiled = compiled
        self.count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        """Pictures computed at one time."""
        self._queue: ov.AsyncInferQueue | None = None

    def left_over(self, pictures: int) -> int:
        """How many of so many pictures make no round of streams: all cores together are sooner done with them."""
        rest = pictures % self.count
        return rest if rest <= self.count // 2 else 0

    def infer(self, inputs: Sequence[Pixels | Values]) -> Pixels:
        """Results for pictures of one size: the first axis of each input."""
        parts = self._divide(len(inputs[0]), inputs[0][0].shape)
        results: list[Pixels] = [np.empty(0, np.uint8)] * len(parts)
        queue, self._queue = self._queue or ov.AsyncInferQueue(self._compiled, self.count), None

        def keep(request: ov.InferRequest, index: int) -> None:
            results[index] = request.get_output_tensor().data.copy()

        queue.set_callback(keep)
        for index, part in enumerate(parts):
            queue.start_async([value[part] for value in inputs], index, share_inputs=True)
        queue.wait_all()
        # A queue in which something failed is not used again.
        self._queue = queue
        joined_BHWC = np.concatenate(results)
        results.clear()  # the queue remembers `keep`, and `keep` these, until the next batch comes
        return joined_BHWC

    def _divide(self, pictures: int, shape: tuple[int, ...]) -> list[slice]:
        """Which pictures go together: about as many in each request, and in each round one for every stream."""
        together = max(TOGETHER_PX // (shape[0] * shape[1]), 1)
        rounds = math.ceil(pictures / (together * self.count))
        parts = min(rounds * self.count, pictures)
        ends = [pictures * part // parts for part in range(parts + 1)]
        return [slice(begin, end) for begin, end in itertools.pairwise(ends)]

    def free_memory(self) -> None:
        """Gives back what is kept for the next pictures."""
        self._queue = None
        self._compiled.release_memory()
