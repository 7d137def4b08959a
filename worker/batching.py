"""Which pictures go to the device together. Pure: no torch, no Redis."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BatchKey:
    """Pictures with equal keys fit into one tensor. Padding them to fit would show in instance norm's statistics."""

    network: str
    """Digest of the trunk or upscaler."""
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Number of pixels of one picture."""
        return self.height * self.width


def plan_batches(keys: Sequence[BatchKey], budget_px: int) -> list[list[int]]:
    """Indices of `keys` in batches of equal keys, each at most `budget_px` pixels in all or a single picture.

    Batches are in the order of their oldest member, so that nobody who came early waits for a full batch.
    """
    batches: list[list[int]] = []
    open_batches: dict[BatchKey, list[int]] = {}
    for index, key in enumerate(keys):
        batch = open_batches.get(key)
        if batch is None or (len(batch) + 1) * key.pixels > budget_px:
            batch = open_batches[key] = []
            batches.append(batch)
        batch.append(index)
    return batches
