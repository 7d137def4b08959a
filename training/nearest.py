"""From which of a trunk's styles a new one should start."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.style_net import StyleTrunk
from training.optimize import Objective


def nearest_norm(
    trunk: StyleTrunk,
    norms: Mapping[str, Tensor],
    objective: Objective,
    photos: Sequence[Tensor],
    content_weight: float = 1.0,
) -> str:
    """Name of the vector (P,) whose paintings of photos (3, H, W) cost least by a new style's objective.

    What the trunk already paints somewhat alike lies nearer than the mean of all, where it paints nothing well.
    """
    trunk.eval()
    costs = dict.fromkeys(norms, 0.0)
    with torch.no_grad():
        for photo_3HW in photos:
            photo_1CHW = photo_3HW[None]
            features_1CHW = objective.content_features(photo_1CHW)
            for name, norm_P in norms.items():
                content_1, style_1 = objective.parts(trunk(photo_1CHW, norm_P[None]), features_1CHW)
                costs[name] += (content_weight * content_1 + style_1).item()
    return min(costs, key=lambda name: costs[name])
