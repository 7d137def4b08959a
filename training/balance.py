"""How much style: a weight worked out from the untrained losses, so that every style image starts from one balance."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from models.vgg import LossNetwork
from training.errors import ConfigError
from training.losses import CONTENT_LAYER, STYLE_LAYERS, feature_loss, style_grams, style_loss

STRENGTHS: Mapping[str, float] = {"light": 2.0, "normal": 6.0, "strong": 18.0}
"""Weighted style loss over content loss before training. 6 is the geometric mean of the shipped gallery's ten styles
at the weight 1e5; at that one weight they lie between 2 and 17."""


@dataclass(frozen=True)
class UntrainedLosses:
    """What the losses are before anything is learned."""

    content: float
    """Feature loss between photos that have nothing in common: all content lost."""
    style: float
    """Style loss of photos as they are: no style yet."""

    def style_weight(self, strength: str) -> float:
        """The style weight of that strength (a key of `STRENGTHS`) beside a content weight of 1, rounded to two digits.

        Raises `ConfigError`.
        """
        weight = float(f"{STRENGTHS[strength] * self.content / self.style:.1e}")
        if not weight > 0:
            raise ConfigError(
                f"A style weight of {weight:g} would teach nothing. It comes of a single photo, or of photos that are "
                "all alike: give more photos, or --style-weight."
            )
        return weight


def measure_untrained(network: LossNetwork, photos_BCHW: Tensor, style_3HW: Tensor) -> UntrainedLosses:
    """The untrained losses of two or more photos in [0, 1] and a style image."""
    with torch.no_grad():
        features = network(photos_BCHW, STYLE_LAYERS)
    content_BCHW = features[CONTENT_LAYER]
    content_B = feature_loss(content_BCHW, content_BCHW.roll(1, dims=0))
    style_B = style_loss(features, style_grams(network, style_3HW))
    # A style image that is itself one of the photos would otherwise ask for an endless weight.
    return UntrainedLosses(content_B.mean().item(), max(style_B.mean().item(), 1e-9))
