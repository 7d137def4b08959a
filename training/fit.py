"""Command line of the training: `python -m training.fit style|upscale|gallery`."""

import argparse
import logging
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.card import NAME_PATTERN, ModelCard, Task
from models.sr_net import FACTORS, UPSCALERS, build_upscaler
from models.style_net import StyleTrunk
from training.config import (
    Schedule,
    Stage,
    StyleSource,
    StyleWeights,
    UpscaleWeights,
    parse_duration,
    read_gallery,
)
from training.data import CropPolicy, list_photos, read_style_image
from training.errors import ConfigError, TrainingError
from training.export import export_style, export_trunk, export_upscaler, module_digest, read_trunk, trunk_card
from training.loop import RunSettings, Trainer, describe_schedule
from training.losses import STYLE_IMAGE_SIZE, load_loss_network
from training.preview import read_square, save_image, style_sheet, to_image, upscale_sheet
from training.tasks import Degradation, StyleTask, UpscaleTask

DEFAULT_ZOO = Path(__file__).parents[1] / "models" / "zoo"
GALLERY_FILE = Path(__file__).with_name("gallery.toml")
DEFAULT_TRUNK = "trunk-w16"

VECTOR_STAGES = ("500x6@128", "150x3@256")
SCRATCH_STAGES = ("3000x6@128", "600x4@192", "300x3@256")
UPSCALE_STAGES = ("5000x12@96", "1500x8@128")

STYLE_POLICY = CropPolicy()
UPSCALE_POLICY = CropPolicy(max_scale=2.0, rotate=True)

log = logging.getLogger("training")


@dataclass(frozen=True)
class StyleRun:
    """Everything that `fit style` and `fit gallery` share."""

    trunk: StyleTrunk
    trunk_name: str
    styles: tuple[StyleSource, ...]
    schedule: Schedule
    weights: StyleWeights
    train_trunk: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns the exit status: 0 done, 1 a sentence says why not, 130 interrupted."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except TrainingError as error:
        log.error("%s", error)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(prog="python -m training.fit", description=__doc__)
    commands = parser.add_subparsers(required=True)

    style = commands.add_parser("style", help="train one style, by default as a vector on a trunk of the zoo")
    style.add_argument("image", type=Path, help="the style image")
    style.add_argument("--name", help="what requests call the style; by default the image's file name")
    style.add_argument("--trunk", default=DEFAULT_TRUNK, help="trunk of the zoo to train on (default: %(default)s)")
    style.add_argument("--from-scratch", action="store_true", help="train a network for this style alone")
    style.add_argument("--width", type=int, default=16, help="width of that network (default: %(default)s)")
    style.add_argument("--title", default="", help="for the card: what the style image is called")
    style.add_argument("--artist", default="", help="for the card: who made it")
    style.add_argument("--terms", default="", help="for the card: the terms it may be used under")
    style.add_argument("--content-weight", type=float, default=1.0)
    style.add_argument("--style-weight", type=float, default=1e5)
    style.add_argument("--tv-weight", type=float, default=1.0)
    style.set_defaults(command=fit_style)

    gallery = commands.add_parser("gallery", help="train a trunk and all styles of a settings file")
    gallery.add_argument("--settings", type=Path, default=GALLERY_FILE, help="default: %(default)s")
    gallery.add_argument("--styles", type=Path, required=True, help="folder of the style images")
    gallery.set_defaults(command=fit_gallery)

    upscale = commands.add_parser("upscale", help="train an upscaler")
    upscale.add_argument("--factor", type=int, default=4, choices=FACTORS)
    upscale.add_argument("--architecture", default="compact", choices=sorted(UPSCALERS))
    upscale.add_argument("--name", help="default: x and the factor")
    upscale.add_argument("--pixel-weight", type=float, default=UpscaleWeights.pixel)
    upscale.add_argument("--feature-weight", type=float, default=UpscaleWeights.feature)
    upscale.add_argument("--blur-sigma", type=float, default=0.0, help="blur before the reduction; 1.0 in the paper")
    upscale.set_defaults(command=fit_upscale)

    for command in (style, gallery, upscale):
        _add_run_options(command)
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    run = parser.add_argument_group("the run")
    run.add_argument("--photos", type=Path, required=True, help="folder of photos to train on")
    run.add_argument("--loss-weights", type=Path, help="VGG-16 weights; without it torchvision downloads them")
    run.add_argument("--zoo", type=Path, default=DEFAULT_ZOO, help="where the result goes (default: %(default)s)")
    run.add_argument("--run", type=Path, help="folder for checkpoints and previews (default: runs/NAME)")
    run.add_argument("--resume", action="store_true", help="go on from the run's checkpoint")
    run.add_argument("--finish", action="store_true", help="export what the checkpoint holds without training more")
    run.add_argument("--stages", nargs="+", metavar="STEPSxBATCH@SIZE", help="replaces the planned stages")
    run.add_argument("--learning-rate", type=float)
    run.add_argument("--seed", type=int)
    run.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    run.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    run.add_argument("--data-processes", type=int, default=1, help="processes that read photos (default: 1)")
    run.add_argument("--save-every", type=parse_duration, default=180.0, metavar="DURATION", help="default: 3m")
    run.add_argument("--time-limit", type=parse_duration, default=math.inf, metavar="DURATION", help="as in 30m")


def fit_style(options: argparse.Namespace) -> int:
    """Trains one style: a vector on a trunk of the zoo, or the paper's network for it alone."""
    name = options.name or options.image.stem.lower()
    source = StyleSource(name, str(options.image), options.title, options.artist, terms=options.terms)
    weights = StyleWeights(options.content_weight, options.style_weight, options.tv_weight)
    stages: tuple[str, ...]
    if options.from_scratch:
        trunk, trunk_name, stages = StyleTrunk(options.width), f"{name}-trunk", SCRATCH_STAGES
    else:
        trunk, trunk_name, stages = read_trunk(options.zoo / f"{options.trunk}.pt")[0], options.trunk, VECTOR_STAGES
    # A vector alone has few weights and bears a higher learning rate than a network.
    schedule = _schedule(options, stages, 1e-3 if options.from_scratch else 1e-2)
    torch.manual_seed(schedule.seed)
    return _run_styles(
        options, name, StyleRun(trunk, trunk_name, (source,), schedule, weights, train_trunk=options.from_scratch)
    )


def fit_gallery(options: argparse.Namespace) -> int:
    """Trains a trunk and all styles of the settings file."""
    gallery = read_gallery(options.settings, options.styles)
    schedule = _override(options, gallery.schedule)
    torch.manual_seed(schedule.seed)
    name = f"trunk-w{gallery.width}"
    run = StyleRun(StyleTrunk(gallery.width), name, gallery.styles, schedule, gallery.weights, train_trunk=True)
    return _run_styles(options, name, run)


def _run_styles(options: argparse.Namespace, run_name: str, run: StyleRun) -> int:
    _check_names([run_name, *(source.name for source in run.styles)])
    settings = _run_settings(options, run_name)
    images = {source.name: read_style_image(Path(source.path), STYLE_IMAGE_SIZE) for source in run.styles}
    own_weights = {source.name: source.style_weight for source in run.styles if source.style_weight is not None}
    task = StyleTask(
        run.trunk, images, load_loss_network(options.loss_weights), run.weights, own_weights,
        train_trunk=run.train_trunk,
    )  # fmt: skip
    examples = [read_square(path) for path in _example_photos(settings.photos)]
    squares = [read_square(Path(source.path)) for source in run.styles]

    def preview() -> None:
        save_image(style_sheet(task, examples, squares), settings.run_dir / "preview.jpg")

    config = {
        "schedule": describe_schedule(run.schedule),
        "weights": asdict(run.weights),
        "style_weights": own_weights,
        "styles": [source.name for source in run.styles],
        "trunk": "trained" if run.train_trunk else module_digest(run.trunk),
        "width": run.trunk.width,
    }
    trainer = Trainer(task, run.schedule, STYLE_POLICY, settings, config, preview)
    if not _train(trainer, options):
        return 130
    training = _training_record(trainer)
    card = trunk_card(run.trunk, run.trunk_name, training)
    if run.train_trunk:
        export_trunk(run.trunk, card, options.zoo / f"{run.trunk_name}.pt")
    for index, source in enumerate(run.styles):
        _export_style(task, index, source, card, training, options.zoo, examples[0])
    log.info("Wrote %s to %s.", ", ".join(source.name for source in run.styles), options.zoo)
    return 0


def _export_style(
    task: StyleTask, index: int, source: StyleSource, trunk: ModelCard, training: dict[str, Any], zoo: Path,
    example_3HW: Tensor,
) -> None:  # fmt: skip
    card = replace(
        trunk, name=source.name, task=Task.STYLE, trunk_digest=trunk.digest, digest="", training=training,
        source=source.card_source(),
    )  # fmt: skip
    device = next(task.parameters()).device
    with torch.no_grad():
        painted_BCHW = task.paint(example_3HW[None].to(device), torch.tensor([index], device=device))
    save_image(to_image(painted_BCHW[0]), zoo / f"{source.name}.jpg")
    export_style(task.norms_SP[index], card, zoo / f"{source.name}.safetensors")


def fit_upscale(options: argparse.Namespace) -> int:
    """Trains an upscaler."""
    name = options.name or f"x{options.factor}"
    _check_names([name])
    settings = _run_settings(options, name)
    schedule = _schedule(options, UPSCALE_STAGES, 1e-3)
    torch.manual_seed(schedule.seed)
    network = build_upscaler(options.architecture, options.factor)
    weights = UpscaleWeights(options.pixel_weight, options.feature_weight)
    task = UpscaleTask(
        network, Degradation(options.factor, options.blur_sigma), load_loss_network(options.loss_weights), weights
    )
    examples = [read_square(path) for path in _example_photos(settings.photos)]

    def preview() -> None:
        task.eval()
        save_image(upscale_sheet(task, examples), settings.run_dir / "preview.png")
        task.train()

    config = {
        "schedule": describe_schedule(schedule),
        "weights": asdict(weights),
        "degradation": asdict(task.degradation),
        "architecture": options.architecture,
    }
    trainer = Trainer(task, schedule, UPSCALE_POLICY, settings, config, preview)
    if not _train(trainer, options):
        return 130
    card = ModelCard(
        name=name,
        task=Task.UPSCALE,
        architecture=options.architecture,
        width=network.width,  # type: ignore[arg-type]
        digest=module_digest(network),
        factor=options.factor,
        training=_training_record(trainer),
    )
    export_upscaler(network, card, options.zoo / f"{name}.pt")
    log.info("Wrote %s to %s.", name, options.zoo)
    return 0


def _train(trainer: Trainer, options: argparse.Namespace) -> bool:
    if options.finish:
        trainer.restore()
        return True
    return trainer.run()


def _training_record(trainer: Trainer) -> dict[str, Any]:
    return {
        **trainer.config,
        "steps": trainer.progress.step,
        "hours": round(trainer.progress.seconds / 3600, 2),
        "device": str(trainer.settings.device),
        "photos": len(trainer.settings.photos),
        "losses": {name: round(value, 4) for name, value in trainer.last_losses.items()},
    }


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if not NAME_PATTERN.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be a name: use 1 to 64 lower-case letters, digits, '-' and '_'.")


def _schedule(options: argparse.Namespace, stages: Sequence[str], learning_rate: float) -> Schedule:
    return _override(options, Schedule(tuple(Stage.parse(text) for text in stages), learning_rate))


def _override(options: argparse.Namespace, schedule: Schedule) -> Schedule:
    stages = tuple(Stage.parse(text) for text in options.stages) if options.stages else schedule.stages
    return Schedule(
        stages,
        schedule.learning_rate if options.learning_rate is None else options.learning_rate,
        schedule.seed if options.seed is None else options.seed,
    )


def _run_settings(options: argparse.Namespace, name: str) -> RunSettings:
    return RunSettings(
        photos=tuple(list_photos(options.photos)),
        run_dir=options.run or Path("runs") / name,
        device=torch.device(options.device),
        resume=options.resume,
        data_processes=options.data_processes,
        save_every_s=options.save_every,
        time_limit_s=options.time_limit,
    )


def _example_photos(photos: Sequence[Path], count: int = 3) -> list[Path]:
    return [photos[(2 * index + 1) * len(photos) // (2 * count)] for index in range(min(count, len(photos)))]


if __name__ == "__main__":
    sys.exit(main())
