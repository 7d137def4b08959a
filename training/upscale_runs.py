"""`fit upscale`: from photos to an upscaler in the zoo."""

import argparse
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.card import ModelCard, Task
from models.sr_net import ProgressiveUpscaler, build_upscaler
from training.checkpoint import BEFORE
from training.config import Schedule, Stage, UpscaleWeights
from training.data import CropPolicy
from training.distributed import ProcessGroup
from training.errors import CheckpointError, ConfigError
from training.export import export_upscaler, module_digest
from training.loop import Trainer, describe_schedule
from training.losses import load_loss_network
from training.pictures import save_image
from training.preview import example_photos, upscale_sheet
from training.sitting import (
    check_names,
    config_of_before,
    loss_writer,
    override,
    run_settings,
    train,
    training_record,
)
from training.targets import announce_upscaler
from training.tasks import LEAST_JUDGED, Degradation, UpscaleTask
from training.zoo import read_archive

UPSCALE_STAGES = {
    2: (Stage(5000, 12, 96), Stage(1500, 8, 128)),
    4: (Stage(5000, 3, 192), Stage(1500, 2, 256)),
    8: (Stage(5000, 3, 192), Stage(1500, 2, 256)),
}
"""By factor. Networks see a dozen px of the input around each: of smaller crops most places see the mirrored border."""
WARM_UP = "warm_up_samples"
"""What a config calls a run's first pictures, from which the per-pixel loss alone learns."""
UPSCALE_POLICY = CropPolicy(max_scale=2.0, rotate=True)

log = logging.getLogger(__name__)


def fit_upscale(options: argparse.Namespace, group: ProcessGroup) -> int:
    """Trains an upscaler. Returns the exit status. Raises a `TrainingError` for what a person can mend."""
    name = options.name or f"x{options.factor}"
    check_names([name])
    settings = run_settings(options, name, group)
    schedule = override(options, Schedule(UPSCALE_STAGES[options.factor]))
    _check_sizes(schedule, options)
    announce_upscaler(options.zoo, name, options.factor)
    task, before = _build_task(options, schedule, settings.checkpoint)
    examples = example_photos(settings.photos)

    def preview() -> None:
        save_image(upscale_sheet(task, examples), settings.run_dir / "preview.png")

    trainer = Trainer(task, schedule, UPSCALE_POLICY, settings, _config(options, task, schedule, before), preview)
    trainer.write_losses = loss_writer(options, settings)
    trainer.before_step, trainer.after_step = task.before_step, task.after_step
    trainer.orthogonal = task.convolutions()
    if not train(trainer, options):
        return 130
    if group.leads:
        card = _card(name, options, task, training_record(trainer))
        export_upscaler(task.averaged_network, card, options.zoo / f"{name}.pt")
        log.info("Wrote %s to %s.", name, options.zoo)
    return 0


def _check_sizes(schedule: Schedule, options: argparse.Namespace) -> None:
    factor, weights = options.factor, _weights(options)
    for stage in schedule.stages:
        if stage.size % factor:
            raise ConfigError(
                f"Pictures of {stage.size} px cannot be reduced {factor} times: give multiples of {factor}."
            )
        if weights.judged and stage.size < LEAST_JUDGED:
            raise ConfigError(
                f"Pictures of {stage.size} px are too small for the discriminator: give {LEAST_JUDGED} px or more, "
                "or --adversarial-weight 0."
            )


def _build_task(
    options: argparse.Namespace, schedule: Schedule, checkpoint: Path
) -> tuple[UpscaleTask, dict[str, Any]]:
    """The task, and the training that its network has already had."""
    torch.manual_seed(schedule.seed)
    try:
        network = build_upscaler(options.architecture, options.factor)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    before = start_from(network, options.start_from) if options.start_from else {}
    task = UpscaleTask(
        network,
        Degradation(options.factor, options.blur_sigma, options.jpeg_share, schedule.seed),
        load_loss_network(options.loss_weights),
        _weights(options),
        warm_up_samples=_warm_up_samples(options, schedule, checkpoint),
    )
    return task, before


def _weights(options: argparse.Namespace) -> UpscaleWeights:
    weights = UpscaleWeights(
        options.pixel_weight,
        options.feature_weight,
        options.texture_weight,
        options.color_weight,
        options.adversarial_weight,
        options.repetition_weight,
    )
    # The card should not name what the per-pixel loss alone leaves out.
    return weights if weights.compares_features else UpscaleWeights(weights.pixel, 0.0, 0.0, 0.0, 0.0, 0.0)


def _warm_up_samples(options: argparse.Namespace, schedule: Schedule, checkpoint: Path) -> int:
    if options.warm_up is not None:
        return schedule.samples_before(options.warm_up)
    if options.start_from or not _weights(options).compares_features:
        # What has been trained before, or knows no feature loss, needs none.
        return 0
    saved = config_of_before(options, checkpoint)
    if saved is not None:
        # Stages may have become others since: memory can run out as soon as features are compared.
        return int(saved.get(WARM_UP, 0))
    return schedule.samples_before(schedule.stages[0].steps // 2)


def start_from(network: nn.Module, path: Path) -> dict[str, Any]:
    """Takes the weights of an upscaler of the same architecture and factor, or for the first stage of a progressive one
    those of a compact one of half the factor, whose residual blocks are then new. Returns its training. Raises
    `CheckpointError`.
    """
    archive = read_archive(path, Task.UPSCALE)
    state = archive.module.state_dict()
    if isinstance(network, ProgressiveUpscaler) and archive.card.architecture == "compact":
        network = network.first
        state = {f"blocks.{name}": value for name, value in network.blocks.state_dict().items()} | state
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path} is of another architecture or factor: {archive.card.architecture}.") from error
    return archive.card.training


def _config(
    options: argparse.Namespace, task: UpscaleTask, schedule: Schedule, before: dict[str, Any]
) -> dict[str, Any]:
    config = {
        "schedule": describe_schedule(schedule),
        "weights": asdict(task.weights),
        "degradation": asdict(task.degradation),
        "architecture": options.architecture,
    }
    if before:
        config[BEFORE] = before
    if task.warm_up_samples:
        config[WARM_UP] = task.warm_up_samples
    return config


def _card(name: str, options: argparse.Namespace, task: UpscaleTask, training: dict[str, Any]) -> ModelCard:
    return ModelCard(
        name=name,
        task=Task.UPSCALE,
        architecture=options.architecture,
        width=task.network.width,  # type: ignore[arg-type]
        digest=module_digest(task.averaged_network),
        factor=options.factor,
        training=training,
    )
