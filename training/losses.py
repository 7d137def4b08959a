"""The losses of Johnson et al. 2016, and the loss network's weights."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from models.vgg import LossNetwork
from training.checkpoint import read_saved
from training.errors import LossWeightsError

CONTENT_LAYER = "relu2_2"
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
STYLE_IMAGE_SIZE = 512
"""Longer side in px at which a style image's Gram matrices are taken."""
COLOR_CELL = 4
"""Px of an upscaler's input, along the places whose mean colours it is to keep."""
TEXTURE_CELL = 16
"""Px of the places whose textures upscalers are to match."""
DETAIL_WINDOW = 5
"""Px, odd: detail is what a picture has beside its mean over so many px."""
REPETITION_WINDOW = 64
"""Px of the places in which detail is compared with itself, a little further on."""
FARTHEST_REPETITION = 3
"""Px of an upscaler's input, over which it is."""

_LEVEL = 1 / 255

VGG16_ADDRESS = "https://download.pytorch.org/models/vgg16-397923af.pth"
"""torchvision's `VGG16_Weights.IMAGENET1K_V1`, 528 MB. The SHA-256 of the file begins as its name says."""

log = logging.getLogger(__name__)


def gram_matrix(features_BCHW: Tensor) -> Tensor:
    """Correlations between channels (B, C, C), divided by C * H * W. Computed in float32: half overflows."""
    batch, channels, height, width = features_BCHW.shape
    flat_BCN = features_BCHW.reshape(batch, channels, height * width).float()
    scale = (channels * height * width) ** -0.5
    with torch.autocast(flat_BCN.device.type, enabled=False):
        flat_BCN = flat_BCN * scale
        return torch.bmm(flat_BCN, flat_BCN.transpose(1, 2))


def style_grams(network: LossNetwork, style_3HW: Tensor) -> dict[str, Tensor]:
    """Gram matrices (C, C) of a style image at `STYLE_LAYERS`."""
    with torch.no_grad():
        features = network(style_3HW[None], STYLE_LAYERS)
    return {layer: gram_matrix(features[layer])[0] for layer in STYLE_LAYERS}


def feature_loss(features_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Feature reconstruction loss (B,): mean squared difference of features."""
    return (features_BCHW.float() - target_BCHW.float()).square().mean(dim=(1, 2, 3))


def style_loss(features: Mapping[str, Tensor], target_grams: Mapping[str, Tensor]) -> Tensor:
    """Style reconstruction loss (B,): mean squared difference of Gram matrices (B, C, C), summed over layers."""
    per_layer = [
        (gram_matrix(features[layer]) - gram_BCC).square().mean(dim=(1, 2)) for layer, gram_BCC in target_grams.items()
    ]
    return torch.stack(per_layer).sum(dim=0)


def total_variation(picture_BCHW: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels (B,), down plus across."""
    picture_BCHW = picture_BCHW.float()
    down_B = (picture_BCHW[:, :, 1:] - picture_BCHW[:, :, :-1]).square().mean(dim=(1, 2, 3))
    across_B = (picture_BCHW[:, :, :, 1:] - picture_BCHW[:, :, :, :-1]).square().mean(dim=(1, 2, 3))
    return down_B + across_B


def pixel_loss(picture_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Mean absolute difference of pixels (B,), the baseline that blurs."""
    return (picture_BCHW - target_BCHW).abs().mean(dim=(1, 2, 3))


def color_loss(picture_BCHW: Tensor, target_BCHW: Tensor, factor: int, cell: int = COLOR_CELL) -> Tensor:
    """Mean absolute difference (B,) of the mean colours of `cell` by `cell` px of what was enlarged.

    Feature losses are nearly blind to a shift of a whole region's colour; this one sees nothing else. Of the `factor`
    by `factor` px that an upscaler makes of each of its inputs, every one is compared with its like: so a grid that
    repeats from input to input, to which features are as blind, is a shift of colour too.
    """
    means = (
        functional.avg_pool2d(functional.pixel_unshuffle(each_BCHW, factor), cell)
        for each_BCHW in (picture_BCHW, target_BCHW)
    )
    return pixel_loss(*means)


def repetition_loss(picture_BCHW: Tensor, target_BCHW: Tensor, factor: int) -> Tensor:
    """Mean squared difference (B,) of the autocorrelation of detail, up to some px of what was enlarged.

    Where an upscaler knows nothing it paints the same few strokes around each of its inputs. That has the right texture
    in every small place, and looks woven: each px is like those `factor` px away, or their negative, which the colour
    loss cannot see. In photos it is like neither. Sendik and Cohen-Or, "Deep Correlations for Texture Synthesis", 2017,
    compare features in this way.
    """
    made_BLRK, wanted_BLRK = (_autocorrelation(each_BCHW, factor) for each_BCHW in (picture_BCHW, target_BCHW))
    return (made_BLRK - wanted_BLRK).square().mean(dim=(1, 2, 3))


def _autocorrelation(picture_BCHW: Tensor, factor: int) -> Tensor:
    """Correlation (B, L, R, K) of each window's detail with that of the window's places moved by each of L lags."""
    gray_B1HW = picture_BCHW.float().mean(dim=1, keepdim=True)
    padded_B1HW = functional.pad(gray_B1HW, (DETAIL_WINDOW // 2,) * 4, mode="replicate")
    detail_B1HW = gray_B1HW - functional.avg_pool2d(padded_B1HW, DETAIL_WINDOW, stride=1)
    height, width = detail_B1HW.shape[2:]
    # In small pictures, less far: half of each has to be left.
    most = min(FARTHEST_REPETITION * factor, height // 2, width // 4)

    def place(down: int, across: int) -> Tensor:
        return detail_B1HW[:, :, down : down + height - most, most + across : width - most + across]

    def mean(x_BLHW: Tensor) -> Tensor:
        window = min(REPETITION_WINDOW, *x_BLHW.shape[2:])
        return functional.avg_pool2d(x_BLHW, window, max(window // 2, 1))

    here_B1HW = place(0, 0)
    # All lags at once: on a GPU each operator costs more than what it computes here.
    there_BLHW = torch.cat([place(*lag) for lag in _lags(factor, most)], dim=1)
    power_B1RK, power_there_BLRK = mean(here_B1HW.square()), mean(there_BLHW.square())
    # Detail of less than a level is none.
    both_BLRK = (power_B1RK * power_there_BLRK + _LEVEL**4).sqrt()
    return mean(here_B1HW * there_BLHW) / both_BLRK


def _lags(factor: int, most: int) -> list[tuple[int, int]]:
    """Px down and across: along the axes, from half an input's on, and along the diagonals."""
    steps = range(min(factor // 2, most), most + 1, max(factor // 4, 1))
    axes = [lag for step in steps for lag in ((0, step), (step, 0))]
    return axes + [(step, step * side) for step in range(factor, most + 1, factor) for side in (1, -1)]


def normalized_feature_loss(
    features: Mapping[str, Tensor], targets: Mapping[str, Tensor], layers: Sequence[str]
) -> Tensor:
    """Squared distance (B,) of features whose channels are scaled to unit length at each position, over `layers`.

    The comparison that LPIPS makes (Zhang et al. 2018) without its learned weights: unlike the plain feature loss it
    weighs dark and bright regions alike, so flat areas keep their colour.
    """
    per_layer = []
    for layer in layers:
        difference_BCHW = functional.normalize(features[layer].float(), dim=1) - functional.normalize(
            targets[layer].float(), dim=1
        )
        per_layer.append(difference_BCHW.square().sum(dim=1).mean(dim=(1, 2)))
    return torch.stack(per_layer).sum(dim=0)


def texture_loss(
    features: Mapping[str, Tensor], targets: Mapping[str, Tensor], layers: Sequence[str], cell: int = TEXTURE_CELL
) -> Tensor:
    """Style reconstruction loss (B,) of small places: how far Gram matrices of cells of `cell` px are off.

    Relative to the target's own, summed over `layers`. A feature loss alone is least for the mean of all that a blurred
    place may have been, which has no grain; here the grain must be right, wherever exactly it lies (Sajjadi,
    Schölkopf, Hirsch 2017).
    The first layer must have the size of the picture. What is left over beside whole cells does not count.
    """
    per_layer = []
    for layer in layers:
        side = cell * features[layer].shape[2] // features[layers[0]].shape[2]
        made_NCC, wanted_NCC = (gram_matrix(_cells(each[layer], side)) for each in (features, targets))
        batch = len(features[layer])
        error_B = (made_NCC - wanted_NCC).square().sum(dim=(1, 2)).reshape(batch, -1).sum(dim=1)
        power_B = wanted_NCC.square().sum(dim=(1, 2)).reshape(batch, -1).sum(dim=1)
        per_layer.append(error_B / (power_B + torch.finfo(power_B.dtype).tiny))
    return torch.stack(per_layer).sum(dim=0)


def _cells(x_BCHW: Tensor, side: int) -> Tensor:
    """Squares (N, C, side, side) of features, those of the first picture first; what is left over at the end is not."""
    channels = x_BCHW.shape[1]
    squares_BCRKSS = x_BCHW.unfold(2, side, side).unfold(3, side, side)
    return squares_BCRKSS.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels, side, side)


def load_loss_network(weights: Path | None) -> LossNetwork:
    """VGG-16 from a file (safetensors or .pth, torchvision's names) or, without one, from `VGG16_ADDRESS`.

    Raises `LossWeightsError`.
    """
    path = weights or _download_weights()
    try:
        return LossNetwork.from_state_dict(_read_weights(path))
    except (KeyError, RuntimeError) as error:
        raise LossWeightsError(f"{path} does not hold torchvision's VGG-16 weights: {error}.") from error


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: Mapping[str, Tensor] = read_saved(path)
        return state
    except (OSError, SafetensorError) as error:
        raise LossWeightsError(f"Cannot read the loss weights {path}: {error}.") from error


def _download_weights() -> Path:
    """Where the weights lie once they are downloaded: torchvision looks for them, and leaves them, in the same place.

    torchvision itself would have to be imported, which fails where its build does not fit torch's.
    """
    name = VGG16_ADDRESS.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.exists():
        return path
    log.info("Downloading VGG-16's weights to %s, 528 MB, once.", path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(VGG16_ADDRESS, str(path), Path(name).stem.rpartition("-")[2])
        return path
    except (OSError, RuntimeError) as error:
        raise LossWeightsError(
            f"VGG-16's weights could not be downloaded ({error}): fetch {VGG16_ADDRESS} in some other way, and give "
            f"the file with --loss-weights {name}."
        ) from error
