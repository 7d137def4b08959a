"""Photos from a folder, cropped. What sample n of a run looks like depends on the seed and n alone."""

import os
import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.config import Schedule
from training.errors import PhotosError
from training.pictures import read_rgb, to_tensor

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff"}


def list_photos(folder: Path) -> list[Path]:
    """All pictures below `folder`, sorted. Raises `PhotosError` when there is no such folder or no picture in it."""
    if not folder.is_dir():
        raise PhotosError(f"There is no folder {folder}: name one with photos.")
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not photos:
        raise PhotosError(f"No photos in {folder}: it should hold some hundreds of JPEG or PNG files.")
    return photos


@dataclass(frozen=True)
class Sample:
    """Which picture to make: its number in the run, and its height and width in px."""

    number: int
    size: int


@dataclass(frozen=True)
class CropPolicy:
    """How a square is cut from a photo."""

    min_scale: float = 1.0
    """Crop side over output side, at least. 1 keeps the photo's own pixels; a smaller photo is enlarged."""
    max_scale: float | None = None
    """The same at most; none means up to the photo's short side."""
    rotate: bool = False

    def cut(self, photo: Image.Image, size: int, rng: random.Random) -> Image.Image:
        """A random square of `photo`, resized to `size` px, flipped at random."""
        short = min(photo.size)
        largest = short if self.max_scale is None else min(short, round(size * self.max_scale))
        smallest = min(round(size * self.min_scale), largest)
        side = round(smallest * (largest / smallest) ** rng.random())
        left, top = rng.randint(0, photo.width - side), rng.randint(0, photo.height - side)
        box = (left, top, left + side, top + side)
        crop = photo.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
        if rng.random() < 0.5:
            crop = ImageOps.mirror(crop)
        return crop.rotate(90 * rng.randrange(4)) if self.rotate else crop


class PhotoCrops(Dataset[tuple[Tensor, int, int]]):
    """Crops of photos; item `Sample` is `(crop uint8 (3, S, S), sample number, broken photos passed over)`."""

    def __init__(self, photos: Sequence[Path], policy: CropPolicy, seed: int, largest_side: int = 1024) -> None:
        self._photos = photos
        self._policy = policy
        self._seed = seed
        self._largest_side = largest_side
        self._epoch = -1
        self._order: list[int] = []

    def __getitem__(self, sample: Sample) -> tuple[Tensor, int, int]:
        rng = random.Random(f"{self._seed}/crop/{sample.number}")
        # Twice, because the order changes between epochs: only a whole epoch surely meets every photo.
        for broken in range(2 * len(self._photos)):
            try:
                photo = read_rgb(self.photo(sample.number + broken), self._largest_side)
            except OSError:
                continue
            return to_tensor(self._policy.cut(photo, sample.size, rng)), sample.number, broken
        raise PhotosError("None of the photos can be read: check the folder given with --photos.")

    def passed_over(self, number: int, broken: int) -> list[Path]:
        """The photos that sample `number` met before it found one that can be read, given how many they were."""
        return [self.photo(number + each) for each in range(broken)]

    def photo(self, number: int) -> Path:
        """The photo whose turn it is at that place of the run."""
        return self._photos[self._photo_index(number)]

    def _photo_index(self, number: int) -> int:
        epoch, position = divmod(number, len(self._photos))
        if epoch != self._epoch:
            self._order = list(range(len(self._photos)))
            random.Random(f"{self._seed}/epoch/{epoch}").shuffle(self._order)
            self._epoch = epoch
        return self._order[position]


@dataclass(frozen=True)
class BatchPlan:
    """The samples of each step, the same ones whether or not the run was broken. Iterates over lists of samples."""

    schedule: Schedule
    first_step: int = 0
    rank: int = 0
    """Which of the processes that train together this one is."""
    processes: int = 1

    def __iter__(self) -> Iterator[list[Sample]]:
        number, step = 0, 0
        for stage in self.schedule.stages:
            for _ in range(stage.steps):
                if step >= self.first_step:
                    own = range(number + self.rank, number + stage.batch, self.processes)
                    yield [Sample(each, stage.size) for each in own]
                number += stage.batch
                step += 1


def _leave_signals_to_the_trainer(worker: int) -> None:
    # Ctrl-C reaches every process of the terminal, and so does the SIGTERM of `timeout` and `torchrun`: a reader that
    # died of it would take the run's last step with it. In a group of its own it gets only what the trainer sends.
    os.setpgrp()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def load_batches(crops: PhotoCrops, plan: BatchPlan, readers: int) -> "DataLoader[tuple[Tensor, int, int]]":
    """Streams the plan's batches from `readers` worker processes (0: from this one)."""
    return DataLoader(
        crops,
        batch_sampler=plan,
        num_workers=readers,
        prefetch_factor=4 if readers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_leave_signals_to_the_trainer,
    )
