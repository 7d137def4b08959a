"""What is trained: styles on a trunk, or an upscaler. A task turns crops into losses and shows how far it has come."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from models.style_net import StyleTrunk
from models.vgg import LossNetwork
from training.config import StyleWeights, UpscaleWeights
from training.discriminator import FeatureDiscriminator
from training.losses import (
    CONTENT_LAYER,
    STYLE_LAYERS,
    color_loss,
    feature_loss,
    normalized_feature_loss,
    pixel_loss,
    repetition_loss,
    style_grams,
    style_loss,
    texture_loss,
    total_variation,
)
from training.pictures import through_jpeg, to_image, to_picture

Tensors = tuple[Tensor, ...] | list[Tensor]

TEXTURE_LAYERS = ("relu1_2", "relu2_2", "relu3_3")
UPSCALE_LAYERS = (*TEXTURE_LAYERS, "relu4_3")
POOLED = 8
"""Px that a value of the last of them stands for."""
SCALES = {1: 0.4, 2: 1.0}
"""How many times smaller upscalers' pictures are when the loss network looks at them, and how much what it says then
counts. It knows things at their usual size, and what an upscaler has to guess is larger than that by its factor. Two
views of a picture also have fewer blind spots in common, in which an upscaler could paint what no other eye would take
for a photo."""
AVERAGED_SHARE = 0.2
"""Of the steps done: over about so many of the last ones an upscaler's weights are averaged."""
LEAST_JUDGED = 48
"""Px a side of crops, also of reduced ones, of which a discriminator has something to say: it pads nothing."""
PHASE_STRIDE = 7
"""Odd, so that all offsets have their turn, and large, so that neighbouring samples have unlike ones."""
JPEG_QUALITIES = (50, 95)
"""Of Pillow: from where blocks are plain to see, to where nobody finds them."""


class StyleTask(nn.Module):
    """Trains style vectors, and the trunk with them unless it is frozen."""

    weight_S: Tensor
    tv_weight_S: Tensor

    def __init__(
        self,
        trunk: StyleTrunk,
        styles: Mapping[str, Tensor],
        loss_network: LossNetwork,
        weights: StyleWeights,
        style_weights: Mapping[str, float] | None = None,
        tv_weights: Mapping[str, float] | None = None,
        *,
        train_trunk: bool = True,
    ) -> None:
        """`styles`: name to style image (3, H, W); `style_weights`, `tv_weights`: name to a weight of its own."""
        super().__init__()
        self.trunk = trunk.requires_grad_(train_trunk)
        self.norms_SP = nn.Parameter(trunk.neutral_norm().repeat(len(styles), 1))
        self.loss_network = loss_network
        self.weights = weights
        self.names = tuple(styles)
        own, own_tv = style_weights or {}, tv_weights or {}
        self.register_buffer("weight_S", torch.tensor([own.get(name, weights.style) for name in styles]), False)
        tv_weight_S = torch.tensor([own_tv.get(name, weights.total_variation) for name in styles])
        self.register_buffer("tv_weight_S", tv_weight_S, False)
        grams = [style_grams(loss_network, image_3HW) for image_3HW in styles.values()]
        for layer in STYLE_LAYERS:
            self.register_buffer(f"gram_{layer}_SCC", torch.stack([gram[layer] for gram in grams]), False)

    def convolutions(self) -> list[str]:
        """Names of the weights of the trunk's convolutions."""
        return _convolutions(self, "trunk.")

    def start_from(self, norm_P: Tensor) -> None:
        """Sets every style's vector, to one (P,) or each to its own (S, P)."""
        with torch.no_grad():
            self.norms_SP.copy_(norm_P)

    def paint(self, content_BCHW: Tensor, style_B: Tensor) -> Tensor:
        """The pictures in the styles of those indices."""
        painted_BCHW: Tensor = self.trunk(content_BCHW, self.norms_SP[style_B])
        return painted_BCHW

    def forward(self, content_BCHW: Tensor, number_B: Tensor) -> dict[str, Tensor]:
        """Losses of a step, each a scalar. The sample's number in the run says which style it gets."""
        style_B = (number_B % len(self.names)).to(content_BCHW.device, non_blocking=True)
        painted_BCHW = self.paint(content_BCHW, style_B)
        features = self.loss_network(painted_BCHW, STYLE_LAYERS)
        with torch.no_grad():
            content_features = self.loss_network(content_BCHW, (CONTENT_LAYER,))
        grams = {layer: getattr(self, f"gram_{layer}_SCC")[style_B] for layer in STYLE_LAYERS}
        content = self.weights.content * feature_loss(features[CONTENT_LAYER], content_features[CONTENT_LAYER]).mean()
        style = (self.weight_S[style_B] * style_loss(features, grams)).mean()
        smooth = (self.tv_weight_S[style_B] * total_variation(painted_BCHW)).mean()
        return {"total": content + style + smooth, "content": content, "style": style}


@dataclass(frozen=True)
class Degradation:
    """How the low-resolution picture of a pair is made."""

    factor: int
    blur_sigma: float = 0.0
    """Standard deviation in px of a Gaussian blur before the bicubic reduction; 1.0 in the paper."""
    jpeg_share: float = 0.0
    """Of the pictures, how many are saved as JPEG after it, and read again."""
    seed: int = 0
    """Decides, with a sample's number in the run, whether it is saved as JPEG, and in which quality."""

    def __call__(self, high_res_BCHW: Tensor, number_B: Tensor) -> Tensor:
        """Reduces pictures `factor` times, rounded to the 256 levels that a file would hold."""
        blurred_BCHW = self._blur(high_res_BCHW) if self.blur_sigma else high_res_BCHW
        reduced_BCHW = functional.interpolate(
            blurred_BCHW, scale_factor=1 / self.factor, mode="bicubic", antialias=True, align_corners=False
        )
        rounded_BCHW = (reduced_BCHW.clamp(0, 1) * 255).round() / 255
        return self._save(rounded_BCHW, number_B) if self.jpeg_share else rounded_BCHW

    def _save(self, picture_BCHW: Tensor, number_B: Tensor) -> Tensor:
        # There and back at once: a GPU stands still for each way.
        pictures = []
        for picture_CHW, number in zip(picture_BCHW.cpu(), number_B.tolist(), strict=True):
            rng = random.Random(f"{self.seed}/jpeg/{number}")
            saved = rng.random() < self.jpeg_share
            pictures.append(_as_jpeg(picture_CHW, rng.randint(*JPEG_QUALITIES)) if saved else picture_CHW)
        return torch.stack(pictures).to(picture_BCHW.device, non_blocking=True)

    def _blur(self, picture_BCHW: Tensor) -> Tensor:
        radius = int(3 * self.blur_sigma + 0.5)
        offsets = torch.arange(-radius, radius + 1, dtype=picture_BCHW.dtype, device=picture_BCHW.device)
        kernel = torch.exp(-0.5 * (offsets / self.blur_sigma) ** 2)
        kernel_311K = (kernel / kernel.sum()).repeat(3, 1, 1, 1)
        padded_BCHW = functional.pad(picture_BCHW, (radius,) * 4, mode="reflect")
        rows_BCHW = functional.conv2d(padded_BCHW, kernel_311K, groups=3)
        return functional.conv2d(rows_BCHW, kernel_311K.transpose(2, 3), groups=3)


def _as_jpeg(picture_CHW: Tensor, quality: int) -> Tensor:
    return to_picture(through_jpeg(to_image(picture_CHW), quality))


class UpscaleTask(nn.Module):
    """Trains an upscaler on pairs made from the crops."""

    def __init__(
        self,
        network: nn.Module,
        degradation: Degradation,
        loss_network: LossNetwork,
        weights: UpscaleWeights,
        *,
        warm_up_samples: int = 0,
    ) -> None:
        """`warm_up_samples`: the run's first pictures, from which the per-pixel loss alone learns, at weight 1.

        From nothing, the normalised feature loss holds the compact network at the bilinear enlargement.
        """
        super().__init__()
        self.network = network
        self.degradation = degradation
        self.loss_network = loss_network
        self.weights = weights
        self.warm_up_samples = warm_up_samples
        self.discriminators = nn.ModuleDict({str(scale): FeatureDiscriminator() for scale in SCALES if weights.judged})
        """By scale; none without a verdict."""
        self.averaged = AveragedModel(network, multi_avg_fn=_recent_mean, use_buffers=True).requires_grad_(False)
        self._asked: tuple[int, ...] = ()
        """Scales whose discriminators the last step asked."""

    @property
    def averaged_network(self) -> nn.Module:
        """The upscaler that is shown and kept: with the moving average of the weights, not the last step's.

        Against a discriminator weights circle around what they learn; no step of theirs is as good as their middle.
        """
        return self.averaged.module

    def before_step(self) -> None:
        """Lets discriminators rest while nobody asks them: Adam would count their gradients of nothing, and take
        the first real ones for six times as large.
        """
        for discriminator in self._unasked():
            for value in discriminator.parameters():
                value.grad = None

    def after_step(self) -> None:
        """Takes the weights into the average."""
        self.averaged.update_parameters(self.network)

    def convolutions(self) -> list[str]:
        """Names of the weights of the upscaler's convolutions."""
        return _convolutions(self, "network.")

    def forward(self, high_res_BCHW: Tensor, number_B: Tensor) -> dict[str, Tensor]:
        """Losses of a step, each a scalar."""
        with torch.autocast(high_res_BCHW.device.type, enabled=False):
            low_res_BCHW = self.degradation(high_res_BCHW, number_B)
        enlarged_BCHW = self.network(low_res_BCHW.contiguous(memory_format=torch.channels_last)).float()
        is_warming_up = bool(number_B.min() < self.warm_up_samples)
        pixel_weight = 1.0 if is_warming_up else self.weights.pixel
        pixel = pixel_weight * pixel_loss(enlarged_BCHW, high_res_BCHW).mean()
        if is_warming_up or not self.weights.compares_features:
            self._asked = ()
            none = torch.zeros_like(pixel)
            losses = {"pixel": pixel, "feature": none, "texture": none, "color": none, "repetition": none}
            return {"total": pixel + self._no_verdict()} | losses
        # Small patches are seen at their own size alone.
        scales = [scale for scale in SCALES if scale == 1 or high_res_BCHW.shape[2] // scale >= LEAST_JUDGED]
        seen = [self._compare(enlarged_BCHW, high_res_BCHW, number_B, scale) for scale in scales]
        self._asked = tuple(scales)
        # As it will be shown: where grain is cut off at black, what is left of it is brighter than the whole.
        shown_BCHW = enlarged_BCHW.clamp(0, 1)
        factor = self.degradation.factor
        color = self.weights.color * color_loss(shown_BCHW, high_res_BCHW, factor).mean()
        repetition = self.weights.repetition * repetition_loss(shown_BCHW, high_res_BCHW, factor).mean()
        losses = {"pixel": pixel, "color": color, "repetition": repetition}
        losses |= {name: torch.stack([each[name] for each in seen]).sum() for name in seen[0]}
        return {"total": torch.stack(list(losses.values())).sum() + self._no_verdict()} | losses

    def _compare(self, enlarged_BCHW: Tensor, high_res_BCHW: Tensor, number_B: Tensor, scale: int) -> dict[str, Tensor]:
        """What the loss network says of pictures that are `scale` times smaller."""
        made_BCHW, truth_BCHW = (
            _seen_part(_reduce(each_BCHW, scale), number_B) for each_BCHW in (enlarged_BCHW, high_res_BCHW)
        )
        features = self.loss_network(made_BCHW, UPSCALE_LAYERS)
        with torch.no_grad():
            targets = self.loss_network(truth_BCHW, UPSCALE_LAYERS)
        feature = normalized_feature_loss(features, targets, UPSCALE_LAYERS).mean()
        texture = texture_loss(features, targets, TEXTURE_LAYERS).mean()
        share = SCALES[scale]
        losses = {"feature": share * self.weights.feature * feature, "texture": share * self.weights.texture * texture}
        if self.discriminators:
            discriminator = cast(FeatureDiscriminator, self.discriminators[str(scale)])
            own, verdict = discriminator.losses(features, targets)
            losses |= {"judge": own / len(SCALES), "verdict": share * self.weights.adversarial * verdict}
        return losses

    def _unasked(self) -> list[nn.Module]:
        return [each for scale, each in self.discriminators.items() if int(scale) not in self._asked]

    def _no_verdict(self) -> Tensor:
        """Nothing, but with the others in its graph: processes wait for gradients of all there is to train."""
        values = [value.sum() for each in self._unasked() for value in each.parameters()]
        return 0 * torch.stack(values).sum() if values else torch.zeros(())


def _recent_mean(means: Tensors, values: Tensors, count: Tensor | int) -> None:
    """Makes means of `count` values those of one value more. Their reach grows with them, so that wherever a run ends
    they are recent.

    Shamir and Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", 2013: polynomial-decay averaging.
    """
    if not means[0].is_floating_point():
        # Counters.
        torch._foreach_copy_(means, values)
        return
    moves = torch._foreach_sub(values, means)
    torch._foreach_div_(moves, 1 + AVERAGED_SHARE * count)
    torch._foreach_add_(means, moves)


def _convolutions(task: nn.Module, part: str) -> list[str]:
    return [name for name, value in task.named_parameters() if name.startswith(part) and value.ndim == 4]


def _reduce(picture_BCHW: Tensor, scale: int) -> Tensor:
    if scale == 1:
        return picture_BCHW
    return functional.interpolate(
        picture_BCHW, scale_factor=1 / scale, mode="bilinear", antialias=True, align_corners=False
    )


def _seen_part(picture_BCHW: Tensor, number_B: Tensor) -> Tensor:
    """What the loss network sees of crops: all but `POOLED` px of each side, other ones in each sample.

    Its pooling has a grid, and so has what an upscaler makes of each input. Were they always in step, errors that
    repeat with the grid would go unseen.
    """
    side = picture_BCHW.shape[2] - POOLED
    parts = []
    for picture_CHW, number in zip(picture_BCHW, number_B.tolist(), strict=True):
        top, left = divmod(number * PHASE_STRIDE % POOLED**2, POOLED)
        parts.append(picture_CHW[:, top : top + side, left : left + side])
    return torch.stack(parts).contiguous(memory_format=torch.channels_last)
