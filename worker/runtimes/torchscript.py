"""Runs archives with PyTorch: on every device."""

import warnings

import numpy as np
import torch
from torch import Tensor, nn

from models.card import Task
from worker.archive import Archive
from worker.arrays import Norms, Pixels


class PaintPixels(nn.Module):
    """A trunk between 8-bit pictures. Scripted, so that height and width stay free."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.network = trunk

    def forward(self, pixels_BHWC: Tensor, norm_BP: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) to uint8 of the same shape."""
        content_BCHW = pixels_BHWC.permute(0, 3, 1, 2).to(norm_BP.dtype) / 255.0
        painted_BCHW = self.network(content_BCHW, norm_BP)
        return torch.round(painted_BCHW * 255.0).to(torch.uint8).permute(0, 2, 3, 1)


class EnlargePixels(nn.Module):
    """An upscaler between 8-bit pictures."""

    def __init__(self, upscaler: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = upscaler
        self.dtype = dtype

    def forward(self, pixels_BHWC: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) to uint8 (B, H * factor, W * factor, 3)."""
        low_res_BCHW = pixels_BHWC.permute(0, 3, 1, 2).to(self.dtype) / 255.0
        high_res_BCHW = self.network(low_res_BCHW)
        return torch.round(high_res_BCHW * 255.0).to(torch.uint8).permute(0, 2, 3, 1)


def to_pixel_module(archive: Archive, dtype: torch.dtype = torch.float32) -> nn.Module:
    """An archive as a script module between 8-bit pictures."""
    is_trunk = archive.card.task is Task.STYLE_TRUNK
    wrapper = PaintPixels(archive.module) if is_trunk else EnlargePixels(archive.module, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted: nn.Module = torch.jit.script(wrapper.eval())
    return scripted


class TorchScriptNetwork:
    """A frozen archive on a torch device."""

    def __init__(self, module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self._module = module
        self._device = device
        self._dtype = dtype

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        """See `Network.paint`."""
        norm_on_device_BP = torch.from_numpy(norm_BP).to(self._device, self._dtype)
        with torch.inference_mode():
            return self._to_host(self._module(self._to_device(pixels_BHWC), norm_on_device_BP))

    def enlarge(self, pixels_BHWC: Pixels) -> Pixels:
        """See `Network.enlarge`."""
        with torch.inference_mode():
            return self._to_host(self._module(self._to_device(pixels_BHWC)))

    def _to_device(self, pixels_BHWC: Pixels) -> Tensor:
        return torch.from_numpy(np.require(pixels_BHWC, requirements=("C", "W"))).to(self._device)

    @staticmethod
    def _to_host(pixels_BHWC: Tensor) -> Pixels:
        on_host: Pixels = pixels_BHWC.contiguous().cpu().numpy()
        return on_host


class TorchScriptRuntime:
    """PyTorch on a device, in float32 on a CPU and float16 on a GPU unless told otherwise."""

    name = "torchscript"

    def __init__(self, device: str, precision: str = "auto") -> None:
        """`precision`: auto, float32 or float16 (CUDA). Raises `ValueError` for others."""
        half_by_default = device.startswith("cuda")
        dtypes = {
            "auto": torch.float16 if half_by_default else torch.float32,
            "float32": torch.float32,
            "float16": torch.float16,
        }
        if precision not in dtypes or (dtypes[precision] is torch.float16 and not half_by_default):
            raise ValueError(f"TorchScript on {device} has no precision {precision!r}: choose auto or float32.")
        self._device = torch.device(device)
        self._dtype = dtypes[precision]
        self.device = f"{device} {str(self._dtype).removeprefix('torch.')}"

    def load(self, archive: Archive) -> TorchScriptNetwork:
        """See `Runtime.load`."""
        module = to_pixel_module(archive, self._dtype).to(self._device, self._dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            frozen: nn.Module = torch.jit.freeze(module)
        return TorchScriptNetwork(frozen, self._device, self._dtype)
