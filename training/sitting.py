"""What every subcommand does around its training: where the run lives, whether to train at all, what to record."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.card import NAME_PATTERN
from training.checkpoint import saved_config
from training.config import Schedule, Stage
from training.data import list_photos
from training.distributed import ProcessGroup
from training.errors import ConfigError
from training.journal import LossWriter, ignore_losses, open_journal
from training.loop import RunSettings, Trainer


def check_names(names: Sequence[str]) -> None:
    """Raises `ConfigError` for the first name that a zoo file cannot have."""
    for name in names:
        if not NAME_PATTERN.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be a name: use 1 to 64 lower-case letters, digits, '-' and '_'.")


def name_from(path: Path) -> str:
    """A file's name as a zoo name: `My Cat.JPG` gives `my_cat`."""
    return re.sub(r"[^a-z0-9_-]+", "_", path.stem.lower()).strip("_-")[:64]


def override(options: argparse.Namespace, schedule: Schedule) -> Schedule:
    """The schedule with what the command line says put in its place."""
    stages = tuple(Stage.parse(text) for text in options.stages) if options.stages else schedule.stages
    return Schedule(
        stages,
        schedule.learning_rate if options.learning_rate is None else options.learning_rate,
        schedule.seed if options.seed is None else options.seed,
    )


def run_settings(options: argparse.Namespace, name: str, group: ProcessGroup) -> RunSettings:
    """The run called `name`. Raises `PhotosError` or `ConfigError`."""
    return RunSettings(
        photos=tuple(list_photos(options.photos)),
        run_dir=options.run or Path("runs") / name,
        device=group.device(options.device),
        group=group,
        resume=options.resume,
        data_processes=options.data_processes,
        precision=options.precision,
        save_every_s=options.save_every,
        time_limit_s=options.time_limit,
    )


def config_of_before(options: argparse.Namespace, checkpoint: Path) -> dict[str, Any] | None:
    """The config of the run that `--resume` or `--finish` goes on with; none for a new one."""
    return saved_config(checkpoint) if options.resume or options.finish else None


def loss_writer(options: argparse.Namespace, settings: RunSettings) -> LossWriter:
    """Where the losses go besides the progress bar. Raises `ConfigError`."""
    if not options.tensorboard or not settings.group.leads:
        return ignore_losses
    return open_journal(settings.run_dir / "tensorboard")


def train(trainer: Trainer, options: argparse.Namespace) -> bool:
    """Trains, or with `--finish` takes what the checkpoint holds. Returns whether there is something to export."""
    if options.finish:
        trainer.restore()
        return True
    return trainer.run()


def training_record(trainer: Trainer) -> dict[str, Any]:
    """What a card says of the training."""
    return {
        **trainer.config,
        "steps": trainer.progress.step,
        "hours": round(trainer.progress.seconds / 3600, 2),
        "device": str(trainer.settings.device),
        "photos": len(trainer.settings.photos),
        "losses": {name: round(value, 4) for name, value in trainer.progress.losses.items()},
    }
