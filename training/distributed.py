"""Several processes that train one network together, as `torchrun` starts them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from training.config import Schedule
from training.errors import ConfigError


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place among those that train together. The first one writes the files."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Its number on this machine, which is its GPU's."""

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints, previews and the result."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over all processes. All must call it, in the same order."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(total)
        return total.tolist()

    def device(self, name: str) -> torch.device:
        """The device called `name`, each process its own GPU. Raises `ConfigError`."""
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise ConfigError(f"{name!r} is no device: give cpu, cuda or cuda:1.") from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError("PyTorch finds no CUDA device here: leave --device out, or install torch for CUDA.")
        return torch.device("cuda", self.local_rank) if device.type == "cuda" and self.size > 1 else device

    def wrap(self, task: nn.Module, device: torch.device) -> nn.Module:
        """`task` with its gradients averaged over all processes."""
        if self.size == 1:
            return task
        # Buffers are constants here (loss network, Gram matrices) or, in batch norm, unused while training.
        return DistributedDataParallel(
            task, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False
        )

    def check(self, schedule: Schedule) -> None:
        """Raises `ConfigError` unless every batch can be shared evenly: only then are averaged gradients right."""
        for stage in schedule.stages:
            if stage.batch % self.size:
                raise ConfigError(f"A batch of {stage.batch} cannot be shared evenly by {self.size} processes.")


@contextmanager
def join_processes() -> Iterator[ProcessGroup]:
    """The group that `torchrun` announced in the environment, or a group of one."""
    if "WORLD_SIZE" not in os.environ:
        yield ProcessGroup()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # or each process opened the first one as well
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield ProcessGroup(distributed.get_rank(), distributed.get_world_size(), int(os.environ["LOCAL_RANK"]))
    finally:
        distributed.destroy_process_group()
