"""How much of a device's memory is in use, and how to give some back."""

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class DeviceMemory:
    """Reads it when asked. Of a GPU all that is in use, by whomever; of a CPU what this process holds."""

    used: Callable[[], float]
    """Bytes."""
    limit: Callable[[], float]
    """Bytes."""


def trim_heap() -> None:
    """Gives back to the system what this process has freed. The C library keeps much of it, above all between arrays
    of different sizes: a gigabyte after a large photo."""
    trim = _malloc_trim()
    if trim:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """Of the GNU C library; others have none, and need none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def memory_of(gpu: str | None) -> DeviceMemory:
    """The memory of the GPU that PyTorch calls so, or of this machine for the CPU."""
    if gpu is not None:
        return DeviceMemory(lambda: _gpu_used(gpu), lambda: torch.cuda.mem_get_info(gpu)[1])
    limit = _ram_limit()
    return DeviceMemory(_resident, lambda: limit)


def _gpu_used(gpu: str) -> int:
    free, total = torch.cuda.mem_get_info(gpu)
    return total - free


def _resident() -> float:
    try:
        return float(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        return float("nan")


def _ram_limit() -> float:
    """The machine's memory, or less where a container has less."""
    physical = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        return min(float(_CGROUP_LIMIT.read_text()), physical)
    except (OSError, ValueError):  # no container, or one without a limit
        return physical
