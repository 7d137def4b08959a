"""`python -m tests.pretended_gpu MODULE ...`: a program that takes the CPU for two GPUs.

It computes on the CPU whatever goes to `cuda:N`, so that what a worker does on a GPU alone can be walked through where
there is none. It says nothing of speed, and forgives what a GPU would not: an input that lies on another device.
"""

import runpy
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

FREE, TOTAL = 60_000_000_000, 80_000_000_000
"""Bytes of each GPU."""
COUNT = 2


class Stream:
    """A queue of work that is done at once."""

    def __init__(self, device: object = None) -> None:
        _of_gpu(device, None)

    def synchronize(self) -> None:
        pass

    def wait_stream(self, other: "Stream") -> None:
        pass


class Graph:
    """Records nothing: what it replays is not right, and should be found out."""

    def replay(self) -> None:
        pass


def pretend() -> None:
    """From now on PyTorch has GPUs."""
    functions: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "is_bf16_supported": lambda including_emulation=True: True,
        "device_count": lambda: COUNT,
        "mem_get_info": lambda device=None: _of_gpu(device, (FREE, TOTAL)),
        "get_device_name": lambda device=None: _of_gpu(device, "Pretended GPU"),
        "empty_cache": lambda: None,
        "current_stream": Stream,
        "Stream": Stream,
        "stream": lambda stream: nullcontext(),
        "set_stream": lambda stream: None,
        "set_device": lambda index: _of_gpu(f"cuda:{index}", None),
        "device": lambda device: _of_gpu(device, nullcontext()),
        "graph_pool_handle": lambda: (0, 1),
        "CUDAGraph": Graph,
        "graph": lambda graph, pool=None, stream=None, capture_error_mode="global": nullcontext(),
    }
    for name, function in functions.items():
        setattr(torch.cuda, name, function)
    move, empty = Tensor.to, torch.empty
    Tensor.to = lambda tensor, *values, **named: move(tensor, *map(_real, values), **_real_options(named))  # type: ignore
    Tensor.pin_memory = Tensor.clone  # type: ignore
    torch.empty = lambda *values, pin_memory=False, **named: empty(*values, **_real_options(named))


def _of_gpu(device: Any, answer: Any) -> Any:
    """The answer of a GPU that there is; the first one is meant by none."""
    found = torch.device("cuda" if device is None else device)
    if found.type != "cuda" or (found.index or 0) >= COUNT:
        raise RuntimeError(f"there is no GPU {device}")
    return answer


def _real(value: Any) -> Any:
    """The CPU in place of a GPU."""
    if isinstance(value, torch.device) or (isinstance(value, str) and value.startswith("cuda")):
        device = torch.device(value)
        return torch.device("cpu") if device.type == "cuda" else device
    return value


def _real_options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: _real(value) for name, value in options.items() if name != "non_blocking"}


if __name__ == "__main__":
    pretend()
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
