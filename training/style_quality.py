"""Measures styles of a zoo: their objective, beside what direct optimisation of the pixels reaches."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from models.card import Task
from models.vgg import LossNetwork
from training.errors import StyleImageError
from training.losses import STYLE_IMAGE_SIZE
from training.optimize import Objective, optimize_pixels
from training.pictures import read_square, read_style_image
from training.zoo import Archive, Style, read_archive, read_styles

STARTS: dict[str, Callable[[Tensor], Tensor]] = {"noise": torch.rand_like, "photo": torch.clone}
"""Where direct optimisation begins: at noise as in the paper, or at the photo, which is the harder rival."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rival:
    """Direct optimisation of one photo from one start."""

    curve: list[float]
    """Objective before the first iteration, after the first, and so on."""
    seconds: float
    """Per iteration."""


@dataclass(frozen=True)
class StyleResult:
    """One style on one photo at one size."""

    style: str
    size: int
    content: float
    style_loss: float
    """Weighted."""
    seconds: float
    """The network's time for the picture."""
    rivals: dict[str, Rival] = field(default_factory=dict)
    """By where they start, a key of `STARTS`; empty when none was run for this photo."""

    @property
    def total(self) -> float:
        """The objective."""
        return self.content + self.style_loss


@dataclass(frozen=True)
class StyleExam:
    """What is measured, and with what effort."""

    network: LossNetwork
    images: Path
    """Folder of the style images, each named as its style."""
    photos: Sequence[Path]
    sizes: Sequence[int]
    device: torch.device
    rival_photos: int
    """Photos on which direct optimisation is run as well."""
    iterations: int
    deadline: float
    """`time.monotonic()` after which no further rival is started."""

    def measure(self, trunk: Archive, styles: Sequence[Style]) -> list[StyleResult]:
        """One result per style, photo and size. Raises `StyleImageError` when a style's image is missing."""
        module = trunk.module.to(self.device)
        results = []
        for style in styles:
            style_3HW = read_style_image(find_style_image(self.images, style.card.name), STYLE_IMAGE_SIZE)
            objective = Objective.of_style(self.network, style_3HW.to(self.device))
            for size in self.sizes:
                for index, path in enumerate(self.photos):
                    content_BCHW = read_square(path, size)[None].to(self.device)
                    result = self._measure_one(module, style, objective, content_BCHW)
                    if index < self.rival_photos:
                        self._add_rivals(result, objective, content_BCHW)
                    results.append(result)
                log.info("%s at %d px: objective %.2f", style.card.name, size, mean_total(results[-len(self.photos) :]))
        return results

    def _measure_one(
        self, module: Callable[[Tensor, Tensor], Tensor], style: Style, objective: Objective, content_BCHW: Tensor
    ) -> StyleResult:
        norm_BP = style.norm_P[None].to(self.device)
        with torch.no_grad():
            painted_BCHW, seconds = timed(lambda: module(content_BCHW, norm_BP))
            content_B, style_B = objective.parts(painted_BCHW, objective.content_features(content_BCHW))
        return StyleResult(style.card.name, content_BCHW.shape[-1], content_B.item(), style_B.item(), seconds)

    def _add_rivals(self, result: StyleResult, objective: Objective, content_BCHW: Tensor) -> None:
        for start, begin in STARTS.items():
            if time.monotonic() > self.deadline:
                return
            torch.manual_seed(0)
            before = time.monotonic()
            steps = optimize_pixels(objective, content_BCHW, begin(content_BCHW), self.iterations)
            curve = [value for value, _ in steps]
            result.rivals[start] = Rival(curve, (time.monotonic() - before) / self.iterations)


def mean_total(results: Sequence[StyleResult]) -> float:
    """Mean objective."""
    return sum(result.total for result in results) / len(results)


def mean_curve(rivals: Sequence[Rival]) -> list[float]:
    """Mean objective of several rivals after each iteration."""
    return [sum(values) / len(rivals) for values in zip(*(rival.curve for rival in rivals), strict=True)]


def timed(work: Callable[[], Tensor], repeats: int = 3) -> tuple[Tensor, float]:
    """What `work` gives, and the seconds of its fastest run; the first one only warms up."""
    work()
    times = []
    for _ in range(repeats):
        before = time.perf_counter()
        result = work()
        if result.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - before)
    return result, min(times)


def find_style_image(folder: Path, name: str) -> Path:
    """The picture called `name` in a folder, whatever its format. Raises `StyleImageError`."""
    found = sorted(folder.glob(f"{name}.*"))
    if not found:
        raise StyleImageError(f"There is no picture called {name} in {folder}: give the folder with --style-images.")
    return found[0]


def read_gallery_of(zoo: Path, trunk: str, names: Sequence[str]) -> tuple[Archive, list[Style]]:
    """A trunk of a zoo and its styles, all of them or those named. Raises `CheckpointError`."""
    archive = read_archive(zoo / f"{trunk}.pt", Task.STYLE_TRUNK)
    styles = read_styles(zoo, archive.card.digest)
    return archive, [style for style in styles if not names or style.card.name in names]
