"""The style trunk: one network that paints every style, told which one by a vector per picture."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.layers import conditional_instance_norm, conv, upsample_nearest


class NormCursor:
    """Hands out the scale and shift of each normalisation layer, in order, from one vector per picture."""

    def __init__(self, norm_BP: Tensor) -> None:
        self._norm_BP = norm_BP
        self._start = 0

    def take(self, channels: int) -> tuple[Tensor, Tensor]:
        """The next layer's `(scale_BC, shift_BC)`."""
        middle, end = self._start + channels, self._start + 2 * channels
        scale_BC, shift_BC = self._norm_BP[:, self._start : middle], self._norm_BP[:, middle:end]
        self._start = end
        return scale_BC, shift_BC


class ConvNorm(nn.Module):
    """Convolution, then conditional instance norm. No bias: the normalisation would take it away again."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.channels = out_channels
        self.conv = conv(in_channels, out_channels, kernel, stride=stride, bias=False)

    def forward(self, x_BCHW: Tensor, norm: NormCursor) -> Tensor:
        """Takes this layer's scale and shift from `norm`."""
        scale_BC, shift_BC = norm.take(self.channels)
        return conditional_instance_norm(self.conv(x_BCHW), scale_BC, shift_BC)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a skip, with no activation after the sum (Gross and Wilber 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels, 3)
        self.second = ConvNorm(channels, channels, 3)

    def forward(self, x_BCHW: Tensor, norm: NormCursor) -> Tensor:
        """Takes both layers' scales and shifts from `norm`."""
        y_BCHW: Tensor = self.second(torch.relu(self.first(x_BCHW, norm)), norm)
        return x_BCHW + y_BCHW


class StyleTrunk(nn.Module):
    """The image transformation network of Johnson et al. 2016 with conditional instance norm in place of batch norm.

    9x9 convolution, two of stride 2, residual blocks, two nearest-neighbour enlargements each with a 3x3
    convolution, 9x9 convolution. `width` is the number of channels at full resolution: 32 in the paper, 16 in the
    models its authors released later.
    """

    def __init__(self, width: int = 16, residual_blocks: int = 5) -> None:
        super().__init__()
        self.width = width
        self.residual_blocks = residual_blocks
        channels = (3, width, 2 * width, 4 * width)
        self.down = nn.ModuleList(
            ConvNorm(c_in, c_out, kernel=9 if c_in == 3 else 3, stride=1 if c_in == 3 else 2)
            for c_in, c_out in pairwise(channels)
        )
        self.blocks = nn.ModuleList(ResidualBlock(4 * width) for _ in range(residual_blocks))
        self.up = nn.ModuleList(ConvNorm(c_in, c_out, 3) for c_in, c_out in pairwise(channels[:0:-1]))
        self.out = conv(width, 3, 9)

    @property
    def norm_size(self) -> int:
        """P, the length of a style's vector: a scale and a shift for every normalised channel."""
        return 2 * sum(module.channels for module in self.modules() if isinstance(module, ConvNorm))

    def neutral_norm(self) -> Tensor:
        """The vector (P,) of scale 1 and shift 0, where a new style starts."""
        layers = [module.channels for module in self.modules() if isinstance(module, ConvNorm)]
        return torch.cat([torch.cat([torch.ones(c), torch.zeros(c)]) for c in layers])

    def forward(self, content_BCHW: Tensor, norm_BP: Tensor) -> Tensor:
        """Paints each picture in its own style.

        `content_BCHW`: sRGB in [0, 1], height and width at least 16. `norm_BP`: one vector per picture.
        Returns a picture of the same size in [0, 1].
        """
        norm = NormCursor(norm_BP)
        x_BCHW = content_BCHW
        for layer in self.down:
            x_BCHW = torch.relu(layer(x_BCHW, norm))
        for block in self.blocks:
            x_BCHW = block(x_BCHW, norm)
        for layer in self.up:
            x_BCHW = torch.relu(layer(upsample_nearest(x_BCHW), norm))
        # Stride 2 rounds odd sizes up, so the enlarged maps can be up to 3 px larger than the photo.
        x_BCHW = x_BCHW[:, :, : content_BCHW.shape[2], : content_BCHW.shape[3]]
        return torch.sigmoid(self.out(x_BCHW))
