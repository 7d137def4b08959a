"""The training loop: the same for every task."""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from training.checkpoint import Progress, load_checkpoint, save_checkpoint
from training.config import Schedule
from training.data import CropPolicy, PhotoCrops, load_batches

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class RunSettings:
    """Where and how a run works, as opposed to what it computes."""

    photos: tuple[Path, ...]
    run_dir: Path
    device: torch.device
    resume: bool = False
    data_processes: int = 1
    save_every_s: float = 180.0
    """Seconds between checkpoints and previews."""
    time_limit_s: float = math.inf
    """Seconds after which this sitting stops, to be resumed."""


@dataclass
class StopRequest:
    """Set by Ctrl-C, SIGTERM or the time limit; the loop ends after the step in hand."""

    reason: str = ""

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Takes SIGINT and SIGTERM as requests while the block runs; a second one ends the program at once."""

        def request(number: int, frame: FrameType | None) -> None:
            if self.reason:
                raise KeyboardInterrupt
            self.reason = signal.Signals(number).name

        before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def learning_rate_factor(step: int, steps: int) -> float:
    """Constant over the first half of the run, then a cosine to zero."""
    return 1.0 if 2 * step < steps else 0.5 * (1 + math.cos(math.pi * (2 * step / steps - 1)))


@dataclass
class Trainer:
    """Runs a task's schedule, from the start or from a checkpoint, and leaves checkpoints and previews behind."""

    task: nn.Module
    schedule: Schedule
    policy: CropPolicy
    settings: RunSettings
    config: dict[str, Any]
    """What must be equal for a resume; also goes into the card."""
    preview: Callable[[], None]
    """Draws the preview picture."""
    on_losses: Callable[[int, dict[str, float]], None] = lambda step, losses: None
    progress: Progress = field(default_factory=Progress)
    last_losses: dict[str, float] = field(default_factory=dict)

    def run(self) -> bool:
        """Trains. Returns whether the schedule was finished; either way the checkpoint holds what was learned."""
        self.task.to(self.settings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        parameters = [value for value in self.task.parameters() if value.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=self.schedule.learning_rate)
        checkpoint = self.settings.run_dir / CHECKPOINT
        if self.settings.resume and checkpoint.exists():
            self.progress = load_checkpoint(checkpoint, self.task, optimizer, self.config)
        self.task.train()
        stop = StopRequest()
        with stop.on_signals():
            self._run_steps(optimizer, checkpoint, stop)
        self.task.eval()
        save_checkpoint(checkpoint, self.task, optimizer, self.progress, self.config)
        self.preview()
        if self.progress.broken_photos:
            log.warning("%d unreadable photos were passed over.", self.progress.broken_photos)
        if stop.reason:
            log.info("Stopped at step %d (%s): --resume goes on.", self.progress.step, stop.reason)
        return self.progress.step >= self.schedule.steps

    def restore(self) -> None:
        """Takes up the checkpoint without training. Raises `CheckpointError`."""
        parameters = [value for value in self.task.parameters() if value.requires_grad]
        optimizer = torch.optim.Adam(parameters)
        self.progress = load_checkpoint(self.settings.run_dir / CHECKPOINT, self.task, optimizer, self.config)
        self.task.eval()

    def _run_steps(self, optimizer: torch.optim.Optimizer, checkpoint: Path, stop: StopRequest) -> None:
        started = saved = time.monotonic()
        with tqdm(total=self.schedule.steps, initial=self.progress.step, mininterval=1, unit="step") as bar:
            for batch in self._batches():
                before = time.monotonic()
                losses = self._step(optimizer, batch)
                now = time.monotonic()
                self.progress.step += 1
                self.progress.seconds += now - before
                bar.update()
                if self.progress.step % 10 == 0:
                    self.last_losses = {name: value.item() for name, value in losses.items()}
                    self.on_losses(self.progress.step, self.last_losses)
                    bar.set_postfix({name: f"{value:.4g}" for name, value in self.last_losses.items()}, refresh=False)
                if now - saved > self.settings.save_every_s:
                    save_checkpoint(checkpoint, self.task, optimizer, self.progress, self.config)
                    self.preview()
                    saved = now
                if now - started > self.settings.time_limit_s:
                    stop.reason = stop.reason or "time limit"
                if stop.reason:
                    return

    def _batches(self) -> "DataLoader[tuple[Tensor, int, int]]":
        crops = PhotoCrops(self.settings.photos, self.policy, self.schedule.seed)
        return load_batches(crops, self.schedule, self.progress.step, self.settings.data_processes)

    def _step(self, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        crops_BCHW, number_B, broken_B = batch
        self.progress.broken_photos += int(broken_B.sum())
        factor = learning_rate_factor(self.progress.step, self.schedule.steps)
        for group in optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate * factor
        device = self.settings.device
        pictures_BCHW = crops_BCHW.to(device, non_blocking=True).to(memory_format=torch.channels_last).float() / 255
        with torch.autocast(device.type, dtype=torch.bfloat16):
            losses: dict[str, Tensor] = self.task(pictures_BCHW, number_B.to(device))
        optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return {name: value.detach() for name, value in losses.items()}


def describe_schedule(schedule: Schedule) -> dict[str, Any]:
    """The schedule as plain JSON values."""
    return {**asdict(schedule), "stages": [asdict(stage) for stage in schedule.stages]}
