"""The loss network: VGG-16's convolutions up to relu4_3, frozen (Simonyan and Zisserman 2014)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

# torchvision's `vgg16().features` numbering: the index of the ReLU that closes each named layer.
LAYERS = {"relu1_2": 3, "relu2_2": 8, "relu3_3": 15, "relu4_3": 22}

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_CHANNELS: tuple[int | str, ...] = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512)


def _build_features() -> nn.Sequential:
    features: list[nn.Module] = []
    in_channels = 3
    for channels in _CHANNELS:
        if isinstance(channels, str):
            features.append(nn.MaxPool2d(2))
            continue
        features += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
        in_channels = channels
    return nn.Sequential(*features)


class LossNetwork(nn.Module):
    """Features of a picture at named layers of VGG-16."""

    mean_1C11: Tensor
    std_1C11: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = _build_features()
        self.register_buffer("mean_1C11", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std_1C11", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "LossNetwork":
        """Builds the network from torchvision's VGG-16 weights (`features.N.weight`, any float type).

        Raises `KeyError` naming the first missing weight and `RuntimeError` for one of the wrong shape.
        """
        network = cls()
        wanted = network.features.state_dict()
        network.features.load_state_dict({key: state[f"features.{key}"].float() for key in wanted})
        return network

    def forward(self, picture_BCHW: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Features of sRGB pictures in [0, 1] at `layers` (keys of `LAYERS`); nothing deeper is computed."""
        wanted = {LAYERS[name]: name for name in layers}
        x_BCHW = (picture_BCHW - self.mean_1C11) / self.std_1C11
        found: dict[str, Tensor] = {}
        for index, layer in enumerate(self.features):
            x_BCHW = layer(x_BCHW)
            if index in wanted:
                found[wanted[index]] = x_BCHW
                if len(found) == len(wanted):
                    break
        return found
