"""Runs a network, and again in full precision where half precision has lost a picture."""

import logging
from collections.abc import Callable

import numpy as np

from worker.arrays import Norms, Pixels
from worker.runtimes import Network, Values
from worker.runtimes.methods import Method

log = logging.getLogger(__name__)


class CarefulNetwork:
    """A network whose black results are not believed: they are what is left of numbers that overflowed."""

    def __init__(self, network: Network, report: Callable[[], None], begin: Callable[[], None] = lambda: None) -> None:
        """`report` is told of each picture or tile that is computed again, `begin` of each call of the device."""
        self._network = network
        self._report = report
        self._begin = begin

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> list[Pixels]:
        """See `Network.paint`."""
        return self._run(pixels_BHWC, lambda network, some: network.paint(pixels_BHWC[some], norm_BP[some]))

    def enlarge(self, pixels_BHWC: Pixels) -> list[Pixels]:
        """See `Network.enlarge`."""
        return self._run(pixels_BHWC, lambda network, some: network.enlarge(pixels_BHWC[some]))

    def finish(self, features_1CHW: Values, pixels_1HWC: Pixels, norm_1P: Norms, statistics_2C: Values) -> list[Pixels]:
        """The last stage of a large painting: `StyleTrunk.up_end`."""
        inputs = (features_1CHW, pixels_1HWC, norm_1P, statistics_2C)
        return self._run(pixels_1HWC, lambda network, _: network.stage(Method.UP_END, *inputs))

    def stage(self, method: Method, *inputs: Pixels | Values, block: int = 0) -> Values:
        """Another stage of a large painting, as `Network.stage` computes it, as float32."""
        self._begin()
        values: Values = self._network.stage(method, *inputs, block=block).astype(np.float32, copy=False)
        exact = None if np.isfinite(values).all() else self._network.in_float32()
        if exact is None:
            return values
        log.warning("A tile's features overflow in half precision; they are computed again in float32.")
        self._report()
        return exact.stage(method, *inputs, block=block)

    @property
    def blocks(self) -> int:
        """See `Network.blocks`."""
        return self._network.blocks

    def reach(self, method: Method) -> int | None:
        """See `Network.reach`."""
        return self._network.reach(method)

    def end_stage(self) -> None:
        """See `Network.end_stage`."""
        self._network.end_stage()

    def free_memory(self) -> None:
        """See `Network.free_memory`."""
        self._network.free_memory()

    def _run(self, pixels_BHWC: Pixels, compute: Callable[[Network, slice], Pixels]) -> list[Pixels]:
        self._begin()
        results = list(compute(self._network, slice(None)))
        for index, result_HWC in enumerate(results):
            if result_HWC.any() or not np.any(pixels_BHWC[index]):
                continue
            exact = self._network.in_float32()
            if exact is not None:
                log.warning("A picture came out black in half precision; it is computed again in float32.")
                self._report()
                self._begin()
                results[index] = compute(exact, slice(index, index + 1))[0]
        return results
