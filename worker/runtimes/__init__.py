"""Programs that run a zoo archive on a device. All of them take and give 8-bit pictures."""

from typing import Protocol

from worker.archive import Archive
from worker.arrays import Norms, Pixels


class Network(Protocol):
    """A network on its device."""

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        """A trunk's pictures (B, H, W, 3) in the styles of those vectors; the same size."""
        ...

    def enlarge(self, pixels_BHWC: Pixels) -> Pixels:
        """An upscaler's pictures (B, H * factor, W * factor, 3)."""
        ...


class Runtime(Protocol):
    """Loads archives onto one device."""

    name: str
    """As `IMPASTO_RUNTIME` calls it."""
    device: str
    """As a person would call it, with the precision: `CPU bfloat16`."""

    def load(self, archive: Archive) -> Network:
        """Puts a network on the device."""
        ...
