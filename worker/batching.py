"""Which pictures go to the device together. Pure: no torch, no Redis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class BatchKey:
    """Pictures with equal keys fit into one tensor. Padding them to fit would show in instance norm's statistics."""

    network: str
    """Digest of the trunk or upscaler."""
    height: int
    width: int
    kind: str = ""
    """The network's `ModelCard.kind`."""

    @property
    def pixels(self) -> int:
        """Number of pixels of one picture."""
        return self.height * self.width

    def most(self, budget_px: int, max_batch: int) -> int:
        """How many such pictures make a batch: at most `budget_px` pixels in all, or a single picture."""
        return max(min(budget_px // self.pixels, max_batch), 1)


def plan_batches(keys: Sequence[BatchKey], budget_px: int) -> list[list[int]]:
    """Indices of `keys` in batches of equal keys, each at most `budget_px` pixels in all or a single picture.

    Batches are in the order of their oldest member, so that nobody who came early waits for a full batch.
    """
    batches: list[list[int]] = []
    open_batches: dict[BatchKey, list[int]] = {}
    for index, key in enumerate(keys):
        batch = open_batches.get(key)
        if batch is None or len(batch) == key.most(budget_px, len(keys)):
            batch = open_batches[key] = []
            batches.append(batch)
        batch.append(index)
    return batches


@dataclass(frozen=True)
class _Entry(Generic[T]):
    key: BatchKey
    item: T
    at: float


class Backlog(Generic[T]):
    """Pictures that are ready for the device, oldest first. Not safe for threads."""

    def __init__(self) -> None:
        self._entries: list[_Entry[T]] = []
        self._aside: list[_Entry[T]] = []
        self.px = 0
        """Pixels of all of them, less those that are set aside."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def oldest_key(self) -> BatchKey:
        """What the next batch is made of."""
        return self._entries[0].key

    @property
    def oldest_at(self) -> float:
        """When the picture came that has waited longest."""
        return self._entries[0].at

    def add(self, key: BatchKey, item: T, at: float) -> None:
        """Takes in a picture that is ready at that moment."""
        self._entries.append(_Entry(key, item, at))
        self.px += key.pixels

    @property
    def aside(self) -> int:
        """How many are set aside."""
        return len(self._aside)

    @property
    def aside_px(self) -> int:
        """Pixels of those."""
        return sum(entry.key.pixels for entry in self._aside)

    def set_aside(self) -> None:
        """Passes the oldest over until `take_back`: it neither counts nor goes."""
        entry = self._entries.pop(0)
        self._aside.append(entry)
        self.px -= entry.key.pixels

    def take_back(self) -> None:
        """Puts what is set aside before all others, in its order."""
        self._entries = self._aside + self._entries
        self.px += self.aside_px
        self._aside = []

    def would_fill(self, budget_px: int, max_batch: int) -> bool:
        """Whether the next batch can become no larger."""
        key = self.oldest_key
        return sum(entry.key == key for entry in self._entries) >= key.most(budget_px, max_batch)

    def take(self, budget_px: int, max_batch: int) -> list[T]:
        """The next batch: the oldest picture, and with it the oldest of the same key."""
        key = self.oldest_key
        most = key.most(budget_px, max_batch)
        batch: list[_Entry[T]] = []
        rest: list[_Entry[T]] = []
        for entry in self._entries:
            (batch if entry.key == key and len(batch) < most else rest).append(entry)
        self._entries = rest
        self.px -= len(batch) * key.pixels
        return [entry.item for entry in batch]
