"""Networks called from several threads on one GPU: while it computes for one, others' pictures are copied."""

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class GpuStreams:
    """One CUDA stream that computes, in the order of the calls, and one for each thread that copies.

    What was allocated on one stream is used on the other. It is kept until the call ends, when both have done with it:
    no tensor has to be recorded for the allocator.
    """

    def __init__(self, device: torch.device) -> None:
        """`device`: a CUDA device, which is not touched before the first call."""
        self._device = device
        self._compute: torch.cuda.Stream | None = None
        self._launching = threading.Lock()
        self._thread = threading.local()

    def call(self, network: Callable[..., Tensor], inputs: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """What `network` makes of tensors on the host, on the host; floats go to it as `dtype`.

        Raises what the network raises, and `RuntimeError`.
        """
        copies = self._copies()
        with torch.cuda.stream(copies):
            on_device = [_sent(value, self._device, dtype) for value in inputs]
        with self._launching:
            compute = self._compute = self._compute or _stream(self._device)
            with torch.cuda.stream(compute):
                compute.wait_stream(copies)
                result = network(*on_device).contiguous()
            # Before the next thread launches: its work need not be waited for.
            copies.wait_stream(compute)
        with torch.cuda.stream(copies):
            on_host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
            on_host.copy_(result, non_blocking=True)
            copies.synchronize()
        return on_host

    def _copies(self) -> torch.cuda.Stream:
        """This thread's stream."""
        if not hasattr(self._thread, "copies"):
            # Else whatever sets a stream back would open the first GPU too, with half a gigabyte of its memory.
            torch.cuda.set_device(self._device.index or 0)
            self._thread.copies = _stream(self._device)
        stream: torch.cuda.Stream = self._thread.copies
        return stream


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _sent(value: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A tensor on its way to the GPU."""
    sent = value.pin_memory().to(device, non_blocking=True)
    return sent.to(dtype) if sent.is_floating_point() else sent
