import pytest
import torch
from torch import Tensor

from models.layers import conditional_instance_norm
from models.style_net import NormCursor, StyleTrunk
from tests.models.tracing import traced

SIZES = [(16, 16), (16, 17), (17, 18), (19, 16), (31, 33), (64, 48), (101, 67)]


def small_trunk() -> StyleTrunk:
    torch.manual_seed(0)
    return StyleTrunk(width=4, residual_blocks=1).eval()


def random_norms(trunk: StyleTrunk, batch: int) -> Tensor:
    return trunk.neutral_norm() + 0.3 * torch.randn(batch, trunk.norm_size)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_painted_picture_is_as_large_as_the_photo(height: int, width: int) -> None:
    trunk = small_trunk()

    with torch.no_grad():
        painted_BCHW = trunk(torch.rand(2, 3, height, width), random_norms(trunk, 2))

    assert painted_BCHW.shape == (2, 3, height, width)
    assert 0 <= painted_BCHW.min() <= painted_BCHW.max() <= 1


@pytest.mark.parametrize(("width", "blocks"), [(16, 5), (32, 5), (4, 2)])
def test_norm_size_counts_scales_shifts_and_what_enlargements_mix(width: int, blocks: int) -> None:
    trunk = StyleTrunk(width, blocks)
    channels = width + 2 * width + 4 * width + blocks * 2 * 4 * width + 2 * width + width

    assert trunk.normalized_channels == channels
    assert trunk.norm_size == 2 * channels + (4 * width) ** 2 + (2 * width) ** 2
    assert trunk.neutral_norm().shape == (trunk.norm_size,)


def test_the_neutral_norm_normalizes_and_does_nothing_else() -> None:
    trunk = small_trunk()
    cursor = NormCursor(trunk.neutral_norm()[None])
    for layer in (*trunk.down, trunk.blocks[0].first, trunk.blocks[0].second, *trunk.up):
        scale_BC, shift_BC = cursor.take(int(layer.channels))
        assert scale_BC.eq(1).all()
        assert shift_BC.eq(0).all()
    assert trunk.neutral_norm()[2 * trunk.normalized_channels :].eq(0).all()


@pytest.mark.parametrize("enlargement", [0, 1])
def test_a_style_may_exchange_the_channels_that_are_enlarged(enlargement: int) -> None:
    trunk = small_trunk()
    norm_P, channels = random_norms(trunk, 1)[0], (16, 8)[enlargement]
    start = 2 * trunk.normalized_channels + (0, 16**2)[enlargement]
    mix_CC = norm_P[start : start + channels**2].view(channels, channels)
    exchanged = small_trunk()
    order = torch.randperm(channels)
    with torch.no_grad():
        mix_CC.copy_((torch.eye(channels)[order] - torch.eye(channels)) * channels**0.5)
        weight = exchanged.get_parameter(f"up.{enlargement}.conv.weight")
        weight.copy_(weight[:, order.argsort()])
        content_BCHW, neutral_P = torch.rand(1, 3, 30, 23), norm_P.clone()
        neutral_P[start : start + channels**2] = 0
        torch.testing.assert_close(
            trunk(content_BCHW, norm_P[None]), exchanged(content_BCHW, neutral_P[None]), atol=1e-5, rtol=0
        )
        assert (trunk(content_BCHW, norm_P[None]) - trunk(content_BCHW, neutral_P[None])).abs().max() > 0.01


def test_conditional_instance_norm_gives_each_channel_its_mean_and_deviation() -> None:
    x_BCHW = 3 * torch.randn(2, 3, 20, 24) + 5
    scale_BC, shift_BC = torch.rand(2, 3) + 0.5, torch.randn(2, 3)

    y_BCHW = conditional_instance_norm(x_BCHW, scale_BC, shift_BC)

    torch.testing.assert_close(y_BCHW.mean(dim=(2, 3)), shift_BC, atol=1e-5, rtol=0)
    torch.testing.assert_close(y_BCHW.std(dim=(2, 3), correction=0), scale_BC, atol=1e-4, rtol=0)


def test_styles_mixed_in_one_batch_equal_one_by_one() -> None:
    trunk = small_trunk()
    content_BCHW, norm_BP = torch.rand(3, 3, 40, 36), random_norms(trunk, 3)

    with torch.no_grad():
        together_BCHW = trunk(content_BCHW, norm_BP)
        alone = [trunk(content_BCHW[i : i + 1], norm_BP[i : i + 1]) for i in range(3)]

    torch.testing.assert_close(together_BCHW, torch.cat(alone), atol=1e-5, rtol=0)
    assert (together_BCHW[0] - together_BCHW[1]).abs().max() > 0.01


def test_the_traced_trunk_equals_the_eager_one_at_every_size_and_batch() -> None:
    trunk = small_trunk()
    archive = traced(trunk, torch.rand(2, 3, 48, 64), random_norms(trunk, 2))

    for batch, (height, width) in enumerate(SIZES, start=1):
        content_BCHW, norm_BP = torch.rand(batch, 3, height, width), random_norms(trunk, batch)
        with torch.no_grad():
            torch.testing.assert_close(archive(content_BCHW, norm_BP), trunk(content_BCHW, norm_BP))


def test_gradients_reach_the_vector_of_a_frozen_trunk() -> None:
    trunk = small_trunk().requires_grad_(False)
    norm_BP = random_norms(trunk, 1).requires_grad_()

    trunk(torch.rand(1, 3, 32, 32), norm_BP).square().mean().backward()

    assert norm_BP.grad is not None
    assert norm_BP.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in trunk.parameters())
