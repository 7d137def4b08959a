from collections.abc import Callable

import pytest
import torch
from torch import nn

from models.sr_net import FACTORS, UPSCALERS, CompactUpscaler, PaperUpscaler, ProgressiveUpscaler, build_upscaler
from tests.models.tracing import traced

SIZES = [(16, 16), (16, 17), (21, 16), (33, 18)]
SMALL: dict[str, Callable[[int], nn.Module]] = {
    "compact": lambda factor: CompactUpscaler(factor, width=6, layers=2),
    "paper": lambda factor: PaperUpscaler(factor, width=6, residual_blocks=1),
    "progressive": lambda factor: ProgressiveUpscaler(factor, width=6, layers=2, last_width=4, last_layers=2),
}
KINDS = [(name, factor) for name in SMALL for factor in FACTORS if (name, factor) != ("progressive", 2)]


@pytest.mark.parametrize(("architecture", "factor"), KINDS)
def test_the_traced_upscaler_equals_the_eager_one_and_enlarges_exactly(architecture: str, factor: int) -> None:
    torch.manual_seed(0)
    network = SMALL[architecture](factor).eval()
    archive = traced(network, torch.rand(2, 3, 24, 32))

    for batch, (height, width) in enumerate(SIZES, start=1):
        low_res_BCHW = torch.rand(batch, 3, height, width)
        with torch.no_grad():
            high_res_BCHW = network(low_res_BCHW)
            torch.testing.assert_close(archive(low_res_BCHW), high_res_BCHW)
        assert high_res_BCHW.shape == (batch, 3, factor * height, factor * width)
        assert 0 <= high_res_BCHW.min() <= high_res_BCHW.max() <= 1


def test_the_untrained_compact_upscaler_is_close_to_bilinear() -> None:
    torch.manual_seed(0)
    low_res_BCHW = torch.rand(1, 3, 24, 24)
    bilinear_BCHW = nn.functional.interpolate(low_res_BCHW, scale_factor=4.0, mode="bilinear", align_corners=False)

    with torch.no_grad():
        high_res_BCHW = CompactUpscaler(4).eval()(low_res_BCHW)

    assert (high_res_BCHW - bilinear_BCHW).abs().mean() < 0.02


def test_new_residual_blocks_change_nothing_and_learn() -> None:
    deep, plain = CompactUpscaler(2, width=4, layers=2, residual_blocks=2), CompactUpscaler(2, width=4, layers=2)
    nn.init.normal_(deep.out.weight, std=0.1)
    plain.load_state_dict({name: value for name, value in deep.state_dict().items() if not name.startswith("blocks.")})
    low_res_BCHW = torch.rand(1, 3, 24, 24)

    torch.testing.assert_close(deep(low_res_BCHW), plain(low_res_BCHW))
    deep(low_res_BCHW).square().mean().backward()
    added = [value for name, value in deep.blocks.named_parameters() if name.endswith("body.2.weight")]
    assert len(added) == 2
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in added)


def test_the_last_of_two_stages_enlarges_what_the_first_has_made() -> None:
    torch.manual_seed(0)
    network = ProgressiveUpscaler(8, width=4, layers=1).train()
    nn.init.normal_(network.first.out.weight, std=0.1)
    low_res_BCHW = 0.4 + 0.2 * torch.rand(1, 3, 24, 24)

    with torch.no_grad():
        half_BCHW = network.first.enlarge(low_res_BCHW)
        shift_BCHW = network(low_res_BCHW) - network.last.enlarge(half_BCHW)

    assert half_BCHW.shape == (1, 3, 96, 96)
    # All that is different are the mean colours of places of 5 px of the input, 40 px of the result.
    assert shift_BCHW.diff(dim=3).abs().max() < 0.005
    assert shift_BCHW.diff(dim=2).abs().max() < 0.005
    assert half_BCHW.diff(dim=3).abs().max() > 0.05


@pytest.mark.parametrize(("architecture", "factor"), [("compact", 2), ("compact", 8), ("progressive", 4)])
def test_an_upscaler_that_paints_everything_darker_and_redder_is_put_right(architecture: str, factor: int) -> None:
    torch.manual_seed(0)
    network = SMALL[architecture](factor).eval()
    shift_311 = torch.tensor([0.1, -0.2, -0.3])[:, None, None]
    for module in network.modules():
        if isinstance(module, CompactUpscaler):
            shifts = shift_311.expand(3, module.factor, module.factor).flatten()
            module.out.bias = nn.Parameter(shifts)
    low_res_BCHW = 0.35 + 0.3 * torch.rand(2, 3, 40, 24)

    with torch.no_grad():
        high_res_BCHW = network(low_res_BCHW)

    cell = 5
    wanted_BCHW = nn.functional.avg_pool2d(low_res_BCHW, cell, stride=1)
    means_BCHW = nn.functional.avg_pool2d(high_res_BCHW, cell * factor, stride=factor)
    assert (means_BCHW - wanted_BCHW).abs().max() < 0.05
    assert (high_res_BCHW.mean(dim=(2, 3)) - low_res_BCHW.mean(dim=(2, 3))).abs().max() < 1 / 255


def test_pixels_are_clamped_only_outside_training() -> None:
    network = CompactUpscaler(2, width=4, layers=1)
    nn.init.normal_(network.out.weight, std=5.0)
    low_res_BCHW = torch.rand(1, 3, 16, 16)

    with torch.no_grad():
        assert network.train()(low_res_BCHW).max() > 1
        assert network.eval()(low_res_BCHW).max() == 1


def test_build_upscaler_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="compact, paper"):
        build_upscaler("enormous", 4)
    with pytest.raises(ValueError, match="2, 4, 8"):
        build_upscaler("compact", 3)
    with pytest.raises(ValueError, match="2 times in two stages"):
        build_upscaler("progressive", 2)


@pytest.mark.parametrize("architecture", sorted(UPSCALERS))
def test_shipped_upscalers_stay_under_four_megabytes(architecture: str) -> None:
    assert 4 * sum(parameter.numel() for parameter in build_upscaler(architecture, 8).parameters()) < 4e6
