"""Programs that run a zoo archive on a device. All of them take and give 8-bit pictures."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from worker.archive import Archive
from worker.arrays import Norms, Pixels
from worker.runtimes.methods import Method

Values = npt.NDArray[np.float32]
"""Features, masks, statistics: what passes between the stages of a large painting."""


class Network(Protocol):
    """A network on its device. Threads may call it at the same time: new styles are proven while jobs run."""

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        """A trunk's pictures (B, H, W, 3) in the styles of those vectors; the same size."""
        ...

    def enlarge(self, pixels_BHWC: Pixels) -> Pixels:
        """An upscaler's pictures (B, H * factor, W * factor, 3)."""
        ...

    @property
    def side_by_side(self) -> int:
        """Pictures that the device computes best at one time: a batch is a multiple of it, where as many wait."""
        ...

    def reach(self, method: Method) -> int | None:
        """How many px of its first input away a value still changes a method's result.

        None if there is no such limit, or no such method: then the picture cannot be computed in tiles.
        """
        ...

    def stage(self, method: Method, *inputs: Pixels | Values, block: int = 0) -> npt.NDArray[Any]:
        """A stage of a large painting: see `StyleTrunk`'s method of that name. Photos are (1, H, W, 3) here too."""
        ...

    @property
    def blocks(self) -> int:
        """How many residual blocks a trunk can compute by themselves; none if its archive is an old one."""
        ...

    def in_float32(self) -> "Network | None":
        """The same network in full precision, loaded when first asked for; none if this is in full precision."""
        ...

    def end_stage(self) -> None:
        """Says that no tile is to come for the method that was asked last: what was kept for it may go."""
        ...

    def free_memory(self) -> None:
        """Gives back what is kept for the next batch."""
        ...


class Runtime(Protocol):
    """Loads archives onto one device."""

    name: str
    """As `IMPASTO_RUNTIME` calls it."""
    device: str
    """As a person would call it, with the precision: `CPU bfloat16`."""
    gpu: str | None
    """As PyTorch calls it: `cuda:0`; none on a CPU."""
    batches_at_once: int
    """From how many threads it is best called: while a batch is computed, the next is on its way to the device."""
    as_one_px: float
    """Up to how many pixels pictures are computed as one with others of their batch, not one by one: while such a batch
    is computed, the next of such pictures had better fill."""

    def load(self, archive: Archive) -> Network:
        """Puts a network on the device."""
        ...
