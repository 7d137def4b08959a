"""LPIPS v0.1 on AlexNet: a distance that follows what people see (Zhang et al. 2018)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from training.errors import LossWeightsError

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
# Indices of AlexNet's five ReLUs in torchvision's `features`.
_TAPS = (1, 4, 7, 9, 11)


def _build_alexnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


class Lpips(nn.Module):
    """Distance of pictures; 0 for equal ones, around 0.1 for a good fourfold enlargement, 0.35 for bicubic."""

    shift_1C11: Tensor
    scale_1C11: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """`weights`: torchvision's `features.N.*` and LPIPS's `linK.weight` (1, C, 1, 1). Raises `KeyError`."""
        super().__init__()
        self.features = _build_alexnet()
        wanted = self.features.state_dict()
        self.features.load_state_dict({key: weights[f"features.{key}"].float() for key in wanted})
        self.linear = [weights[f"lin{index}.weight"].float() for index in range(len(_TAPS))]
        self.register_buffer("shift_1C11", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale_1C11", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, picture_BCHW: Tensor, truth_BCHW: Tensor) -> Tensor:
        """Distance (B,) of sRGB pictures in [0, 1], at least 32 px a side."""
        pairs = zip(self._taps(picture_BCHW), self._taps(truth_BCHW), self.linear, strict=True)
        distance_B = picture_BCHW.new_zeros(picture_BCHW.shape[0])
        for a_BCHW, b_BCHW, weight_1C11 in pairs:
            difference_BCHW = functional.normalize(a_BCHW, eps=1e-10) - functional.normalize(b_BCHW, eps=1e-10)
            weighted_BCHW = difference_BCHW.square() * weight_1C11.to(picture_BCHW.device)
            distance_B = distance_B + weighted_BCHW.sum(dim=1).mean(dim=(1, 2))
        return distance_B

    def _taps(self, picture_BCHW: Tensor) -> list[Tensor]:
        # LPIPS's own constants are for pictures in [-1, 1].
        x_BCHW = (2 * picture_BCHW - 1 - self.shift_1C11) / self.scale_1C11
        taps = []
        for index, layer in enumerate(self.features):
            x_BCHW = layer(x_BCHW)
            if index in _TAPS:
                taps.append(x_BCHW)
        return taps


def load_lpips(path: Path) -> Lpips:
    """LPIPS from a safetensors file. Raises `LossWeightsError`."""
    try:
        return Lpips(load_file(path))
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise LossWeightsError(f"Cannot read the LPIPS weights {path}: {error}.") from error
