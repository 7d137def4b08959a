"""Measures styles of a zoo: their objective, beside what direct optimisation of the pixels reaches."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from models.card import Task
from models.vgg import LossNetwork
from training.config import StyleWeights
from training.errors import CheckpointError, StyleImageError
from training.losses import STYLE_IMAGE_SIZE
from training.optimize import Objective
from training.pictures import read_square, read_style_image
from training.rivals import STARTS, Curve, Rivals, seconds_per_iteration
from training.zoo import Archive, Style, label_folders, read_archive, read_styles

log = logging.getLogger(__name__)

Pair = tuple[str, str, int]
"""A style, a photo and a size."""


@dataclass(frozen=True)
class Gallery:
    """A trunk of a zoo and styles painted by it."""

    label: str
    trunk: Archive
    styles: Sequence[Style]


@dataclass(frozen=True)
class StyleResult:
    """What one trunk makes of one pair."""

    trunk: str
    pair: Pair
    content: float
    style_loss: float
    """Weighted."""

    @property
    def style(self) -> str:
        """The style's name."""
        return self.pair[0]

    @property
    def size(self) -> int:
        """Height and width in px."""
        return self.pair[2]

    @property
    def total(self) -> float:
        """The objective."""
        return self.content + self.style_loss


@dataclass(frozen=True)
class StyleMeasures:
    """Everything that was measured."""

    results: list[StyleResult] = field(default_factory=list)
    curves: dict[str, dict[Pair, Curve]] = field(default_factory=lambda: {start: {} for start in STARTS})
    """Direct optimisation by where it starts, for the pairs for which it was run."""
    paint_seconds: dict[tuple[str, int], float] = field(default_factory=dict)
    """A trunk's time for a picture, by trunk and size."""
    iteration_seconds: dict[int, float] = field(default_factory=dict)
    """Direct optimisation's time for an iteration, by size."""


@dataclass(frozen=True)
class Target:
    """A style as it is judged."""

    style_3HW: Tensor
    objective: Objective


@dataclass(frozen=True)
class StyleExam:
    """What is measured, and with what effort."""

    network: LossNetwork
    images: Path
    """Folder of the style images, each named as its style."""
    photos: Sequence[Path]
    rival_photos: Mapping[int, int]
    """By size (height and width in px): on how many of the photos direct optimisation is run as well."""
    rivals: Rivals
    device: torch.device
    style_weight: float = StyleWeights.style
    """Of the objective. Styles trained at another one are judged fairly at theirs alone."""

    def measure(self, galleries: Sequence[Gallery]) -> StyleMeasures:
        """All trunks, sizes and photos. Raises `StyleImageError` when a style's image is missing."""
        measures = StyleMeasures()
        targets = {style.card.name: self._target(style.card.name) for it in galleries for style in it.styles}
        for size in self.rival_photos:
            for gallery in galleries:
                self._paint(gallery, targets, size, measures)
                log.info("%s at %d px: objective %.2f", gallery.label, size, mean_total(measures.results, size))
        # The trunks' own numbers are there within minutes; rivals take hours.
        for size, count in self.rival_photos.items():
            self._oppose(targets, size, self.photos[:count], measures)
            if any(pair[2] == size for curves in measures.curves.values() for pair in curves):
                self._time(galleries, targets, size, measures)
        return measures

    def _target(self, name: str) -> Target:
        style_3HW = read_style_image(find_style_image(self.images, name), STYLE_IMAGE_SIZE).to(self.device)
        return Target(style_3HW, Objective.of_style(self.network, style_3HW, self.style_weight))

    def _paint(self, gallery: Gallery, targets: Mapping[str, Target], size: int, measures: StyleMeasures) -> None:
        module = gallery.trunk.module.to(self.device)
        for style in gallery.styles:
            objective = targets[style.card.name].objective
            norm_BP = style.norm_P[None].to(self.device)
            for path in self.photos:
                content_BCHW = self._read(path, size)
                with torch.no_grad():
                    painted_BCHW = module(content_BCHW, norm_BP)
                    content_B, style_B = objective.parts(painted_BCHW, objective.content_features(content_BCHW))
                pair = (style.card.name, path.name, size)
                measures.results.append(StyleResult(gallery.label, pair, content_B.item(), style_B.item()))

    def _oppose(
        self, targets: Mapping[str, Target], size: int, photos: Sequence[Path], measures: StyleMeasures
    ) -> None:
        # The paper's start comes first: what time is left for is another photo from noise.
        for start, curves in measures.curves.items():
            for path in photos:
                content_BCHW = self._read(path, size)
                for name, target in targets.items():
                    curve = self.rivals.curve(target.objective, target.style_3HW, content_BCHW, start)
                    if curve:
                        curves[name, path.name, size] = curve

    def _time(
        self, galleries: Sequence[Gallery], targets: Mapping[str, Target], size: int, measures: StyleMeasures
    ) -> None:
        """Networks and rival in the same minute, on the same machine."""
        content_BCHW = self._read(self.photos[0], size)
        for gallery in galleries:
            measures.paint_seconds[gallery.label, size] = self._time_painting(gallery, content_BCHW)
        objective = next(iter(targets.values())).objective
        measures.iteration_seconds[size] = seconds_per_iteration(objective, content_BCHW)

    def _time_painting(self, gallery: Gallery, content_BCHW: Tensor) -> float:
        module, norm_BP = gallery.trunk.module.to(self.device), gallery.styles[0].norm_P[None].to(self.device)
        with torch.no_grad():
            return fastest(lambda: module(content_BCHW, norm_BP))

    def _read(self, path: Path, size: int) -> Tensor:
        return read_square(path, size)[None].to(self.device)


def mean_total(results: Sequence[StyleResult], size: int) -> float:
    """Mean objective of the last trunk measured at a size."""
    return fmean(result.total for result in results if (result.trunk, result.size) == (results[-1].trunk, size))


def fastest(work: Callable[[], Tensor], repeats: int = 3) -> float:
    """The seconds of the fastest run of `work`; the first one only warms up."""
    work()
    times = []
    for _ in range(repeats):
        before = time.perf_counter()
        if work().is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - before)
    return min(times)


def find_style_image(folder: Path, name: str) -> Path:
    """The picture called `name` in a folder, whatever its format. Raises `StyleImageError`."""
    found = sorted(folder.glob(f"{name}.*"))
    if not found:
        raise StyleImageError(f"There is no picture called {name} in {folder}: give the folder with --style-images.")
    return found[0]


def read_galleries(zoos: Sequence[Path], trunks: Sequence[str], names: Sequence[str]) -> list[Gallery]:
    """Every trunk of these names in every folder, with all its styles or those named. Raises `CheckpointError`."""
    paths = [zoo / f"{trunk}.pt" for trunk in trunks for zoo in zoos]
    found = [path for path in paths if path.exists()]
    for trunk in trunks:
        if trunk not in [path.stem for path in found]:
            raise CheckpointError(f"No {trunk}.pt in {', '.join(map(str, zoos))}: check --zoo and --trunk.")
    stems = [path.stem for path in found]
    folders = label_folders(zoos)
    labels = [path.stem if stems.count(path.stem) == 1 else f"{path.stem} ({folders[path.parent]})" for path in found]
    return [_read_gallery(path, label, names) for path, label in zip(found, labels, strict=True)]


def _read_gallery(path: Path, label: str, names: Sequence[str]) -> Gallery:
    trunk = read_archive(path, Task.STYLE_TRUNK)
    styles = [style for style in read_styles(path.parent, trunk.card.digest) if not names or style.card.name in names]
    if not styles:
        raise CheckpointError(f"No style of {path.stem} in {path.parent}: check --zoo, --trunk and --styles.")
    return Gallery(label, trunk, styles)
