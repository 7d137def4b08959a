"""Batches of shapes that come again and again, recorded once as CUDA graphs and then replayed.

A GPU paints a small picture in less time than the host takes to launch its kernels one by one. A graph launches all of
them at once.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import torch
from torch import Tensor

K = TypeVar("K")
V = TypeVar("V")

log = logging.getLogger(__name__)

Network = Callable[..., Tensor]
"""From tensors on the device to one: a picture (B, H, W, 3), uint8."""
Replay = Callable[[Sequence[Tensor]], Tensor]
"""Computes what was recorded, of inputs of the same shapes."""

CALLS_BEFORE = 3
"""How often a shape must have come before it is recorded. TorchScript chooses its kernels in the first two."""
MOST_PX: Final = 2 << 20
"""Px of the largest batch that is recorded: in a larger one the launches do not count, and its memory stays taken."""
MOST_SHAPES = 32
"""Recorded at a time; the one that was not asked for the longest gives way."""
MOST_REMEMBERED = 1024
"""Shapes that are counted at a time."""
LEVELS = 1
"""Of 255, by which a replay may differ: a device that chooses other kernels rounds otherwise."""


class GraphReplay:
    """A network's call, recorded. Tensors that it reads and writes stay where they are."""

    def __init__(self, network: Network, inputs: Sequence[Tensor], pool: Any, stream: torch.cuda.Stream) -> None:
        """`pool`: of `torch.cuda.graph_pool_handle`, for recordings that are never replayed at the same time.

        `stream`: on which is recorded; PyTorch keeps memory of its libraries for each. Raises `RuntimeError` where the
        device or the network cannot do it.
        """
        self._inputs = [value.clone() for value in inputs]
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(inputs[0].device):
            # A thread's first call opens its libraries, which cannot be recorded.
            network(*self._inputs)
            before = torch.cuda.current_stream()
            try:
                # Other threads may copy to and from the device meanwhile.
                with torch.cuda.graph(self._graph, pool, stream=stream, capture_error_mode="thread_local"):
                    self._result = network(*self._inputs)
            except RuntimeError:
                _end_failed_recording(inputs[0].device, pool)
                raise
            finally:
                # A recording that failed leaves its stream behind, on which nobody waits for what is computed next.
                torch.cuda.set_stream(before)

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        """The result, which is the caller's own."""
        for recorded, value in zip(self._inputs, inputs, strict=True):
            recorded.copy_(value)
        self._graph.replay()
        return self._result.clone()


def _end_failed_recording(device: torch.device, pool: Any) -> None:
    """PyTorch before 2.12 goes on taking memory for it, after which none can be given back (pytorch/pytorch#180395)."""
    with suppress(RuntimeError, AttributeError):  # later versions have ended it
        torch._C._cuda_endAllocateToPool(device.index, pool)
        torch._C._cuda_releasePool(device.index, pool)


class GraphedNetwork:
    """A network that replays what it has computed often. Any thread may call it."""

    def __init__(self, network: Network, record: Callable[[Network, Sequence[Tensor]], Replay] | None = None) -> None:
        """`record`: how, if not with a `GraphReplay`."""
        self._network = network
        self._record = record or self._record_graph
        self._pool: Any = None
        self._stream: torch.cuda.Stream | None = None
        self._lock = threading.Lock()
        self._calls: OrderedDict[tuple[torch.Size, ...], int] = OrderedDict()
        self._replays: OrderedDict[tuple[torch.Size, ...], Replay | None] = OrderedDict()
        """None where recording has failed: it is not tried again."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What the network makes of them. The first are pictures (B, H, W, 3)."""
        if inputs[0].numel() // 3 > MOST_PX:
            return self._network(*inputs)
        with self._lock:
            replay = self._find(inputs)
            return self._network(*inputs) if replay is None else replay(inputs)

    def forget(self) -> None:
        """Gives back the memory of all that was recorded."""
        with self._lock:
            self._replays.clear()
            self._calls.clear()

    def _find(self, inputs: Sequence[Tensor]) -> Replay | None:
        shapes = tuple(value.shape for value in inputs)
        if shapes in self._replays:
            self._replays.move_to_end(shapes)
            return self._replays[shapes]
        calls = self._calls.pop(shapes, 0)
        if calls < CALLS_BEFORE:
            _put(self._calls, shapes, calls + 1, MOST_REMEMBERED)
            return None
        replay = self._try_to_record(inputs)
        _put(self._replays, shapes, replay, MOST_SHAPES)
        return replay

    def _record_graph(self, network: Network, inputs: Sequence[Tensor]) -> Replay:
        if not any(self._replays.values()):
            # Some versions of PyTorch cannot go on with one whose recordings are all gone.
            self._pool = torch.cuda.graph_pool_handle()
        # Of each network its own: memory that is taken for a stream is given back with the first recording that goes.
        self._stream = self._stream or torch.cuda.Stream(inputs[0].device)  # type: ignore[no-untyped-call]
        return GraphReplay(network, inputs, self._pool, self._stream)

    def _try_to_record(self, inputs: Sequence[Tensor]) -> Replay | None:
        """A recording that is right, also of other pictures than those it was made with."""
        try:
            replay = self._record(self._network, inputs)
            others = (inputs[0].flip(-1), *inputs[1:])
            if _differ_at_most(replay(others), self._network(*others)) <= LEVELS:
                return replay
            reason = "a replay was not equal to the network"
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
        log.warning("No CUDA graph for pictures of %s: %s", tuple(inputs[0].shape), reason)
        return None


def _differ_at_most(one_BHWC: Tensor, other_BHWC: Tensor) -> int:
    return int((one_BHWC.int() - other_BHWC.int()).abs().max())


def _put(held: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    held[key] = value
    if len(held) > most:
        held.popitem(last=False)
