"""How far networks see, beside what changing single pixels does."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.card import ModelCard, Task
from models.sr_net import CompactUpscaler, PaperUpscaler, ProgressiveUpscaler
from models.style_net import StyleTrunk
from training.export import export_archive, export_trunk, export_upscaler, module_digest, trunk_card
from worker.archive import Archive, read_archive
from worker.runtimes.methods import Method
from worker.runtimes.reach import measure_reach

WIDTH = 2
SIDE = 96
MIDDLE = 48


class Averaging(nn.Module):
    """Enlarges twice, and sees all of a photo."""

    def forward(self, low_res_BCHW: Tensor) -> Tensor:
        brightness_BC11 = low_res_BCHW.mean(dim=(2, 3), keepdim=True)
        return functional.interpolate(low_res_BCHW + brightness_BC11, scale_factor=2.0, mode="nearest")


def gray(network: PaperUpscaler) -> PaperUpscaler:
    """With results about the middle: most of an untrained network's would be cut off at black."""
    assert network.out.bias is not None
    nn.init.constant_(network.out.bias, 0.5)
    return network


def trained(network: ProgressiveUpscaler) -> ProgressiveUpscaler:
    """With blocks that add something."""
    for name, value in network.first.blocks.named_parameters():
        if name.endswith("body.2.weight"):
            nn.init.normal_(value, std=0.3)
    return network


def upscaler(network: nn.Module, factor: int, folder: Path) -> Archive:
    card = ModelCard(f"x{factor}", Task.UPSCALE, "test", 8, module_digest(network), factor=factor)
    export_upscaler(network, card, folder / "upscaler.pt")
    return read_archive(folder / "upscaler.pt")


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    torch.manual_seed(0)
    network, path = StyleTrunk(WIDTH, residual_blocks=1), tmp_path_factory.mktemp("trunk") / "trunk.pt"
    export_trunk(network, trunk_card(network, "trunk", {}), path)
    return read_archive(path)


@pytest.mark.parametrize(
    ("network", "factor", "reach"),
    [
        # Each 3x3 convolution sees a pixel farther; then two for the colours' mean, and one for its enlargement.
        (CompactUpscaler(2, width=4, layers=2), 2, 6),
        (CompactUpscaler(4, width=4, layers=5), 4, 9),
        (CompactUpscaler(8, width=4, layers=2), 8, 6),
        # 9x9, two 3x3, then 3x3 and 9x9 at twice the resolution: 4 + 2, and of 1 + 4 half as many.
        (gray(PaperUpscaler(2, width=4, residual_blocks=1)), 2, 9),
        # Six at four times the resolution end in the middle of the second pixel, from where the first sees but five.
        (ProgressiveUpscaler(8, width=4, layers=2, residual_blocks=0, last_width=4, last_layers=2), 8, 7),
        # Two more in each block.
        (trained(ProgressiveUpscaler(8, width=4, layers=2, residual_blocks=2, last_width=4, last_layers=2)), 8, 11),
    ],
    ids=["compact x2", "compact x4", "compact x8", "paper x2", "progressive x8", "deep progressive x8"],
)
def test_upscalers_see_as_far_as_their_convolutions(
    network: nn.Module, factor: int, reach: int, tmp_path: Path
) -> None:
    archive = upscaler(network.eval(), factor, tmp_path)
    assert measure_reach(archive, Method.FORWARD) == reach
    assert see_farthest(archive, factor) <= reach


def see_farthest(archive: Archive, factor: int) -> int:
    """Px between a changed pixel and the farthest whose enlargement changes with it."""
    photo_1CHW = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    before_1CHW = archive.module(photo_1CHW)
    photo_1CHW[..., MIDDLE, MIDDLE] = 1 - photo_1CHW[..., MIDDLE, MIDDLE]
    changed = (archive.module(photo_1CHW) - before_1CHW)[0].abs().sum(dim=0).nonzero() // factor
    assert len(changed)
    return int((changed - MIDDLE).abs().max())


@pytest.mark.parametrize(
    ("method", "reach"),
    [
        # Px of the photo around the first of the two that a value stands for: 9x9, and 1 of the strided one.
        (Method.DOWN_SECOND, 5),
        (Method.DOWN_THIRD, 1),
        (Method.BLOCK_FIRST, 1),
        (Method.BLOCK_SECOND, 1),
        (Method.UP_BEGIN, 1),
        # 3x3 and 9x9 at twice the resolution.
        (Method.UP_END, 3),
    ],
)
def test_stages_see_as_far_as_their_convolutions(trunk: Archive, method: Method, reach: int) -> None:
    assert measure_reach(trunk, method) == reach


def test_a_trunk_sees_the_whole_photo(trunk: Archive) -> None:
    assert measure_reach(trunk, Method.FORWARD) is None


def test_an_upscaler_that_averages_sees_the_whole_photo(tmp_path: Path) -> None:
    assert measure_reach(upscaler(Averaging(), 2, tmp_path), Method.FORWARD) is None


def test_a_stage_that_is_not_there_has_no_reach(tmp_path: Path) -> None:
    network = StyleTrunk(WIDTH, residual_blocks=1)
    example = (torch.rand(1, 3, 48, 64), network.neutral_norm()[None])
    export_archive(network, trunk_card(network, "old", {}), {"forward": example}, tmp_path / "old.pt")
    archive = read_archive(tmp_path / "old.pt")
    assert measure_reach(archive, Method.UP_END) is None
    assert measure_reach(archive, Method.BLOCK_FIRST) is None
