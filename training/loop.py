"""The training loop: the same for every task."""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from training.checkpoint import Progress, load_checkpoint, save_checkpoint, set_aside
from training.config import Schedule
from training.data import BatchPlan, CropPolicy, PhotoCrops, load_batches
from training.distributed import ProcessGroup
from training.errors import DeviceMemoryError, PhotosError
from training.journal import LossWriter, ignore_losses
from training.memory import memory_error
from training.muon import Muon
from training.precision import autocast
from training.stop import StopRequest

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
REPORT_EVERY = 10
"""Steps between two reports of the losses: reading them makes the device wait."""

WARM_UP_STEPS = 30
"""At first Adam takes the few gradients it has seen for all there are: full steps would spoil what is trained on."""

Batch = tuple[Tensor, Tensor, Tensor]
"""Crops (B, 3, S, S) uint8, their numbers in the run (B,), how many broken photos each passed over (B,)."""


@dataclass(frozen=True)
class RunSettings:
    """Where and how a run works, as opposed to what it computes."""

    photos: tuple[Path, ...]
    run_dir: Path
    device: torch.device
    group: ProcessGroup = field(default_factory=ProcessGroup)
    resume: bool = False
    data_processes: int = 1
    precision: str = "auto"
    """See `training.precision`."""
    save_every_s: float = 180.0
    """Seconds between checkpoints and previews."""
    time_limit_s: float = math.inf
    """Seconds after which this sitting stops, to be resumed."""

    @property
    def checkpoint(self) -> Path:
        """The run's checkpoint."""
        return self.run_dir / CHECKPOINT


def learning_rate_factor(step: int, steps: int) -> float:
    """Rises over the first steps, is constant until half of the run is done, then a cosine to zero."""
    rise = min(1.0, (step + 1) / max(min(WARM_UP_STEPS, steps // 10), 1))
    return rise if 2 * step < steps else 0.5 * (1 + math.cos(math.pi * (2 * step / steps - 1)))


@dataclass
class Trainer:
    """Runs a task's schedule, from the start or from a checkpoint, and leaves checkpoints and previews behind."""

    task: nn.Module
    """Called with pictures (B, 3, S, S) in [0, 1] and their numbers (B,); answers with losses, `total` among them."""
    schedule: Schedule
    policy: CropPolicy
    settings: RunSettings
    config: dict[str, Any]
    """What must be equal for a resume; also goes into the card."""
    preview: Callable[[], None]
    """Draws the preview picture."""
    write_losses: LossWriter = ignore_losses
    paces: Mapping[str, float] = field(default_factory=dict)
    """What the task's parameters of these names learn at, in learning rates; others at 1."""
    orthogonal: Collection[str] = ()
    """Names of weights of convolutions that learn by `Muon`'s rule."""
    before_step: Callable[[], None] = lambda: None
    """Called once there are gradients."""
    after_step: Callable[[], None] = lambda: None
    """Called once the weights have moved."""
    progress: Progress = field(default_factory=Progress)
    broken_photos: set[Path] = field(default_factory=set)
    """Files that this process, in this sitting, could not read."""

    def run(self) -> bool:
        """Trains. Returns whether the schedule was finished; either way the checkpoint holds what was learned.

        Raises a `TrainingError` for what a person can mend.
        """
        self.settings.group.check(self.schedule)
        self.task.to(self.settings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = self._optimizer()
        self._take_up(optimizer)
        self.task.train()
        stop = StopRequest(self.settings.time_limit_s)
        with stop.on_signals():
            try:
                self._run_steps(optimizer, stop)
            except DeviceMemoryError:
                # What has been learned is whole: a smaller batch goes on with it.
                self._save(optimizer)
                raise
            self.task.eval()
            self._save(optimizer)
            # `torchrun` ends all processes as soon as one has ended: none leaves before the checkpoint is there, as
            # all take part in this sum.
            broken = self._count_broken_photos()
        if broken and self.settings.group.leads:
            log.warning("%d unreadable photos were passed over.", broken)
        if stop.reason:
            log.info("Stopped at step %d (%s): --resume goes on.", self.progress.step, stop.reason)
        return self.progress.step >= self.schedule.steps

    def restore(self) -> None:
        """Takes up the checkpoint without training. Raises `CheckpointError`."""
        self.progress = load_checkpoint(self.settings.checkpoint, self.task, self._optimizer(), self.config)
        self.task.to(self.settings.device).eval()

    def _optimizer(self) -> torch.optim.Optimizer:
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, value in self.task.named_parameters():
            if value.requires_grad:
                groups.setdefault((self.paces.get(name, 1.0), name in self.orthogonal), []).append(value)
        return Muon(
            [
                {"params": values, "pace": pace, "orthogonal": orthogonal}
                for (pace, orthogonal), values in groups.items()
            ],
            lr=self.schedule.learning_rate,
        )

    def _take_up(self, optimizer: torch.optim.Optimizer) -> None:
        checkpoint = self.settings.checkpoint
        if not checkpoint.exists():
            return
        if self.settings.resume:
            self.progress = load_checkpoint(checkpoint, self.task, optimizer, self.config)
        elif self.settings.group.leads:
            log.warning("%s is of an earlier run: kept as %s.", checkpoint, set_aside(checkpoint).name)

    def _run_steps(self, optimizer: torch.optim.Optimizer, stop: StopRequest) -> None:
        model = self.settings.group.wrap(self.task, self.settings.device)
        saved = time.monotonic()
        with self._bar() as bar:
            for batch in self._batches():
                before = time.monotonic()
                losses = self._step(model, optimizer, batch)
                self.progress.step += 1
                self.progress.seconds += time.monotonic() - before
                bar.update()
                if self.progress.step % REPORT_EVERY == 0:
                    self._report(losses, bar)
                if time.monotonic() - saved > self.settings.save_every_s:
                    self._save(optimizer)
                    saved = time.monotonic()
                if self._should_stop(stop):
                    return

    def _bar(self) -> "tqdm[None]":
        return tqdm(
            total=self.schedule.steps,
            initial=self.progress.step,
            mininterval=1,
            unit="step",
            disable=not self.settings.group.leads,
        )

    def _batches(self) -> Iterator[Batch]:
        settings = self.settings
        crops = PhotoCrops(settings.photos, self.policy, self.schedule.seed)
        plan = BatchPlan(self.schedule, self.progress.step, settings.group.rank, settings.group.size)
        try:
            for batch in load_batches(crops, plan, settings.data_processes):
                self._note_broken_photos(crops, batch)
                yield batch
        except PhotosError as error:
            # A reader process packs its whole traceback into the message.
            raise PhotosError("None of the photos can be read: check the folder given with --photos.") from error

    def _note_broken_photos(self, crops: PhotoCrops, batch: Batch) -> None:
        _, number_B, broken_B = batch
        for number, broken in zip(number_B.tolist(), broken_B.tolist(), strict=True):
            for path in crops.passed_over(number, broken):
                if path not in self.broken_photos:
                    self.broken_photos.add(path)
                    log.warning("%s cannot be read: passed over.", path)

    def _count_broken_photos(self) -> int:
        """How many files some process could not read."""
        met = self.settings.group.sum([float(path in self.broken_photos) for path in self.settings.photos])
        return sum(count > 0 for count in met)

    def _step(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> dict[str, Tensor]:
        crops_BCHW, number_B, _ = batch
        factor = learning_rate_factor(self.progress.step, self.schedule.steps)
        for group in optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate * factor * group["pace"]
        device = self.settings.device
        pictures_BCHW = crops_BCHW.to(device, non_blocking=True).to(memory_format=torch.channels_last).float() / 255
        optimizer.zero_grad(set_to_none=True)
        try:
            losses = self._gradients(model, pictures_BCHW, number_B)
        except torch.OutOfMemoryError:
            losses = None
        if losses is None:
            # Here, because the frames of an error in hand hold all that the failed step had in memory.
            raise self._memory_error(pictures_BCHW, number_B)
        self.before_step()
        optimizer.step()
        self.after_step()
        return losses

    def _gradients(self, model: nn.Module, pictures_BCHW: Tensor, number_B: Tensor) -> dict[str, Tensor]:
        with autocast(self.settings.device, self.settings.precision):
            losses: dict[str, Tensor] = model(pictures_BCHW, number_B)
        losses["total"].backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in losses.items()}

    def _memory_error(self, pictures_BCHW: Tensor, number_B: Tensor) -> DeviceMemoryError:
        def attempt(size: int) -> None:
            self._gradients(self.task, pictures_BCHW[:size], number_B[:size])

        # Processes that train together wait for each other's gradients: none tries anything alone.
        return memory_error(pictures_BCHW, attempt if self.settings.group.size == 1 else None)

    def _report(self, losses: dict[str, Tensor], bar: "tqdm[None]") -> None:
        group = self.settings.group
        sums = group.sum([value.item() for value in losses.values()])
        means = {name: value / group.size for name, value in zip(losses, sums, strict=True)}
        self.progress.losses = means
        self.write_losses(self.progress.step, means)
        bar.set_postfix({name: f"{value:.4g}" for name, value in means.items()}, refresh=False)

    def _save(self, optimizer: torch.optim.Optimizer) -> None:
        if not self.settings.group.leads:
            return
        save_checkpoint(self.settings.checkpoint, self.task, optimizer, self.progress, self.config)
        self.preview()

    def _should_stop(self, stop: StopRequest) -> bool:
        (votes,) = self.settings.group.sum([stop.is_due()])
        if votes:
            stop.reason = stop.reason or "another process stopped"
        return bool(votes)


def describe_schedule(schedule: Schedule) -> dict[str, Any]:
    """The schedule as plain JSON values."""
    return {**asdict(schedule), "stages": [asdict(stage) for stage in schedule.stages]}
