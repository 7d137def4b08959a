"""Layers shared by the networks, written so that `torch.jit.trace` keeps height and width dynamic."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """A convolution with reflection padding: zero padding paints a visible frame around a stylized picture."""
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        padding_mode="reflect",
        bias=bias,
    )


def conditional_instance_norm(x_BCHW: Tensor, scale_BC: Tensor, shift_BC: Tensor) -> Tensor:
    """Normalises each channel of each picture, then applies that picture's own scale and shift.

    Dumoulin, Shlens, Kudlur, "A Learned Representation for Artistic Style", 2017. Written with `var_mean`
    because `functional.instance_norm` leaves a branch in the traced graph that OpenVINO cannot convert.
    """
    var_BC11, mean_BC11 = torch.var_mean(x_BCHW, dim=(2, 3), correction=0, keepdim=True)
    return normalize(x_BCHW, mean_BC11, var_BC11, scale_BC, shift_BC)


def normalize(
    x_BCHW: Tensor, mean_BC11: Tensor, var_BC11: Tensor, scale_BC: Tensor, shift_BC: Tensor, eps: float = 1e-5
) -> Tensor:
    """Brings channels of that mean and variance to mean `shift_BC` and deviation `scale_BC`."""
    gain_BC11 = scale_BC[:, :, None, None] * torch.rsqrt(var_BC11 + eps)
    return x_BCHW * gain_BC11 + (shift_BC[:, :, None, None] - mean_BC11 * gain_BC11)


def upsample_nearest(x_BCHW: Tensor) -> Tensor:
    """Doubles height and width. Followed by a 3x3 convolution it leaves no checkerboard (Odena et al. 2016)."""
    return functional.interpolate(x_BCHW, scale_factor=2.0, mode="nearest")
