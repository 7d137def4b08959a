import pytest
import torch
from torch.nn import functional

from models.layers import conv, convolve_enlarged, convolve_in_blocks, mix_channels

SIZES = [(16, 16), (17, 19), (18, 21), (31, 16)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_the_enlarged_picture_is_one_operation(height: int, width: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer, x_BCHW = conv(5, 4, 3, bias=bias).double(), torch.randn(2, 5, height, width, dtype=torch.float64)
    enlarged_BCHW = functional.interpolate(x_BCHW, scale_factor=2.0, mode="nearest")

    torch.testing.assert_close(convolve_enlarged(x_BCHW, layer.weight, layer.bias), layer(enlarged_BCHW))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("block", [(1, 1), (2, 4), (3, 2)])
def test_pixels_computed_as_channels_are_the_same(height: int, width: int, block: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer, x_BCHW = conv(5, 3, 9).double(), torch.randn(2, 5, height, width, dtype=torch.float64)

    in_blocks_BCHW = convolve_in_blocks(x_BCHW, layer.weight, layer.bias, *block)

    torch.testing.assert_close(in_blocks_BCHW, layer(x_BCHW))


def test_each_picture_mixes_its_own_channels() -> None:
    torch.manual_seed(0)
    x_BCHW, mix_BCC = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 4)
    mix_BCC[1] = 0

    mixed_BCHW = mix_channels(x_BCHW, mix_BCC, 4)

    expected_CHW = x_BCHW[0] + 0.5 * torch.einsum("oc,chw->ohw", mix_BCC[0], x_BCHW[0])
    torch.testing.assert_close(mixed_BCHW[0], expected_CHW)
    assert mixed_BCHW[1].equal(x_BCHW[1])


def test_both_learn_what_the_plain_convolutions_learn() -> None:
    torch.manual_seed(0)
    small, large = conv(5, 4, 3).double(), conv(4, 3, 9).double()
    x_BCHW = torch.randn(1, 5, 17, 20, dtype=torch.float64)
    plain_BCHW = large(small(functional.interpolate(x_BCHW, scale_factor=2.0, mode="nearest")))
    quick_BCHW = convolve_in_blocks(convolve_enlarged(x_BCHW, small.weight, small.bias), large.weight, large.bias)
    parameters = [*small.parameters(), *large.parameters()]

    expected = torch.autograd.grad(plain_BCHW.square().sum(), parameters)
    actual = torch.autograd.grad(quick_BCHW.square().sum(), parameters)

    torch.testing.assert_close(actual, expected)
