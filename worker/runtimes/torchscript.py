"""Runs archives with PyTorch: on every device."""

import copy
import logging
import math
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from worker.archive import Archive
from worker.arrays import Norms, Pixels
from worker.runtimes import Values
from worker.runtimes.cuda_graphs import GraphedNetwork
from worker.runtimes.gpu_streams import GpuStreams
from worker.runtimes.methods import Method
from worker.runtimes.pixel_modules import count_blocks, to_pixel_module
from worker.runtimes.reach import measure_reach

log = logging.getLogger(__name__)


class TorchScriptNetwork:
    """A frozen archive on a torch device."""

    def __init__(self, runtime: "TorchScriptRuntime", archive: Archive) -> None:
        self._runtime = runtime
        self._archive = archive
        self._loading = threading.Lock()
        whole: Callable[..., Tensor] = runtime.freeze(archive, Method.FORWARD, 0)
        self._graphed = GraphedNetwork(whole) if runtime.cuda_graphs else None
        self._modules = {(Method.FORWARD, 0): self._graphed or whole}
        self.reach = cache(partial(measure_reach, archive))

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        """See `Network.paint`."""
        return self.stage(Method.FORWARD, pixels_BHWC, norm_BP)

    def enlarge(self, pixels_BHWC: Pixels) -> Pixels:
        """See `Network.enlarge`."""
        return self.stage(Method.FORWARD, pixels_BHWC)

    def stage(self, method: Method, *inputs: Pixels | Values, block: int = 0) -> npt.NDArray[Any]:
        """See `Network.stage`."""
        exact = self._in_float32 if method.is_exact else None
        if exact is not None:
            return exact.stage(method, *inputs, block=block)
        with self._loading:
            if (method, block) not in self._modules:
                self._modules[method, block] = self._runtime.freeze(self._archive, method, block)
            module = self._modules[method, block]
        return self._runtime.call(module, inputs)

    side_by_side = 1
    """See `Network.side_by_side`."""

    @cached_property
    def blocks(self) -> int:
        """See `Network.blocks`."""
        return count_blocks(self._archive)

    def in_float32(self) -> "TorchScriptNetwork | None":
        """See `Network.in_float32`."""
        return self._in_float32

    def end_stage(self) -> None:
        """See `Network.end_stage`. All methods share PyTorch's memory, which is not given back for each of them."""

    def free_memory(self) -> None:
        """See `Network.free_memory`."""
        if self._graphed:
            self._graphed.forget()
        if self._runtime.gpu is not None:
            torch.cuda.empty_cache()

    @cached_property
    def _in_float32(self) -> "TorchScriptNetwork | None":
        runtime = self._runtime.in_float32()
        return runtime.load(self._archive) if runtime else None


class TorchScriptRuntime:
    """PyTorch on a device, in float32 on a CPU and float16 on a GPU unless told otherwise."""

    name = "torchscript"

    def __init__(self, device: str, precision: str = "auto", *, cuda_graphs: bool = False) -> None:
        """`precision`: auto, float32 or float16 (CUDA). With `cuda_graphs`, a GPU replays shapes that come again.

        Raises `ValueError` for other precisions.
        """
        half_by_default = device.startswith("cuda")
        dtypes = {
            "auto": torch.float16 if half_by_default else torch.float32,
            "float32": torch.float32,
            "float16": torch.float16,
        }
        if precision not in dtypes or (dtypes[precision] is torch.float16 and not half_by_default):
            raise ValueError(f"TorchScript on {device} has no precision {precision!r}: choose auto or float32.")
        self._device = torch.device(device)
        self.dtype = dtypes[precision]
        self.gpu = device if half_by_default else None
        self._streams = GpuStreams(self._device) if half_by_default else None
        if half_by_default:
            # By itself it compiles kernels for the first two shapes alone, and then anew: seconds in which jobs wait.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                torch.jit.set_fusion_strategy([("DYNAMIC", 4)])
        self.batches_at_once = 2 if half_by_default else 1
        self.as_one_px = math.inf
        self.cuda_graphs = cuda_graphs and half_by_default
        self.device = f"{device} {str(self.dtype).removeprefix('torch.')}"

    def load(self, archive: Archive) -> TorchScriptNetwork:
        """See `Runtime.load`."""
        return TorchScriptNetwork(self, archive)

    def in_float32(self) -> "TorchScriptRuntime | None":
        """This runtime in full precision; none if it is."""
        return None if self.dtype is torch.float32 else TorchScriptRuntime(str(self._device), "float32")

    def freeze(self, archive: Archive, method: Method, block: int) -> nn.Module:
        """An archive's method on the device. The archive itself stays as it is."""
        own = Archive(archive.card, copy.deepcopy(archive.module))
        module = to_pixel_module(own, method, block, self.dtype).to(self._device, self.dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            if self.gpu is None:
                return torch.jit.freeze(module)  # type: ignore[no-any-return]
            optimized = _optimize_for_gpu(torch.jit.freeze(_channels_last(module)))
        # The stream that computes does not wait for the one that has laid out the weights.
        torch.cuda.current_stream(self._device).synchronize()
        return optimized

    def call(self, module: Callable[..., Tensor], inputs: Sequence[Pixels | Values]) -> npt.NDArray[Any]:
        """What a module on the device makes of arrays; floats go to it in the runtime's precision."""
        tensors = [torch.from_numpy(np.require(values, requirements=("C", "W"))) for values in inputs]
        with torch.inference_mode():
            if self._streams is not None:
                result = self._streams.call(module, tensors, self.dtype)
            else:
                result = module(*tensors).contiguous()
        on_host: npt.NDArray[Any] = result.numpy()
        return on_host


def _channels_last(module: nn.Module) -> nn.Module:
    """Weights in the layout that a GPU's half-precision convolutions want."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def _optimize_for_gpu(frozen: torch.jit.ScriptModule) -> nn.Module:
    """Operators chosen for a GPU, as far as this version of PyTorch can; else the module as it is."""
    try:
        return torch.jit.optimize_for_inference(frozen)
    except RuntimeError as error:
        log.info("PyTorch does not optimise this network further: %s", str(error).splitlines()[0])
        return frozen
