"""Zoos of earlier versions are brought up to date, and their styles paint as before."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.card import ModelCard, Task
from models.sr_net import CompactUpscaler
from models.style_net import StyleTrunk
from training.errors import CheckpointError
from training.export import export_archive, export_style, module_digest, trunk_card
from training.reexport import main
from training.zoo import read_archive, read_style, read_trunk


class Brighter(CompactUpscaler):
    """Has a network's weights, and brightens what it enlarges."""

    def __init__(self, network: CompactUpscaler) -> None:
        super().__init__(network.factor, network.width)
        self.load_state_dict(network.state_dict())

    def forward(self, low_res_BCHW: Tensor) -> Tensor:
        return super().forward(low_res_BCHW) + 0.5


@pytest.fixture
def trunk() -> StyleTrunk:
    torch.manual_seed(0)
    return StyleTrunk(width=4, residual_blocks=1)


@pytest.fixture
def old_zoo(tmp_path: Path, trunk: StyleTrunk) -> Path:
    """A trunk and a style from before styles mixed channels and large photos were painted in stages."""
    values = 2 * trunk.normalized_channels
    card = replace(trunk_card(trunk, "trunk", {}), norm_size=values)
    example = (torch.rand(1, 3, 48, 64), trunk.neutral_norm()[None])
    export_archive(trunk, card, {"forward": example}, tmp_path / "trunk.pt")
    style = ModelCard(
        "dots", Task.STYLE, card.architecture, card.width, "", norm_size=values, trunk_digest=card.digest,
        source={"title": "Dots"},
    )  # fmt: skip
    export_style(torch.rand(values) + 0.5, style, tmp_path / "dots.safetensors")
    return tmp_path


def test_training_on_an_old_trunk_says_what_to_do(old_zoo: Path) -> None:
    with pytest.raises(CheckpointError, match=r"earlier version: `python -m training\.reexport .*trunk\.pt`"):
        read_trunk(old_zoo / "trunk.pt")


def test_styles_paint_as_before(old_zoo: Path, trunk: StyleTrunk) -> None:
    before = read_style(old_zoo / "dots.safetensors")

    assert main([str(old_zoo / "trunk.pt")]) == 0

    after, (read_back, card) = read_style(old_zoo / "dots.safetensors"), read_trunk(old_zoo / "trunk.pt")
    assert after.norm_P.equal(torch.cat([before.norm_P, torch.zeros(16**2 + 8**2)]))
    assert after.card.norm_size == card.norm_size == trunk.norm_size
    assert (after.card.source, after.card.trunk_digest) == (before.card.source, card.digest)
    assert all(value.equal(read_back.state_dict()[name]) for name, value in trunk.state_dict().items())
    assert hasattr(read_archive(old_zoo / "trunk.pt", Task.STYLE_TRUNK).module, "up_end")


def test_what_is_up_to_date_stays(old_zoo: Path) -> None:
    main([str(old_zoo / "trunk.pt")])
    style = (old_zoo / "dots.safetensors").read_bytes()

    assert main([str(old_zoo / "trunk.pt")]) == 0
    assert (old_zoo / "dots.safetensors").read_bytes() == style


def test_styles_that_an_interruption_left_behind_are_brought_up_to_date(old_zoo: Path) -> None:
    old_style = (old_zoo / "dots.safetensors").read_bytes()
    main([str(old_zoo / "trunk.pt")])
    new_style = (old_zoo / "dots.safetensors").read_bytes()
    (old_zoo / "dots.safetensors").write_bytes(old_style)

    main([str(old_zoo / "trunk.pt")])

    assert (old_zoo / "dots.safetensors").read_bytes() == new_style


def test_an_upscaler_is_exported_as_this_version_computes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = CompactUpscaler(2)
    nn.init.normal_(network.out.weight, std=0.02)
    path, low_res_BCHW = tmp_path / "x2.pt", torch.rand(1, 3, 16, 24)
    card = ModelCard("x2", Task.UPSCALE, "compact", network.width, module_digest(network), factor=2)
    # Stands in for what an earlier version computed from the same weights.
    export_archive(Brighter(network), card, {"forward": (low_res_BCHW,)}, path)

    assert main([str(path)]) == 0

    archive = read_archive(path, Task.UPSCALE)
    assert archive.card == card
    with torch.no_grad():
        torch.testing.assert_close(archive.module(low_res_BCHW), network.eval()(low_res_BCHW))


def test_a_file_that_is_no_trunk_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trunk.pt").write_bytes(b"not a trunk")

    with pytest.raises(SystemExit) as exit_info:
        main([str(tmp_path / "trunk.pt")])

    assert exit_info.value.code == 1
    assert "trunk.pt" in capsys.readouterr().err
    assert (tmp_path / "trunk.pt").read_bytes() == b"not a trunk"
