"""The losses of a run, for TensorBoard."""

from collections.abc import Callable
from pathlib import Path

from training.errors import ConfigError

LossWriter = Callable[[int, dict[str, float]], None]


def ignore_losses(step: int, losses: dict[str, float]) -> None:
    """The writer of a run without a journal."""


def open_journal(folder: Path) -> LossWriter:
    """A writer of TensorBoard's event files into `folder`. Raises `ConfigError` where TensorBoard is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError("--tensorboard needs the package tensorboard: pip install tensorboard.") from error
    writer = SummaryWriter(str(folder))

    def write(step: int, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            writer.add_scalar(f"loss/{name}", value, step)
        writer.flush()

    return write
