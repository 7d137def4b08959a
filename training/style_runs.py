"""`fit style` and `fit gallery`: from style images to vectors in the zoo, with or without their trunk."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.card import ModelCard, Task
from models.style_net import StyleTrunk
from models.vgg import LossNetwork
from training.balance import measure_untrained
from training.base_trunk import BaseTrunk, find_base
from training.checkpoint import BEFORE
from training.config import Gallery, Schedule, Stage, StyleSource, StyleWeights, read_gallery
from training.data import CropPolicy, list_photos
from training.distributed import ProcessGroup
from training.export import export_style, export_trunk, module_digest, trunk_card
from training.loop import RunSettings, Trainer, describe_schedule
from training.losses import STYLE_IMAGE_SIZE, load_loss_network
from training.nearest import nearest_norm
from training.optimize import Objective
from training.pictures import read_square, read_style_image, save_image, to_image
from training.preview import PREVIEW_SIZE, example_photos, style_sheet, style_strip
from training.sitting import (
    check_names,
    config_of_before,
    loss_writer,
    name_from,
    override,
    run_settings,
    train,
    training_record,
)
from training.targets import check_gallery, check_previews, check_trunk
from training.tasks import StyleTask
from training.widen import find_narrower, widen_norms, widen_trunk
from training.zoo import read_styles, read_trunk

VECTOR_STAGES = (Stage(300, 2, 128), Stage(390, 1, 256))
"""Many steps of few photos: so few weights learn as much from one photo as from six, and large crops teach strokes."""
VECTOR_LEARNING_RATE = 3e-2
"""Thirty times a network's: a vector alone has few weights and bears it."""
GALLERY_VECTOR_PACE = 20.0
"""How many times as fast as their trunk the gallery's vectors learn: each sees a tenth of the photos."""
SCRATCH_STAGES = (Stage(3000, 6, 128), Stage(600, 4, 192), Stage(300, 3, 256))
START_PHOTOS = 4
START_SIZE = 128
"""Photos, and their size in px, on which the styles are compared from which a new one may start: some seconds on two
slow cores. At 256 px the same ones come first, after four times as long."""
MEAN = "the mean of all styles"
BALANCE_PHOTOS = 12
"""Photos on which the untrained losses are measured."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StyleRun:
    """What is trained: the styles, and the trunk with them or as it is."""

    name: str
    trunk: StyleTrunk
    trunk_name: str
    start_P: Tensor
    """The vector from which every style starts, or one for each (S, P)."""
    styles: tuple[StyleSource, ...]
    schedule: Schedule
    weights: StyleWeights
    vector_pace: float = 1.0
    """How many times as fast as the learning rate says the vectors learn."""
    base: BaseTrunk | None = None
    """The trunk's file, where it is not trained but stays as it is."""
    before: dict[str, Any] = field(default_factory=dict)
    """The training that trunk and vectors have already had."""

    @property
    def train_trunk(self) -> bool:
        """Whether the trunk learns as well."""
        return self.base is None


def fit_style(options: argparse.Namespace, group: ProcessGroup) -> int:
    """Trains one style: a vector on a trunk of the zoo, or the paper's network for it alone. Returns the exit status.

    Raises a `TrainingError` for what a person can mend.
    """
    name = options.name or name_from(options.image)
    check_names([name, _own_trunk(name)] if options.from_scratch else [name])
    source = StyleSource(name, str(options.image), options.title, options.artist, options.year, options.terms)
    check_previews(options.zoo, [source])
    if options.from_scratch:
        check_trunk(options.zoo, _own_trunk(name), [name])
    base = None if options.from_scratch else find_base(options.zoo, options.trunk)
    settings = run_settings(options, name, group)
    network = load_loss_network(options.loss_weights)
    weights = StyleWeights(options.content_weight, _style_weight(options, network, settings), options.tv_weight)
    if base is None:
        run = _from_scratch(options, source, weights)
    else:
        run = _on_trunk(options, base, source, weights, network, compare=not _has_checkpoint(options, settings))
    return _run(options, run, network, settings)


def _from_scratch(options: argparse.Namespace, source: StyleSource, weights: StyleWeights) -> StyleRun:
    schedule = override(options, Schedule(SCRATCH_STAGES))
    torch.manual_seed(schedule.seed)
    trunk, trunk_name = StyleTrunk(options.width), _own_trunk(source.name)
    return StyleRun(source.name, trunk, trunk_name, trunk.neutral_norm(), (source,), schedule, weights)


def _own_trunk(style: str) -> str:
    """What a style's own trunk is called."""
    return f"{style}-trunk"


def _has_checkpoint(options: argparse.Namespace, settings: RunSettings) -> bool:
    """Whether a checkpoint will replace whatever the run starts from."""
    return (options.resume or options.finish) and settings.checkpoint.exists()


def _on_trunk(
    options: argparse.Namespace,
    base: BaseTrunk,
    source: StyleSource,
    weights: StyleWeights,
    network: LossNetwork,
    *,
    compare: bool,
) -> StyleRun:
    trunk, known = base.trunk, base.known_styles(options.zoo)
    known.pop(source.name, None)
    start_P = _start_of(options, trunk, known, weights, network) if known and compare else trunk.neutral_norm()
    schedule = override(options, Schedule(VECTOR_STAGES, VECTOR_LEARNING_RATE))
    return StyleRun(source.name, trunk, options.trunk, start_P, (source,), schedule, weights, base=base)


def _start_of(
    options: argparse.Namespace,
    trunk: StyleTrunk,
    known: dict[str, Tensor],
    weights: StyleWeights,
    network: LossNetwork,
) -> Tensor:
    """The vector of the style that paints most like the new one, or the mean of all if that is nearer."""
    style_3HW = read_style_image(options.image, STYLE_IMAGE_SIZE)
    objective = Objective.of_style(network, style_3HW, weights.style)
    photos = example_photos(list_photos(options.photos), START_PHOTOS, size=START_SIZE)
    starts = {**known, MEAN: torch.stack(list(known.values())).mean(dim=0)}
    name = nearest_norm(trunk, starts, objective, photos, weights.content)
    log.info("Starting from %s.", name)
    return starts[name]


def _style_weight(options: argparse.Namespace, network: LossNetwork, settings: RunSettings) -> float:
    if options.style_weight is not None:
        return float(options.style_weight)
    saved = config_of_before(options, settings.checkpoint)
    if saved is not None and "style" in saved.get("weights", {}):
        # One photo more in the folder, and another one would be worked out.
        weight = float(saved["weights"]["style"])
        log.info("Style weight %g, as the run began.", weight)
        return weight
    style_3HW = read_style_image(options.image, STYLE_IMAGE_SIZE)
    photos_BCHW = torch.stack(example_photos(settings.photos, BALANCE_PHOTOS))
    untrained = measure_untrained(network, photos_BCHW, style_3HW)
    weight = untrained.style_weight(options.strength)
    log.info("Style weight %g for a %s style.", weight, options.strength)
    return weight


def fit_gallery(options: argparse.Namespace, group: ProcessGroup) -> int:
    """Trains a trunk and all styles of the settings file. Returns the exit status.

    Raises a `TrainingError` for what a person can mend.
    """
    gallery = read_gallery(options.settings, options.styles)
    names = [source.name for source in gallery.styles]
    check_names(names)
    check_previews(options.zoo, gallery.styles)
    run = _plan_gallery(options, gallery)
    check_gallery(options.zoo, run.trunk_name, names)
    return _run(options, run, load_loss_network(options.loss_weights), run_settings(options, run.name, group))


@dataclass(frozen=True)
class GalleryStart:
    """What a gallery's training begins with."""

    trunk: StyleTrunk
    norms: Tensor
    """One vector (P,) for all styles, or each style's own (S, P)."""
    training: dict[str, Any] = field(default_factory=dict)
    """What they have already had."""


def _plan_gallery(options: argparse.Namespace, gallery: Gallery) -> StyleRun:
    schedule = override(options, gallery.schedule)
    start = _start_gallery(options, gallery, schedule.seed)
    name = f"trunk-w{start.trunk.width}"
    return StyleRun(
        name,
        start.trunk,
        name,
        start.norms,
        gallery.styles,
        schedule,
        gallery.weights,
        vector_pace=GALLERY_VECTOR_PACE,
        before=start.training,
    )


def _start_gallery(options: argparse.Namespace, gallery: Gallery, seed: int) -> GalleryStart:
    width = options.width or gallery.width
    if options.start_from:
        return _read_gallery(gallery, options.start_from / f"trunk-w{width}.pt")
    if options.widen_from:
        narrow = _read_gallery(gallery, find_narrower(options.widen_from, width))
        return GalleryStart(
            widen_trunk(narrow.trunk, width, seed),
            widen_norms(narrow.trunk, narrow.norms, width),
            {**narrow.training, "widened_from": narrow.trunk.width},
        )
    torch.manual_seed(seed)
    trunk = StyleTrunk(width)
    return GalleryStart(trunk, trunk.neutral_norm())


def _read_gallery(gallery: Gallery, path: Path) -> GalleryStart:
    """A zoo's trunk and vectors; styles that are new there start from the mean of the others."""
    trunk, card = read_trunk(path)
    known = {style.card.name: style.norm_P for style in read_styles(path.parent, card.digest)}
    mean_P = torch.stack(list(known.values())).mean(dim=0) if known else trunk.neutral_norm()
    return GalleryStart(
        trunk, torch.stack([known.get(source.name, mean_P) for source in gallery.styles]), card.training
    )


def _run(options: argparse.Namespace, run: StyleRun, network: LossNetwork, settings: RunSettings) -> int:
    own_weights = {source.name: source.style_weight for source in run.styles if source.style_weight is not None}
    own_tv = {source.name: source.tv_weight for source in run.styles if source.tv_weight is not None}
    images = {source.name: read_style_image(Path(source.path), STYLE_IMAGE_SIZE) for source in run.styles}
    task = StyleTask(run.trunk, images, network, run.weights, own_weights, own_tv, train_trunk=run.train_trunk)
    task.start_from(run.start_P)
    examples = example_photos(settings.photos)
    config = _config(run, own_weights, own_tv)
    trainer = Trainer(task, run.schedule, CropPolicy(), settings, config, _previewer(task, run, settings, examples))
    trainer.write_losses = loss_writer(options, settings)
    trainer.paces = {"norms_SP": run.vector_pace}
    trainer.orthogonal = task.convolutions()
    if not train(trainer, options):
        return 130
    if settings.group.leads:
        _export(task, run, training_record(trainer), options.zoo, examples[0])
    return 0


def _config(run: StyleRun, own_weights: dict[str, float], own_tv: dict[str, float]) -> dict[str, Any]:
    return {
        "schedule": describe_schedule(run.schedule),
        "weights": asdict(run.weights),
        "style_weights": own_weights,
        "tv_weights": own_tv,
        BEFORE: run.before,
        "styles": [source.name for source in run.styles],
        "vector_pace": run.vector_pace,
        "trunk": "trained" if run.train_trunk else module_digest(run.trunk),
        "width": run.trunk.width,
    }


class _Previewer:
    """Draws a strip for one style, a sheet for several."""

    def __init__(self, task: StyleTask, run: StyleRun, path: Path, examples: Sequence[Tensor]) -> None:
        self._task = task
        self._path = path
        self._examples = examples
        self._styles = [read_square(Path(source.path), PREVIEW_SIZE) for source in run.styles]

    def __call__(self) -> None:
        if len(self._styles) == 1:
            save_image(style_strip(self._task, self._examples, self._styles[0]), self._path)
        else:
            save_image(style_sheet(self._task, self._examples, self._styles), self._path)


def _previewer(task: StyleTask, run: StyleRun, settings: RunSettings, examples: Sequence[Tensor]) -> _Previewer:
    return _Previewer(task, run, settings.run_dir / "preview.jpg", examples)


def _export(task: StyleTask, run: StyleRun, training: dict[str, Any], zoo: Path, example_3HW: Tensor) -> None:
    card = run.base.card if run.base else trunk_card(run.trunk, run.trunk_name, training)
    for index, source in enumerate(run.styles):
        _export_preview(task, index, zoo / f"{source.name}.jpg", example_3HW)
    if run.base:
        run.base.bring_into(zoo)
    else:
        export_trunk(run.trunk, card, zoo / f"{run.trunk_name}.pt")
    for source, norm_P in zip(run.styles, task.norms_SP, strict=True):
        style_card = _style_card(card, source, training)
        export_style(norm_P, style_card, zoo / f"{source.name}.safetensors")
    log.info("Wrote %s to %s.", ", ".join(source.name for source in run.styles), zoo)


def _style_card(trunk: ModelCard, source: StyleSource, training: dict[str, Any]) -> ModelCard:
    return replace(
        trunk,
        name=source.name,
        task=Task.STYLE,
        trunk_digest=trunk.digest,
        digest="",
        training=training,
        source=source.card_source(),
    )


def _export_preview(task: StyleTask, index: int, path: Path, example_3HW: Tensor) -> None:
    device = task.norms_SP.device
    with torch.no_grad():
        painted_BCHW = task.paint(example_3HW[None].to(device), torch.tensor([index], device=device))
    save_image(to_image(painted_BCHW[0]), path)
