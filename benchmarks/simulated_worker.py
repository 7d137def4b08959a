"""`python -m benchmarks.simulated_worker MILLISECONDS`: a real worker whose device is a pause of that length a batch.

So a pool's queue and bookkeeping can be measured on a machine that has no devices to fill.
"""

import math
import sys
import time

from worker import single
from worker.archive import Archive
from worker.arrays import Norms, Pixels
from worker.runtimes import Values
from worker.runtimes.methods import Method
from worker.settings import WorkerSettings


class SimulatedNetwork:
    """Gives back what it gets, after a while."""

    blocks = 0
    side_by_side = 1

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        """The photos."""
        time.sleep(self._latency_s)
        return pixels_BHWC

    def enlarge(self, pixels_BHWC: Pixels) -> Pixels:
        """Nobody asks for it."""
        raise NotImplementedError

    def reach(self, method: Method) -> None:
        """There are no tiles: the smallest pictures need none."""

    def stage(self, method: Method, *inputs: Pixels | Values, block: int = 0) -> Values:
        """Nobody asks for it: see `reach`."""
        raise NotImplementedError

    def in_float32(self) -> None:
        """There is no other precision."""

    def end_stage(self) -> None:
        """Nothing is kept."""

    def free_memory(self) -> None:
        """There is nothing to give back."""


class SimulatedRuntime:
    """A device that only waits."""

    name = "simulated"
    gpu: str | None = None
    batches_at_once = 1
    as_one_px = math.inf

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self.device = f"{latency_s * 1000:g} ms a batch"

    def load(self, archive: Archive) -> SimulatedNetwork:
        """Any archive is a network that does nothing."""
        return SimulatedNetwork(self._latency_s)


def main() -> None:
    """Works until SIGTERM."""
    single.run(WorkerSettings.load(), SimulatedRuntime(float(sys.argv[1]) / 1000))


if __name__ == "__main__":
    main()
