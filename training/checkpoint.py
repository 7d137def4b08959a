"""Files that are written whole or not at all, and the checkpoints from which a run goes on."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from training.errors import CheckpointError

BEFORE = "before"
"""What a config calls the training that its networks have already had."""


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a file beside `path`, then moves it there: a reader never sees half of it.

    Raises `CheckpointError` when the disk refuses.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.chmod(0o644)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"Cannot write {path}: {error}. Is the disk full, or the folder read-only?") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    seconds: float = 0.0
    """Time spent in steps, over all sittings."""
    losses: dict[str, float] = field(default_factory=dict)
    """As last reported."""


def save_checkpoint(
    path: Path, task: torch.nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, config: dict[str, Any]
) -> None:
    """Writes everything the run needs to go on as if it had not stopped."""
    state = {
        "task": {name: value for name, value in task.state_dict().items() if not name.startswith("loss_network.")},
        "optimizer": optimizer.state_dict(),
        "progress": vars(progress),
        "config": config,
    }
    write_whole(path, lambda temporary: torch.save(state, temporary))


def set_aside(path: Path) -> Path:
    """Renames an earlier run's checkpoint, so that it is not overwritten. Returns its new place."""
    kept = path.with_stem(f"{path.stem}-{int(path.stat().st_mtime)}")
    return path.rename(kept)


def load_checkpoint(
    path: Path, task: torch.nn.Module, optimizer: torch.optim.Optimizer, config: dict[str, Any]
) -> Progress:
    """Puts a run back where `save_checkpoint` left it. Stages that were still to come may have changed since.

    What the run had begun `before` goes into `config`: the files it began with may have been replaced, by its own
    results for one. Raises `CheckpointError` if it was another run's.
    """
    try:
        state = read_saved(path)
        if not goes_on(state["config"], config, state["progress"]["step"]):
            raise CheckpointError(f"{path} belongs to a run with other settings: give the same ones, or another --run.")
        _load_task(task, state["task"])
        optimizer.load_state_dict(state["optimizer"])
        if BEFORE in state["config"]:
            config[BEFORE] = state["config"][BEFORE]
        # Checkpoints of earlier versions hold more.
        known = {name: value for name, value in state["progress"].items() if name in Progress.__dataclass_fields__}
        return Progress(**known)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"Cannot go on from {path}: {error}. Give another --run to start anew.") from error


def saved_config(path: Path) -> dict[str, Any] | None:
    """The config of the run that a checkpoint is of. None where `load_checkpoint` would say that there is none."""
    try:
        config: dict[str, Any] = read_saved(path)["config"]
        return config
    except (OSError, KeyError, TypeError):
        return None


def goes_on(saved: dict[str, Any], config: dict[str, Any], step: int) -> bool:
    """Whether a run of `config` would have done the same up to `step`: only stages still to come may differ."""
    return _until(saved, step) == _until(config, step)


def _until(config: dict[str, Any], step: int) -> dict[str, Any]:
    """The config with only those stages that were begun by `step`, the last of them cut there, and without `BEFORE`."""
    schedule, begun = config.get("schedule", {}), []
    for stage in schedule.get("stages", ()):
        if step > 0:
            begun.append({**stage, "steps": min(stage["steps"], step)})
        step -= stage["steps"]
    decisive = {name: value for name, value in config.items() if name != BEFORE}
    return {**decisive, "schedule": {**schedule, "stages": begun}}


def read_saved(path: Path) -> Any:
    """What `torch.save` wrote. Raises `OSError` when it is missing or damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        # The unpickler stumbles over damaged bytes in any way it likes.
        raise OSError("the file is damaged or was not written by torch.save") from error


def _load_task(task: torch.nn.Module, state: dict[str, Any]) -> None:
    missing, unknown = task.load_state_dict(state, strict=False)
    if unknown or any(not name.startswith("loss_network.") for name in missing):
        raise CheckpointError("The checkpoint holds another network: give the settings it was trained with.")
