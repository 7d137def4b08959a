"""Direct optimisation of a picture's pixels (Gatys et al. 2016): the slow rival of every feed-forward style."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from models.vgg import LossNetwork
from training.config import StyleWeights
from training.losses import CONTENT_LAYER, STYLE_LAYERS, feature_loss, style_grams, style_loss


@dataclass(frozen=True)
class Objective:
    """What a painted picture is judged by: content loss plus weighted style loss, no total variation."""

    network: LossNetwork
    grams: Mapping[str, Tensor]
    """Gram matrices (C, C) of the style image."""
    style_weight: float = StyleWeights.style

    @classmethod
    def of_style(cls, network: LossNetwork, style_3HW: Tensor, style_weight: float = StyleWeights.style) -> "Objective":
        """The objective of one style image."""
        return cls(network, style_grams(network, style_3HW), style_weight)

    def content_features(self, content_BCHW: Tensor) -> Tensor:
        """What the content loss compares with."""
        with torch.no_grad():
            features: dict[str, Tensor] = self.network(content_BCHW, (CONTENT_LAYER,))
        return features[CONTENT_LAYER]

    def parts(self, picture_BCHW: Tensor, content_features_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Content loss (B,) and weighted style loss (B,) of pictures in [0, 1]."""
        features = self.network(picture_BCHW, STYLE_LAYERS)
        grams = {layer: gram_CC[None] for layer, gram_CC in self.grams.items()}
        content_B = feature_loss(features[CONTENT_LAYER], content_features_BCHW)
        return content_B, self.style_weight * style_loss(features, grams)


def optimize_pixels(
    objective: Objective, content_BCHW: Tensor, start_BCHW: Tensor, iterations: int
) -> Iterator[tuple[float, Tensor]]:
    """L-BFGS on the pixels of one picture; yields `(objective, picture)` before each iteration and after the last.

    Pixels are kept in [0, 1] as in the paper. Step length 1 and 100 corrections, without line search: one evaluation
    an iteration, as in Johnson's neural-style.
    """
    features_BCHW = objective.content_features(content_BCHW)
    pixels_BCHW = start_BCHW.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([pixels_BCHW], lr=1.0, max_iter=1, history_size=100, tolerance_change=0.0)

    def evaluate() -> Tensor:
        with torch.no_grad():
            pixels_BCHW.clamp_(0, 1)
        optimizer.zero_grad()
        content_B, style_B = objective.parts(pixels_BCHW, features_BCHW)
        total = (content_B + style_B).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total.detach()

    for _ in range(iterations):
        yield optimizer.step(evaluate).item(), pixels_BCHW.detach()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        pixels_BCHW.clamp_(0, 1)
        content_B, style_B = objective.parts(pixels_BCHW, features_BCHW)
    yield (content_B + style_B).sum().item(), pixels_BCHW.detach()


def iterations_to_reach(curve: Sequence[float], value: float) -> float | None:
    """Where a curve of objectives first comes down to `value`, between iterations in a straight line.

    None if it never does.
    """
    if not curve or curve[0] <= value:
        return 0.0 if curve else None
    for iteration, (before, after) in enumerate(pairwise(curve)):
        if after <= value:
            return iteration + (before - value) / (before - after)
    return None
