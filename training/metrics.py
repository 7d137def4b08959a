"""How near an enlarged picture is to the truth: PSNR, SSIM, mean colours, and whether a grid lies over it."""

import math

import torch
from torch import Tensor
from torch.nn import functional

# ITU-R BT.601 for 8-bit levels, as MATLAB's rgb2ycbcr has it: black is 16, white 235.
_LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
_LUMA_BLACK = 16 / 255

_SSIM_WINDOW = 11
_SSIM_SIGMA = 1.5

_GRID_WINDOW = 64
_GRID_STEP = 32
_GRID_FLOOR = 1e-9
"""Power below which a frequency counts as empty: a hundredth of a level of 255."""


def luma(picture_BCHW: Tensor) -> Tensor:
    """BT.601 luma (B, 1, H, W) of sRGB in [0, 1]; black is 16/255, white 235/255."""
    weights_1C11 = torch.tensor(_LUMA, dtype=picture_BCHW.dtype, device=picture_BCHW.device).view(1, 3, 1, 1)
    return (picture_BCHW * weights_1C11).sum(dim=1, keepdim=True) + _LUMA_BLACK


def crop_border(picture_BCHW: Tensor, border: int) -> Tensor:
    """The picture without `border` px on each side."""
    return picture_BCHW[:, :, border : picture_BCHW.shape[2] - border, border : picture_BCHW.shape[3] - border]


def psnr(picture_BCHW: Tensor, truth_BCHW: Tensor, border: int) -> float:
    """Peak signal-to-noise ratio in dB on luma, `border` px left out; infinite for equal pictures."""
    difference = crop_border(luma(picture_BCHW.double()) - luma(truth_BCHW.double()), border)
    error = difference.square().mean().item()
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(picture_BCHW: Tensor, truth_BCHW: Tensor, border: int) -> float:
    """Structural similarity on luma (Wang et al. 2004), `border` px left out; 1 for equal pictures.

    An 11x11 Gaussian window of sigma 1.5, only where it lies wholly inside.
    """
    a_B1HW = crop_border(luma(picture_BCHW.double()), border)
    b_B1HW = crop_border(luma(truth_BCHW.double()), border)
    mean_a, mean_b = _window_mean(a_B1HW), _window_mean(b_B1HW)
    variance_a = _window_mean(a_B1HW.square()) - mean_a.square()
    variance_b = _window_mean(b_B1HW.square()) - mean_b.square()
    covariance = _window_mean(a_B1HW * b_B1HW) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a.square() + mean_b.square() + c1) * (variance_a + variance_b + c2)
    )
    return similarity.mean().item()


def _window_mean(x_B1HW: Tensor) -> Tensor:
    offsets = torch.arange(_SSIM_WINDOW, dtype=x_B1HW.dtype, device=x_B1HW.device) - _SSIM_WINDOW // 2
    window = torch.exp(-0.5 * (offsets / _SSIM_SIGMA) ** 2)
    window_11K1 = (window / window.sum()).view(1, 1, -1, 1)
    return functional.conv2d(functional.conv2d(x_B1HW, window_11K1), window_11K1.transpose(2, 3))


def mean_colour_difference(picture_BCHW: Tensor, truth_BCHW: Tensor) -> Tensor:
    """How much the mean colours (B, C) are off, in levels of 255: positive where the picture is brighter."""
    return 255 * (picture_BCHW.double().mean(dim=(2, 3)) - truth_BCHW.double().mean(dim=(2, 3)))


def grid_power(picture_BCHW: Tensor, factor: int) -> float:
    """By how many dB luma has more power at the frequencies of a grid of `factor` px than at their neighbours.

    Means of logarithms, over windows of 64 px (by Hann) and all those frequencies; 0 for a picture below 64 px. An
    upscaler makes `factor` by `factor` px of each input; what is alike in all of them, where a photo has nothing of
    the kind, shows as a fine regular pattern.
    """
    luma_B1HW = luma(picture_BCHW.double())
    if min(luma_B1HW.shape[2:]) < _GRID_WINDOW:
        return 0.0
    hann_N = torch.hann_window(_GRID_WINDOW, periodic=True, dtype=torch.float64, device=luma_B1HW.device)
    windows_BRKNN = luma_B1HW[:, 0].unfold(1, _GRID_WINDOW, _GRID_STEP).unfold(2, _GRID_WINDOW, _GRID_STEP)
    flat_BRKNN = windows_BRKNN - windows_BRKNN.mean(dim=(3, 4), keepdim=True)
    spectrum_BRKNN = torch.fft.fft2(flat_BRKNN * hann_N[:, None] * hann_N)
    power_NN = 10 * (spectrum_BRKNN.abs().square() + _GRID_FLOOR).log10().mean(dim=(0, 1, 2))
    # Three bins away the window's own spread of a single frequency has ended.
    near = [
        torch.roll(power_NN, (down, across), (0, 1)) for down in (-3, 0, 3) for across in (-3, 0, 3) if down or across
    ]
    excess_NN = power_NN - torch.stack(near).mean(dim=0)
    grid_FF = excess_NN[:: _GRID_WINDOW // factor, :: _GRID_WINDOW // factor]
    return float(grid_FF.sum() - grid_FF[0, 0]) / (factor**2 - 1)
