"""Upscalers: networks that enlarge a picture 2, 4 or 8 times."""

import math
from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.layers import conv, convolve_enlarged, convolve_in_blocks

FACTORS = (2, 4, 8)

_PRELU_SLOPE = 0.1
_COLOR_CELL = 5
"""Px of the input, odd: side of the places whose mean colours stay. Those of single pixels belong to the detail."""


class BatchNormResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a skip. Instance norm would lose the picture's own contrast."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(channels, channels, 3, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            conv(channels, channels, 3, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Keeps the shape."""
        body_BCHW: Tensor = self.body(x_BCHW)
        return x_BCHW + body_BCHW


class PaperUpscaler(nn.Module):
    """The super-resolution network of Johnson et al. 2016: 9x9 in, four residual blocks, enlargements, 9x9 out."""

    def __init__(self, factor: int, width: int = 64, residual_blocks: int = 4) -> None:
        super().__init__()
        self.factor = factor
        self.width = width
        self.head = conv(3, width, 9)
        self.blocks = nn.Sequential(*(BatchNormResidualBlock(width) for _ in range(residual_blocks)))
        self.up = nn.ModuleList(conv(width, width, 3) for _ in range(int(math.log2(factor))))
        self.out = conv(width, 3, 9)

    def forward(self, low_res_BCHW: Tensor) -> Tensor:
        """Enlarges sRGB in [0, 1], at least 16 px a side, `factor` times; clamped to [0, 1] unless training."""
        x_BCHW = self.blocks(torch.relu(self.head(low_res_BCHW)))
        for layer in cast(Iterable[nn.Conv2d], self.up):
            x_BCHW = torch.relu(convolve_enlarged(x_BCHW, layer.weight, layer.bias))
        high_res_BCHW = convolve_in_blocks(x_BCHW, self.out.weight, self.out.bias)
        return high_res_BCHW if self.training else high_res_BCHW.clamp(0.0, 1.0)


class PlainResidualBlock(nn.Module):
    """Two 3x3 convolutions and a skip, without normalisation (Lim et al. 2017). Adds nothing before it is trained."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(channels, channels, 3), nn.PReLU(channels, init=_PRELU_SLOPE), conv(channels, channels, 3)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Keeps the shape."""
        body_BCHW: Tensor = self.body(x_BCHW)
        return x_BCHW + body_BCHW


class CompactUpscaler(nn.Module):
    """Works at low resolution and ends in a pixel shuffle that is added to the bilinear enlargement.

    The shape of SRVGGNetCompact (Wang et al. 2021): 3x3 convolutions with PReLU, no normalisation. The sum with the
    bilinear enlargement starts training from a sensible picture. Mean colours stay, whatever is added.
    """

    def __init__(self, factor: int, width: int = 64, layers: int = 10, residual_blocks: int = 0) -> None:
        super().__init__()
        self.factor = factor
        self.width = width
        body: list[nn.Module] = []
        for index in range(layers):
            body += [conv(3 if index == 0 else width, width, 3), nn.PReLU(width, init=_PRELU_SLOPE)]
        self.body = nn.Sequential(*body)
        self.blocks = nn.Sequential(*(PlainResidualBlock(width) for _ in range(residual_blocks)))
        self.out = conv(width, 3 * factor * factor, 3)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # PyTorch's default shrinks the signal in each layer: after ten of them nothing would be learned.
                nn.init.kaiming_normal_(module.weight, a=_PRELU_SLOPE)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for block in cast(Iterable[PlainResidualBlock], self.blocks):
            nn.init.zeros_(cast(nn.Conv2d, block.body[-1]).weight)
        # The first picture is the bilinear one, not noise.
        nn.init.normal_(self.out.weight, std=1e-3)

    def forward(self, low_res_BCHW: Tensor) -> Tensor:
        """Enlarges sRGB in [0, 1], at least 16 px a side, `factor` times; clamped to [0, 1] unless training."""
        return _keep_colors(self.enlarge(low_res_BCHW), low_res_BCHW, self.factor, self.training)

    def enlarge(self, low_res_BCHW: Tensor) -> Tensor:
        """What the layers make of it: mean colours may be off, and values beyond [0, 1]."""
        detail_BCHW = functional.pixel_shuffle(self.out(self.blocks(self.body(low_res_BCHW))), self.factor)
        return _resize(low_res_BCHW, self.factor) + detail_BCHW


class ProgressiveUpscaler(nn.Module):
    """Enlarges to half of the factor with a compact network, and what that made twice with a much smaller one.

    A layer that makes 8x8 pixels of each place draws lines from what is known at low resolution; two stages see how
    the lines of the first meet (Lai et al., "Deep Laplacian Pyramid Networks", 2017). The first may be taken from an
    upscaler that has been trained. It may be deep, for one of its pixels becomes `factor` by `factor`.
    """

    def __init__(
        self,
        factor: int,
        width: int = 64,
        layers: int = 10,
        residual_blocks: int = 6,
        last_width: int = 32,
        last_layers: int = 4,
    ) -> None:
        super().__init__()
        if factor == 2:
            raise ValueError(f"No upscaler enlarges {factor} times in two stages: choose compact or paper.")
        self.factor = factor
        self.width = width
        self.first = CompactUpscaler(factor // 2, width, layers, residual_blocks)
        self.last = CompactUpscaler(2, last_width, last_layers)

    def forward(self, low_res_BCHW: Tensor) -> Tensor:
        """Enlarges sRGB in [0, 1], at least 16 px a side, `factor` times; clamped to [0, 1] unless training."""
        half_BCHW = self.first.enlarge(low_res_BCHW)
        high_res_BCHW = self.last.enlarge(half_BCHW if self.training else half_BCHW.clamp(0.0, 1.0))
        return _keep_colors(high_res_BCHW, low_res_BCHW, self.factor, self.training)


def _keep_colors(high_res_BCHW: Tensor, low_res_BCHW: Tensor, factor: int, training: bool) -> Tensor:
    """Shifts an enlargement so that its places have the mean colours that they have in the input.

    One step of back-projection (Irani and Peleg 1991), of what is shown: detail beyond black and white is cut off.
    Clamped to [0, 1] unless training.
    """
    reduced_BCHW = shown_BCHW = high_res_BCHW.clamp(0.0, 1.0)
    # To the mean of `factor` by `factor` px. OpenVINO would lay the enlargement out anew for `avg_pool2d`.
    for _ in range(int(math.log2(factor))):
        reduced_BCHW = _resize(reduced_BCHW, 0.5)
    margin = _COLOR_CELL // 2
    padded_BCHW = functional.pad(low_res_BCHW - reduced_BCHW, (margin,) * 4, mode="replicate")
    smooth_BCN = functional.avg_pool2d(padded_BCHW, _COLOR_CELL, stride=1).flatten(2)
    # Flat for a moment: else OpenVINO would go on with colours innermost, which takes three times as long.
    shift_BCHW = _resize(smooth_BCN.view_as(low_res_BCHW), factor)
    return high_res_BCHW + shift_BCHW if training else (shown_BCHW + shift_BCHW).clamp(0.0, 1.0)


def _resize(x_BCHW: Tensor, scale: float) -> Tensor:
    return functional.interpolate(x_BCHW, scale_factor=float(scale), mode="bilinear", align_corners=False)


UPSCALERS: dict[str, Callable[[int], nn.Module]] = {
    "compact": CompactUpscaler,
    "paper": PaperUpscaler,
    "progressive": ProgressiveUpscaler,
}


def build_upscaler(architecture: str, factor: int) -> nn.Module:
    """The upscaler of that name in `UPSCALERS`. Raises `ValueError` for others, and factors that it cannot have."""
    if architecture not in UPSCALERS:
        raise ValueError(f"No upscaler is called {architecture!r}: choose one of {', '.join(UPSCALERS)}.")
    if factor not in FACTORS:
        raise ValueError(f"No upscaler enlarges {factor} times: choose one of {', '.join(map(str, FACTORS))}.")
    return UPSCALERS[architecture](factor)
