"""What tells photos from enlargements, and so teaches upscalers the grain that no photo lacks."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

WIDTH = 48
_CHANNELS = {"relu2_2": 128, "relu3_3": 256, "relu4_3": 512}


class FeatureDiscriminator(nn.Module):
    """Judges places of a picture by the loss network's features there, which are not trained (Sauer et al. 2021).

    It costs little beside the losses that need those features anyhow, and learns in hundreds of steps what a
    discriminator of pixels takes ten thousands for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({layer: _head(channels) for layer, channels in _CHANNELS.items()})

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits (B, 1, h, w) at each of its layers, positive for what looks photographed.

        `features`: by layer (B, C, H, W), of any scale: channels are brought to a mean square of 1 at each position.
        """
        logits = {}
        for layer, head in self.heads.items():
            unit_BCHW = functional.normalize(features[layer].float(), dim=1) * _CHANNELS[layer] ** 0.5
            logits[layer] = head(unit_BCHW)
        return logits

    def losses(self, made: Mapping[str, Tensor], photographed: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Its own loss and the upscaler's, each a scalar (hinge losses, Lim and Ye 2017).

        The first has no gradient for what was made, the second none for the discriminator: their sum may go into one
        backward pass and one optimiser.
        """
        shown = self({layer: features.detach() for layer, features in made.items()})
        own = [functional.relu(1 + logits_B1HW).mean() for logits_B1HW in shown.values()]
        own += [functional.relu(1 - logits_B1HW).mean() for logits_B1HW in self(photographed).values()]
        fixed = {name: value.detach() for name, value in self.named_parameters()}
        fooled: dict[str, Tensor] = functional_call(self, fixed, (made,))
        return torch.stack(own).sum(), -torch.stack([logits_B1HW.mean() for logits_B1HW in fooled.values()]).sum()


def _head(channels: int) -> nn.Sequential:
    # No padding: a picture's edge would be told from its middle.
    return nn.Sequential(
        nn.Conv2d(channels, WIDTH, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(WIDTH, WIDTH, 3),
        nn.LeakyReLU(0.2),
        nn.Conv2d(WIDTH, WIDTH, 3),
        nn.LeakyReLU(0.2),
        nn.Conv2d(WIDTH, 1, 1),
    )
