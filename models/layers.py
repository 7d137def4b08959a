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


def mix_channels(x_BCHW: Tensor, mix_BCC: Tensor, channels: int) -> Tensor:
    """Adds to each of the channels a weighted sum of all, with each picture's own weights.

    `mix_BCC`: the weights times the root of `channels`, so that those of few and of many channels are numbers of one
    size, which learn at one pace. At 0 the channels stay as they are. A matrix per style between shared layers is what
    Li et al., "Learning Linear Transformations for Fast Image and Video Style Transfer", 2019, compute from a picture.
    """
    sums_BCN = torch.bmm(mix_BCC * channels**-0.5, x_BCHW.flatten(2))
    return x_BCHW + sums_BCN.reshape(x_BCHW.shape)


def convolve_enlarged(x_BCHW: Tensor, weight_OIKK: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """A 3x3 convolution, with reflection padding, of the picture enlarged twice by nearest neighbour.

    Enlarging first leaves no checkerboard (Odena et al. 2016). Here both are one transposed convolution: each pixel of
    the enlarged picture sees but 2x2 places of the small one, so weights that meet the same place are summed up before.
    That takes 4 multiplications in place of 9, and nothing enlarged lies in memory.
    """
    shifts = [(left, 1 - left, top, 1 - top) for top in (0, 1) for left in (0, 1)]
    sums_OIKK = torch.stack([functional.pad(weight_OIKK, shift) for shift in shifts]).sum(dim=0)
    # Reflection at the border of the enlarged picture shows the border's own place once more.
    padded_BCHW = functional.pad(x_BCHW, (1, 1, 1, 1), mode="replicate")
    return functional.conv_transpose2d(padded_BCHW, sums_OIKK.flip(2, 3).transpose(0, 1), bias_O, stride=2, padding=3)


def convolve_in_blocks(
    x_BCHW: Tensor, weight_OIKK: Tensor, bias_O: Tensor | None, rows: int = 2, columns: int = 4
) -> Tensor:
    """What a layer made by `conv` with few output channels returns, in less time.

    Vector units compute 8 or more channels at once, of which a picture's 3 would leave most idle. So the pixels of a
    block of `rows` times `columns` are computed as channels of one place, by the same weights shifted: a convolution
    with the block's stride. Height and width of the input: at least K / 2 more than the block's.
    """
    height, width = x_BCHW.shape[2:]
    channels, _, kernel, _ = weight_OIKK.shape
    pad = kernel // 2
    shifts = [(left, columns - 1 - left, top, rows - 1 - top) for top in range(rows) for left in range(columns)]
    shifted_OIKK = torch.stack([functional.pad(weight_OIKK, shift) for shift in shifts], dim=1).flatten(0, 1)
    repeated_O = None if bias_O is None else bias_O.repeat_interleave(rows * columns)
    # The last blocks may reach beyond the picture, by less than their size.
    padded_BCHW = functional.pad(x_BCHW, (pad, pad + columns - 1, pad, pad + rows - 1), mode="reflect")
    blocks_BCHW = functional.conv2d(padded_BCHW, shifted_OIKK, repeated_O, stride=(rows, columns))
    pixels_BCHRWL = torch.unflatten(blocks_BCHW, 1, (channels, rows, columns)).permute(0, 1, 4, 2, 5, 3)
    return pixels_BCHRWL.flatten(2, 3).flatten(3, 4)[:, :, :height, :width]
