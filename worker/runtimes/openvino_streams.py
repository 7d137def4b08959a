"""Computes the pictures of batches side by side, each on a share of the cores.

A picture that all cores compute together waits after every layer for the slowest of them, and whatever else runs on the
machine makes one slow: a service that uses a tenth of one core of two costs the network a tenth of its speed. Pictures
that have cores of their own do not wait for each other. Small ones share a request: one costs as much as computing
twenty pixels square.
"""

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue

import openvino as ov

from worker.arrays import Pixels
from worker.runtimes import Values

TOGETHER_PX = 128 * 128
"""Pixels up to which pictures go in one request. Four of 64x64 take 0.74 of the time of four requests; of larger ones
streams would only wait for each other at the end of a batch."""

Part = Future[Pixels]
"""Results of pictures that go in one request."""


class Streams:
    """A compiled network with as many requests in hand as it has streams.

    Batches are computed in the order in which they come. The next one's first pictures fill the streams that would wait
    for the last pictures of the one before. One thread at a time may call the methods.
    """

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._compiled = compiled
        self.count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        """Pictures computed at one time."""
        self._threads = ThreadPoolExecutor(self.count, "stream")
        self._requests: SimpleQueue[ov.InferRequest] = SimpleQueue()
        """Those that compute nothing. More are made where there are none."""
        self._open: set[Part] = set()
        """Those that are not computed yet. A part that is holds its pictures, and goes with who asked for it."""

    @property
    def are_busy(self) -> bool:
        """Whether some are computing."""
        return bool(self._open)

    def whole_rounds(self, pictures: int) -> int:
        """How many of so many pictures are sooner done side by side: a last few are by all cores together."""
        rest = pictures % self.count
        return pictures if rest > self.count // 2 else pictures - rest

    def start(self, inputs: Sequence[Pixels | Values]) -> list[Part]:
        """Begins with pictures of one size: the first axis of each input. Their results, part by part."""
        parts = []
        for some in self._divide(len(inputs[0]), inputs[0][0].shape):
            part = self._threads.submit(self._infer, [value[some] for value in inputs])
            self._open.add(part)
            part.add_done_callback(self._open.discard)
            parts.append(part)
        return parts

    def _infer(self, inputs: Sequence[Pixels | Values]) -> Pixels:
        try:
            request = self._requests.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        # In place of OpenVINO's own way of handing them over, which asks so much about them that it takes 0.08 ms.
        for index, value in enumerate(inputs):
            request.set_input_tensor(index, ov.Tensor(value, shared_memory=True))
        request.start_async()
        request.wait()
        result_BHWC: Pixels = request.get_output_tensor().data.copy()
        # One in which something failed is not used again.
        self._requests.put(request)
        return result_BHWC

    def _divide(self, pictures: int, shape: tuple[int, ...]) -> list[slice]:
        """Which pictures go together: about as many in each request, and in each round one for every stream."""
        together = max(TOGETHER_PX // (shape[0] * shape[1]), 1)
        rounds = math.ceil(pictures / (together * self.count))
        parts = min(rounds * self.count, pictures)
        ends = [pictures * part // parts for part in range(parts + 1)]
        return [slice(begin, end) for begin, end in itertools.pairwise(ends)]

    def wait(self) -> None:
        """Returns when no stream computes anything."""
        wait(self._open)

    def free_memory(self) -> None:
        """Gives back what is kept for the next pictures, once none is computed."""
        self.wait()
        self._requests = SimpleQueue()
        self._compiled.release_memory()
