"""Archives between 8-bit pictures, as script modules: what all runtimes run, each in its way."""

import itertools
import uuid
import warnings
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from models.card import Task
from worker.archive import Archive
from worker.runtimes.methods import Method


class PaintPixels(nn.Module):
    """A trunk between 8-bit pictures. Scripted, so that height and width stay free."""

    guarded: Final[bool]

    def __init__(self, trunk: nn.Module, guarded: bool) -> None:
        super().__init__()
        self.network = trunk
        self.guarded = guarded

    def forward(self, pixels_BHWC: Tensor, norm_BP: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) to uint8 of the same shape."""
        painted_BCHW = self.network(to_content(pixels_BHWC, norm_BP.dtype), norm_BP)
        if self.guarded:
            painted_BCHW = blacken_broken(painted_BCHW)
        return to_pixels(painted_BCHW)


class EnlargePixels(nn.Module):
    """An upscaler between 8-bit pictures."""

    guarded: Final[bool]

    def __init__(self, upscaler: nn.Module, dtype: torch.dtype, guarded: bool) -> None:
        super().__init__()
        self.network = upscaler
        self.dtype = dtype
        self.guarded = guarded

    def forward(self, pixels_BHWC: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) to uint8 (B, H * factor, W * factor, 3)."""
        high_res_BCHW = self.network(to_content(pixels_BHWC, self.dtype))
        if self.guarded:
            high_res_BCHW = blacken_broken(high_res_BCHW)
        return to_pixels(high_res_BCHW)


class _Stages(nn.Module):
    """A trunk, to be given a `forward`."""

    guarded: Final[bool]
    identity: Final[str]

    def __init__(self, trunk: nn.Module, guarded: bool) -> None:
        super().__init__()
        self.network = trunk
        self.guarded = guarded
        # Modules that are alike would share one class, to which a method can be given but once.
        self.identity = uuid.uuid4().hex

    @torch.jit.export
    def content(self, pixels_BHWC: Tensor, like: Tensor) -> Tensor:
        """See `to_content`: in the precision of another input."""
        return to_content(pixels_BHWC, like.dtype)

    @torch.jit.export
    def finish(self, painted_BCHW: Tensor) -> Tensor:
        """See `to_pixels`."""
        if self.guarded:
            painted_BCHW = blacken_broken(painted_BCHW)
        return to_pixels(painted_BCHW)


_STAGES: Mapping[Method, str] = {
    Method.DOWN_SURVEY: "def forward(self, x, mask): return self.network.{}(self.content(x, mask), mask)",
    Method.DOWN_SECOND: "def forward(self, x, norm, s): return self.network.{}(self.content(x, norm), norm, s)",
    Method.DOWN_THIRD: "def forward(self, x, norm, s): return self.network.{}(x, norm, s)",
    Method.DOWN_END: "def forward(self, x, norm, s): return self.network.{}(x, norm, s)",
    Method.BLOCK_FIRST: "def forward(self, x): return self.network.{}(x)",
    Method.BLOCK_SECOND: "def forward(self, x, norm, s): return self.network.{}(x, norm, s)",
    Method.BLOCK_SUM: "def forward(self, x, second, norm, s): return self.network.{}(x, second, norm, s)",
    Method.UP_BEGIN: "def forward(self, x, norm): return self.network.{}(x, norm)",
    Method.UP_SURVEY: "def forward(self, x, mask, norm, s): return self.network.{}(x, mask, norm, s)",
    Method.UP_END: "def forward(self, x, photo, norm, s): "
    "return self.finish(self.network.{}(x, photo.permute(0, 3, 1, 2), norm, s))",
}
"""TorchScript around a stage. As source, because the names of the blocks' methods are numbered."""


def to_content(pixels_BHWC: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 (B, H, W, 3) to (B, 3, H, W) in [0, 1]."""
    # Not divided by 255: OpenVINO joins factors, the trunk's own first one too, without rounding between.
    return pixels_BHWC.permute(0, 3, 1, 2).to(dtype) * (1.0 / 255.0)


def to_pixels(picture_BCHW: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] to uint8 (B, H, W, 3)."""
    return torch.round(picture_BCHW * 255.0).to(torch.uint8).permute(0, 2, 3, 1)


def blacken_broken(picture_BCHW: Tensor) -> Tensor:
    """Pictures with a value that is no number become black, so that whoever gets them sees it."""
    sum_B = picture_BCHW.sum(dim=(1, 2, 3), dtype=torch.float32)
    return picture_BCHW.masked_fill(~torch.isfinite(sum_B)[:, None, None, None], 0.0)


def count_blocks(archive: Archive) -> int:
    """Residual blocks that an archive has methods for."""
    numbers = itertools.count()
    has_block = (hasattr(archive.module, Method.BLOCK_SUM.name_in_archive(number)) for number in numbers)
    return sum(itertools.takewhile(bool, has_block))


def to_pixel_module(
    archive: Archive, method: Method = Method.FORWARD, block: int = 0, dtype: torch.dtype = torch.float32
) -> torch.jit.ScriptModule:
    """An archive's method as a script module between 8-bit pictures, or features where a stage begins or ends so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted: torch.jit.ScriptModule = torch.jit.script(_wrap(archive, method, dtype).eval())
        if method is not Method.FORWARD:
            scripted.define(_STAGES[method].format(method.name_in_archive(block)) + "\n")
    return scripted


def _wrap(archive: Archive, method: Method, dtype: torch.dtype) -> nn.Module:
    # float32 and bfloat16 do not overflow.
    guarded = dtype is torch.float16
    if archive.card.task is not Task.STYLE_TRUNK:
        return EnlargePixels(archive.module, dtype, guarded)
    return (PaintPixels if method is Method.FORWARD else _Stages)(archive.module, guarded)
