"""What no program can be faster than on a machine: a network's arithmetic and bytes against the machine's best."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.rounds import time_in_turn
from models.style_net import ConvNorm, EnlargingConvNorm, StyleTrunk

MATMUL = {"cpu": 2048, "cuda": 8192}
COPY_BYTES = {"cpu": 256 * 2**20, "cuda": 2**30}
"""More than any cache holds."""


@dataclass(frozen=True)
class Layer:
    """What a convolution costs at one size."""

    operations: float
    """Multiplications and additions, each counted."""
    values: float
    """Read and written once each: input, output, weights."""


@dataclass(frozen=True)
class Peak:
    """The best that a machine does, measured."""

    operations_per_s: float
    """In a multiplication of large matrices."""
    bytes_per_s: float
    """Read and written by a copy."""
    itemsize: int

    def floor_s(self, layers: list[Layer]) -> float:
        """Seconds that the layers take one after another when each is limited by arithmetic or by memory alone."""
        return sum(
            max(layer.operations / self.operations_per_s, layer.values * self.itemsize / self.bytes_per_s)
            for layer in layers
        )


def count_layers(width: int, batch: int, height: int, size_w: int) -> list[Layer]:
    """The trunk's convolutions, read off its layers without computing. Norms and activations count as fused."""
    layers: list[Layer] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, ConvNorm)
        # Of the 3x3 weights behind an enlargement, some meet the same place: see `convolve_enlarged`.
        seen = 4 if isinstance(module, EnlargingConvNorm) else module.conv.weight[0, 0].numel()
        layers.append(_layer(inputs[0], output, module.conv.weight, seen))

    with torch.device("meta"), torch.no_grad():
        trunk = StyleTrunk(width)
        for module in trunk.modules():
            if isinstance(module, ConvNorm):
                module.register_forward_hook(note)
        painted_BCHW = trunk(torch.empty(batch, 3, height, size_w), torch.empty(batch, trunk.norm_size))
        features_BCHW = torch.empty(batch, width, height, size_w)
        layers.append(_layer(features_BCHW, painted_BCHW, trunk.out.weight, trunk.out.weight[0, 0].numel()))
    return layers


def _layer(input_: Tensor, output: Tensor, weight_OIKK: Tensor, seen: int) -> Layer:
    """`seen`: places of each input channel that a value of the output depends on."""
    return Layer(
        2.0 * output.numel() * weight_OIKK.shape[1] * seen, input_.numel() + output.numel() + weight_OIKK.numel()
    )


def measure_peak(device: str, dtype: torch.dtype, rounds: int = 5) -> Peak:
    """Multiplies large matrices and copies a large tensor."""
    kind = torch.device(device).type
    side = MATMUL[kind]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.empty(COPY_BYTES[kind], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = torch.empty(side, side, dtype=dtype, device=device)

    def multiply() -> None:
        torch.mm(left, right, out=product)
        _wait(kind)

    def copy() -> None:
        target.copy_(source)
        _wait(kind)

    with torch.inference_mode():
        seconds = time_in_turn({"multiply": multiply, "copy": copy}, rounds, warm_ups=2)
    return Peak(2 * side**3 / seconds["multiply"], 2 * source.numel() / seconds["copy"], dtype.itemsize)


def _wait(kind: str) -> None:
    if kind == "cuda":
        torch.cuda.synchronize()
