"""Measures upscalers of a zoo on the benchmarks, beside bicubic."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from PIL import Image
from torch import Tensor

from models.card import Task
from training.data import list_photos
from training.errors import CheckpointError
from training.losses import repetition_loss
from training.lpips import Lpips
from training.metrics import grid_power, mean_colour_difference, psnr, ssim
from training.pictures import read_rgb, through_jpeg, to_picture
from training.zoo import Archive, label_folders, read_archive

Enlarge = Callable[[Image.Image], Tensor]
"""A low-resolution picture to (1, 3, H, W) in [0, 1], enlarged."""

JPEG_QUALITY = 75
"""Pillow's default, and what much of the web is saved with."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quality:
    """Means over a benchmark."""

    psnr: float
    """dB on luma."""
    ssim: float
    lpips: float
    lpips_of_jpeg: float
    """That of what is made of the input once it has been a JPEG of `JPEG_QUALITY`."""
    grid: float
    """dB of `grid_power` more than the truth has."""
    repetition: float
    """Root of `repetition_loss`."""
    colour: tuple[float, ...]
    """Each channel's mean minus the input's, in levels of 255, in the picture where it is off most."""


@dataclass(frozen=True)
class UpscaleResult:
    """One way to enlarge, on one benchmark."""

    method: str
    factor: int
    benchmark: str
    """Its name, with how many of its photos were taken where not all were."""
    quality: Quality


def as_picture(image: Image.Image) -> Tensor:
    """An RGB image as float (1, 3, H, W) in [0, 1]."""
    return to_picture(image)[None]


def bicubic(factor: int) -> Enlarge:
    """Pillow's bicubic enlargement."""
    return lambda low_res: as_picture(
        low_res.resize((low_res.width * factor, low_res.height * factor), Image.Resampling.BICUBIC)
    )


def by_network(archive: Archive, device: torch.device) -> Enlarge:
    """The enlargement by an upscaler, rounded to the levels of a file."""
    module = archive.module.to(device)

    def enlarge(low_res: Image.Image) -> Tensor:
        with torch.no_grad():
            high_res_BCHW: Tensor = module(as_picture(low_res).to(device))
        return (high_res_BCHW.cpu() * 255).round() / 255

    return enlarge


def make_pair(path: Path, factor: int) -> tuple[Image.Image, Image.Image]:
    """Truth, cut to a multiple of `factor`, and its reduction by Pillow's bicubic."""
    truth = read_rgb(path)
    width, height = truth.width // factor, truth.height // factor
    truth = truth.crop((0, 0, width * factor, height * factor))
    return truth, truth.resize((width, height), Image.Resampling.BICUBIC)


def measure(enlarge: Enlarge, factor: int, photos: Sequence[Path], lpips: Lpips) -> Quality:
    """The quality of one way to enlarge; `factor` px of border are left out of PSNR and SSIM."""
    rows, colours = [], []
    for path in photos:
        truth, low_res = make_pair(path, factor)
        truth_BCHW, high_res_BCHW = as_picture(truth), enlarge(low_res)
        rows.append([
            psnr(high_res_BCHW, truth_BCHW, factor),
            ssim(high_res_BCHW, truth_BCHW, factor),
            lpips(high_res_BCHW, truth_BCHW).item(),
            lpips(enlarge(through_jpeg(low_res, JPEG_QUALITY)), truth_BCHW).item(),
            grid_power(high_res_BCHW, factor) - grid_power(truth_BCHW, factor),
            repetition_loss(high_res_BCHW, truth_BCHW, factor).sqrt().item(),
        ])  # fmt: skip
        colours.append(mean_colour_difference(high_res_BCHW, as_picture(low_res))[0].tolist())
    decibels, similarity, distance, of_jpeg, grid, repetition = (fmean(column) for column in zip(*rows, strict=True))
    return Quality(decibels, similarity, distance, of_jpeg, grid, repetition, farthest(colours))


def farthest(colours: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """By channel: the signed difference that is farthest from none."""
    return tuple(max(channel, key=abs) for channel in zip(*colours, strict=True))


def read_upscalers(zoos: Sequence[Path]) -> dict[str, Archive]:
    """All upscalers of some folders, each called by its file and what it is. Files for other tasks are passed over."""
    found = {}
    for zoo, label in label_folders(zoos).items():
        for path in sorted(zoo.glob("*.pt")):
            try:
                archive = read_archive(path, Task.UPSCALE)
            except CheckpointError:
                continue
            found[f"{path.stem} ({archive.card.architecture}, {label})"] = archive
    return found


@dataclass(frozen=True)
class UpscaleExam:
    """What is measured."""

    benchmarks: Sequence[Path]
    """Folders of ground truth."""
    lpips: Lpips
    device: torch.device
    most_photos: int | None = None
    """Photos of each benchmark; none: all."""

    def run(self, upscalers: dict[str, Archive]) -> list[UpscaleResult]:
        """Bicubic and every upscaler, on every benchmark, by factor."""
        methods: list[tuple[str, int, Enlarge]] = []
        for factor in sorted({archive.card.factor or 0 for archive in upscalers.values()}):
            methods.append(("bicubic", factor, bicubic(factor)))
            own = [(name, archive) for name, archive in upscalers.items() if archive.card.factor == factor]
            methods += [(name, factor, by_network(archive, self.device)) for name, archive in own]
        return [self._one(*method, folder) for method in methods for folder in self.benchmarks]

    def _one(self, method: str, factor: int, enlarge: Enlarge, folder: Path) -> UpscaleResult:
        photos = list_photos(folder)
        taken = photos[: self.most_photos]
        name = folder.name if len(taken) == len(photos) else f"{folder.name}, first {len(taken)}"
        result = UpscaleResult(method, factor, name, measure(enlarge, factor, taken, self.lpips))
        log.info("%s x%d on %s: LPIPS %.4f", method, factor, name, result.quality.lpips)
        return result
