"""Computes the pictures of batches side by side, each on a share of the cores.

A picture that all cores compute together waits after every layer for the slowest of them, and whatever else runs on the
machine makes one slow: a service that uses a tenth of one core of two costs the network a tenth of its speed. Pictures
that have cores of their own do not wait for each other. Small ones share a request: one costs as much as computing
twenty pixels square.
"""

import itertools
import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import openvino as ov

from worker.arrays import Pixels
from worker.runtimes import Values

TOGETHER_PX = 128 * 128
"""Pixels up to which pictures go in one request. Four of 64x64 take 0.74 of the time of four requests; of larger ones
streams would only wait for each other at the end of a batch."""


class Streams:
    """A compiled network that computes as many pictures at one time as it has streams.

    Requests are computed in the order in which they come. The next batch's first pictures fill the streams that would
    wait for the last pictures of the one before. OpenVINO's own threads do it all: one of ours for each picture would
    only be woken to wait.
    """

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._compiled = compiled
        self.count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        """Pictures computed at one time."""
        self._open: set[ov.InferRequest] = set()
        """Those whose results nobody has collected yet."""

    @property
    def are_busy(self) -> bool:
        """Whether some are computing."""
        return any(not _is_done(request) for request in list(self._open))

    def whole_rounds(self, pictures: int) -> int:
        """How many of so many pictures are sooner done side by side: a last few are by all cores together."""
        rest = pictures % self.count
        return pictures if rest > self.count // 2 else pictures - rest

    def start(self, inputs: Sequence[Pixels | Values]) -> list[ov.InferRequest]:
        """Begins with pictures of one size: the first axis of each input. One thread at a time may call it.

        The inputs must stay as they are until the results are collected.
        """
        requests: list[ov.InferRequest] = []
        try:
            for some in self._divide(len(inputs[0]), inputs[0][0].shape):
                request = self._compiled.create_infer_request()  # which takes 0.02 ms
                # OpenVINO's own way of handing inputs over asks so much about them that it takes 0.08 ms.
                for index, value in enumerate(inputs):
                    request.set_input_tensor(index, ov.Tensor(value[some], shared_memory=True))
                request.start_async()
                self._open.add(request)
                requests.append(request)
        except BaseException:
            self._end(requests)
            raise
        return requests

    def collect(self, requests: Sequence[ov.InferRequest]) -> Pixels:
        """The results of pictures that were begun, as soon as all are there. Raises what went wrong with one."""
        try:
            for request in requests:
                request.wait()
            return np.concatenate([request.get_output_tensor().data for request in requests])
        finally:
            self._end(requests)

    def _end(self, requests: Sequence[ov.InferRequest]) -> None:
        """Returns when nobody reads the inputs any more: with one request that went wrong, others still do."""
        for request in requests:
            _wait(request)
        self._open.difference_update(requests)

    def _divide(self, pictures: int, shape: tuple[int, ...]) -> list[slice]:
        """Which pictures go together: about as many in each request, and in each round one for every stream."""
        together = max(TOGETHER_PX // (shape[0] * shape[1]), 1)
        rounds = math.ceil(pictures / (together * self.count))
        parts = min(rounds * self.count, pictures)
        ends = [pictures * part // parts for part in range(parts + 1)]
        return [slice(begin, end) for begin, end in itertools.pairwise(ends)]

    def wait(self) -> None:
        """Returns when no stream computes anything."""
        for request in list(self._open):
            _wait(request)

    def free_memory(self) -> None:
        """Gives back what is kept for the next pictures, once none is computed."""
        self.wait()
        self._compiled.release_memory()


def _wait(request: ov.InferRequest) -> None:
    with suppress(RuntimeError):  # it is for who collects the results
        request.wait()


def _is_done(request: ov.InferRequest) -> bool:
    with suppress(RuntimeError):
        return bool(request.wait_for(0))
    return True
