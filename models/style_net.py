"""The style trunk: one network that paints every style, told which one by a vector per picture."""

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.layers import (
    conditional_instance_norm,
    conv,
    convolve_enlarged,
    convolve_in_blocks,
    mix_channels,
    normalize,
)


class NormCursor:
    """Normalises layer after layer, each with the next scale and shift from one vector per picture."""

    def __init__(self, norm_BP: Tensor, start: int = 0) -> None:
        """`start`: where in the vectors the first layer's scales are."""
        self._norm_BP = norm_BP
        self._start = start

    def take(self, channels: int) -> tuple[Tensor, Tensor]:
        """The next layer's `(scale_BC, shift_BC)`."""
        middle, end = self._start + channels, self._start + 2 * channels
        scale_BC, shift_BC = self._norm_BP[:, self._start : middle], self._norm_BP[:, middle:end]
        self._start = end
        return scale_BC, shift_BC

    def normalize(self, x_BCHW: Tensor, channels: int) -> Tensor:
        """The next layer's output, normalised by each picture's own mean and variance."""
        scale_BC, shift_BC = self.take(channels)
        return conditional_instance_norm(x_BCHW, scale_BC, shift_BC)


class HeldCursor(NormCursor):
    """Normalises a tile by its whole photo's means and variances, as far as they are known."""

    def __init__(self, norm_1P: Tensor, statistics_2C: Tensor, start: int = 0) -> None:
        """`statistics_2C`: means and variances of all normalised channels of the network."""
        super().__init__(norm_1P, start)
        self._statistics_2C = statistics_2C

    def normalize(self, x_BCHW: Tensor, channels: int) -> Tensor:
        """The next layer's output, normalised by the means and variances given."""
        first = self._start // 2
        statistics_2C11 = self._statistics_2C[:, first : first + channels, None, None]
        scale_BC, shift_BC = self.take(channels)
        return normalize(x_BCHW, statistics_2C11[:1], statistics_2C11[1:], scale_BC, shift_BC)


class ConvNorm(nn.Module):
    """Convolution, then conditional instance norm. No bias: the normalisation would take it away again."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.channels = out_channels
        self.conv = conv(in_channels, out_channels, kernel, stride=stride, bias=False)

    def forward(self, x_BCHW: Tensor, norm: NormCursor) -> Tensor:
        """Takes this layer's scale and shift from `norm`."""
        return norm.normalize(self.convolve(x_BCHW), self.channels)

    def convolve(self, x_BCHW: Tensor) -> Tensor:
        """The convolution alone."""
        return cast(Tensor, self.conv(x_BCHW))


class EnlargingConvNorm(ConvNorm):
    """The same behind an enlargement: doubles height and width."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel=3)
        self.in_channels = in_channels

    def convolve(self, x_BCHW: Tensor) -> Tensor:
        """The enlargement and the convolution."""
        return convolve_enlarged(x_BCHW, self.conv.weight)


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
    convolution, 9x9 convolution. Strokes and colours come out of the last of these, and scales and shifts alone bend
    them too little to another style: so a style also mixes the channels that go into each enlargement. `width` is
    the number of channels at full resolution: 32 in the paper, 16 in the models its authors released later.
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
        self.up = nn.ModuleList(EnlargingConvNorm(c_in, c_out) for c_in, c_out in pairwise(channels[:0:-1]))
        self.out = conv(width, 3, 9)

    @property
    def norm_size(self) -> int:
        """P, the length of a style's vector.

        A scale and a shift for every normalised channel, then what `mix_channels` takes for each enlargement.
        """
        return 2 * self.normalized_channels + sum(layer.in_channels**2 for layer in self._enlargements())

    @property
    def normalized_channels(self) -> int:
        """Those that have a mean and a variance, of all layers together."""
        return sum(module.channels for module in self.modules() if isinstance(module, ConvNorm))

    def neutral_norm(self) -> Tensor:
        """The vector (P,) of scale 1 and shift 0 that mixes nothing, where a new style starts."""
        layers = [module.channels for module in self.modules() if isinstance(module, ConvNorm)]
        mixes = [torch.zeros(layer.in_channels**2) for layer in self._enlargements()]
        return torch.cat([*(torch.cat([torch.ones(c), torch.zeros(c)]) for c in layers), *mixes])

    def forward(self, content_BCHW: Tensor, norm_BP: Tensor) -> Tensor:
        """Paints each picture in its own style.

        `content_BCHW`: sRGB in [0, 1], height and width at least 16. `norm_BP`: one vector per picture.
        Returns a picture of the same size in [0, 1].
        """
        norm = NormCursor(norm_BP)
        x_BCHW = self._up(self._blocks(self._down(content_BCHW, norm), norm), norm, norm_BP)
        return self._finish(x_BCHW, content_BCHW)

    # A photo too large to be painted in one piece goes through the following, stage by stage, tile by tile. A layer's
    # statistics can be taken once those of the layers before it are known. What layers make at half of the photo's
    # resolution or less is kept and looked at as a whole; at full resolution that would be too much, so the two layers
    # there are surveyed, and computed again when their statistics are known.
    # `statistics_2C` holds means and variances of all normalised channels, in the layers' order.

    def down_survey(self, content_1CHW: Tensor, mask_11HW: Tensor) -> Tensor:
        """`masked_moments` of what the first convolution makes of a tile of the photo."""
        return masked_moments(self._layer(self.down, 0).convolve(self._center(content_1CHW)), mask_11HW)

    def down_second(self, content_1CHW: Tensor, norm_1P: Tensor, statistics_2C: Tensor) -> Tensor:
        """What the second convolution makes of a tile of the photo, not yet normalised: (1, C, H / 2, W / 2)."""
        first_1CHW = self._layer(self.down, 0).convolve(self._center(content_1CHW))
        return self._next_down(1, first_1CHW, HeldCursor(norm_1P, statistics_2C))

    def down_third(self, second_1CHW: Tensor, norm_1P: Tensor, statistics_2C: Tensor) -> Tensor:
        """What the third makes of a tile of that, not yet normalised: (1, C, H / 4, W / 4)."""
        return self._next_down(2, second_1CHW, HeldCursor(norm_1P, statistics_2C, 2 * _channels(self.down[:1])))

    def down_end(self, third_1CHW: Tensor, norm_1P: Tensor, statistics_2C: Tensor) -> Tensor:
        """The features that go into the first block."""
        norm = HeldCursor(norm_1P, statistics_2C, 2 * _channels(self.down[:2]))
        return torch.relu(norm.normalize(third_1CHW, self._layer(self.down, 2).channels))

    def block_first(self, index: int, features_1CHW: Tensor) -> Tensor:
        """What a residual block's first convolution makes of a tile of the features, not yet normalised."""
        return self._block(index).first.convolve(features_1CHW)

    def block_second(self, index: int, first_1CHW: Tensor, norm_1P: Tensor, statistics_2C: Tensor) -> Tensor:
        """What its second convolution makes of that, not yet normalised."""
        block = self._block(index)
        norm = HeldCursor(norm_1P, statistics_2C, self._start_of(index))
        return block.second.convolve(torch.relu(norm.normalize(first_1CHW, block.first.channels)))

    def block_sum(
        self, index: int, features_1CHW: Tensor, second_1CHW: Tensor, norm_1P: Tensor, statistics_2C: Tensor
    ) -> Tensor:
        """The features behind the block."""
        channels = self._block(index).second.channels
        norm = HeldCursor(norm_1P, statistics_2C, self._start_of(index) + 2 * channels)
        return features_1CHW + norm.normalize(second_1CHW, channels)

    def up_begin(self, features_1CHW: Tensor, norm_1P: Tensor) -> Tensor:
        """What the first enlarging convolution makes of a tile of the blocks' result, not yet normalised."""
        return self._layer(self.up, 0).convolve(self._mix(0, features_1CHW, norm_1P))

    def up_survey(self, first_1CHW: Tensor, mask_11HW: Tensor, norm_1P: Tensor, statistics_2C: Tensor) -> Tensor:
        """`masked_moments` of what the second makes of a tile of that. The mask has the tile's own size."""
        second_1CHW = self._next_up(first_1CHW, self._cursor_of_up(norm_1P, statistics_2C), norm_1P)
        return masked_moments(second_1CHW, functional.interpolate(mask_11HW, scale_factor=2.0, mode="nearest"))

    def up_end(self, first_1CHW: Tensor, content_1CHW: Tensor, norm_1P: Tensor, statistics_2C: Tensor) -> Tensor:
        """The picture in [0, 1], from a tile of `up_begin`. Of the photo's tile it takes the size alone."""
        norm = self._cursor_of_up(norm_1P, statistics_2C)
        second_1CHW = self._next_up(first_1CHW, norm, norm_1P)
        return self._finish(torch.relu(norm.normalize(second_1CHW, self._layer(self.up, 1).channels)), content_1CHW)

    def _next_down(self, index: int, before_1CHW: Tensor, norm: HeldCursor) -> Tensor:
        """What a layer's convolution makes of what the one before it made."""
        normalized_1CHW = torch.relu(norm.normalize(before_1CHW, self._layer(self.down, index - 1).channels))
        return self._layer(self.down, index).convolve(normalized_1CHW)

    def _next_up(self, first_1CHW: Tensor, norm: HeldCursor, norm_1P: Tensor) -> Tensor:
        normalized_1CHW = torch.relu(norm.normalize(first_1CHW, self._layer(self.up, 0).channels))
        return self._layer(self.up, 1).convolve(self._mix(1, normalized_1CHW, norm_1P))

    def _mix(self, index: int, x_BCHW: Tensor, norm_BP: Tensor) -> Tensor:
        """What goes into an enlargement, mixed as the pictures' styles want it."""
        *before, channels = (layer.in_channels for layer in self._enlargements()[: index + 1])
        start = 2 * self.normalized_channels + sum(count**2 for count in before)
        mix_BCC = torch.unflatten(norm_BP[:, start : start + channels**2], 1, (channels, channels))
        return mix_channels(x_BCHW, mix_BCC, channels)

    def _enlargements(self) -> list[EnlargingConvNorm]:
        return [layer for layer in self.up if isinstance(layer, EnlargingConvNorm)]

    def _cursor_of_up(self, norm_1P: Tensor, statistics_2C: Tensor) -> HeldCursor:
        return HeldCursor(norm_1P, statistics_2C, 2 * (self.normalized_channels - _channels(self.up)))

    @staticmethod
    def _layer(layers: nn.ModuleList, index: int) -> ConvNorm:
        return cast(ConvNorm, layers[index])

    def _block(self, index: int) -> ResidualBlock:
        return cast(ResidualBlock, self.blocks[index])

    def _start_of(self, index: int) -> int:
        """Where in a vector a block's first scales are."""
        return 2 * _channels(self.down) + 4 * index * self._block(index).first.channels

    @staticmethod
    def _center(content_BCHW: Tensor) -> Tensor:
        # The first normalisation takes gain and offset away again. Levels of 255 become multiples of 1/256 around 0,
        # which half precisions hold exactly: they then lose half as much, in flat and bright photos far less.
        return content_BCHW * (255 / 256) - 0.5

    def _down(self, content_BCHW: Tensor, norm: NormCursor) -> Tensor:
        x_BCHW = self._center(content_BCHW)
        for layer in self.down:
            x_BCHW = torch.relu(layer(x_BCHW, norm))
        return x_BCHW

    def _blocks(self, x_BCHW: Tensor, norm: NormCursor) -> Tensor:
        for block in self.blocks:
            x_BCHW = block(x_BCHW, norm)
        return x_BCHW

    def _up(self, x_BCHW: Tensor, norm: NormCursor, norm_BP: Tensor) -> Tensor:
        for index, layer in enumerate(self.up):
            x_BCHW = torch.relu(layer(self._mix(index, x_BCHW, norm_BP), norm))
        return x_BCHW

    def _finish(self, x_BCHW: Tensor, content_BCHW: Tensor) -> Tensor:
        # Stride 2 rounds odd sizes up, so the enlarged maps can be up to 3 px larger than the photo.
        x_BCHW = x_BCHW[:, :, : content_BCHW.shape[2], : content_BCHW.shape[3]]
        return torch.sigmoid(convolve_in_blocks(x_BCHW, self.out.weight, self.out.bias))


def masked_moments(x_1CHW: Tensor, mask_11HW: Tensor) -> Tensor:
    """Means and variances (2, C) of the channels, of those places alone where the mask is 1."""
    weights_11HW = mask_11HW / mask_11HW.mean()
    mean_1C11 = (x_1CHW * weights_11HW).mean(dim=(2, 3), keepdim=True)
    var_1C = ((x_1CHW - mean_1C11).square() * weights_11HW).mean(dim=(2, 3))
    return torch.cat([mean_1C11.flatten(1), var_1C])


def _channels(layers: Iterable[nn.Module]) -> int:
    return sum(layer.channels for layer in layers if isinstance(layer, ConvNorm))
