"""Photos from a folder, cropped. What sample n of a run looks like depends on the seed and n alone."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.config import Schedule
from training.errors import PhotosError, StyleImageError

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff"}


def list_photos(folder: Path) -> list[Path]:
    """All pictures below `folder`, sorted. Raises `PhotosError` when there is no such folder or no picture in it."""
    if not folder.is_dir():
        raise PhotosError(f"There is no folder {folder}: name one with photos, with --photos.")
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not photos:
        raise PhotosError(f"No photos in {folder}: it should hold some hundreds of JPEG or PNG files.")
    return photos


def read_rgb(path: Path, largest_side: int | None = None) -> Image.Image:
    """The picture upright, in RGB, no longer than `largest_side` px a side. Raises `OSError` if unreadable."""
    with Image.open(path) as image:
        if largest_side is not None:
            image.draft("RGB", (largest_side, largest_side))
        upright = ImageOps.exif_transpose(image).convert("RGB")
    if largest_side is not None and max(upright.size) > largest_side:
        upright.thumbnail((largest_side, largest_side), Image.Resampling.BICUBIC)
    return upright


def read_style_image(path: Path, size: int) -> Tensor:
    """The style image (3, H, W) in [0, 1], its longer side `size` px. Raises `StyleImageError`."""
    try:
        image = read_rgb(path)
    except OSError as error:
        raise StyleImageError(f"Cannot read the style image {path}: {error}.") from error
    scale = size / max(image.size)
    resized = image.resize([max(round(side * scale), 32) for side in image.size], Image.Resampling.LANCZOS)
    return to_tensor(resized).float() / 255


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB picture as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


@dataclass(frozen=True)
class Sample:
    """Which picture to make: its number in the run, and its height and width in px."""

    number: int
    size: int


@dataclass(frozen=True)
class CropPolicy:
    """How a square is cut from a photo."""

    min_scale: float = 1.0
    """Crop side over output side, at least. 1 keeps the photo's own pixels."""
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
        for broken in range(len(self._photos)):
            path = self._photos[self._photo_index(sample.number + broken)]
            try:
                photo = read_rgb(path, self._largest_side)
            except (OSError, ValueError, Image.DecompressionBombError):
                continue
            return to_tensor(self._policy.cut(photo, sample.size, rng)), sample.number, broken
        raise PhotosError("None of the photos can be read: check the folder given with --photos.")

    def _photo_index(self, number: int) -> int:
        epoch, position = divmod(number, len(self._photos))
        if epoch != self._epoch:
            self._order = list(range(len(self._photos)))
            random.Random(f"{self._seed}/epoch/{epoch}").shuffle(self._order)
            self._epoch = epoch
        return self._order[position]


def plan_batches(schedule: Schedule, first_step: int = 0) -> Iterator[list[Sample]]:
    """The samples of each step from `first_step` on: the same ones whether or not the run was broken there."""
    number, step = 0, 0
    for stage in schedule.stages:
        for _ in range(stage.steps):
            if step >= first_step:
                yield [Sample(number + offset, stage.size) for offset in range(stage.batch)]
            number += stage.batch
            step += 1


class _BatchPlan:
    """`plan_batches` as the DataLoader wants it."""

    def __init__(self, schedule: Schedule, first_step: int) -> None:
        self._schedule = schedule
        self._first_step = first_step

    def __iter__(self) -> Iterator[list[Sample]]:
        return plan_batches(self._schedule, self._first_step)


def load_batches(
    crops: PhotoCrops, schedule: Schedule, first_step: int, processes: int
) -> "DataLoader[tuple[Tensor, int, int]]":
    """Streams the run's batches from `processes` worker processes (0: from this one)."""
    return DataLoader(
        crops,
        batch_sampler=_BatchPlan(schedule, first_step),
        num_workers=processes,
        prefetch_factor=4 if processes else None,
        pin_memory=torch.cuda.is_available(),
    )
