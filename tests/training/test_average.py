"""The mean of upscalers is one upscaler, which says where it comes from."""

from pathlib import Path

import pytest
import torch
from torch import nn

from models.card import ModelCard, Task
from models.sr_net import CompactUpscaler, PaperUpscaler
from training.average import main
from training.export import export_upscaler, module_digest
from training.zoo import read_archive, read_upscaler


def exported(network: nn.Module, path: Path, architecture: str = "compact") -> ModelCard:
    card = ModelCard(path.stem, Task.UPSCALE, architecture, 64, module_digest(network), factor=2, training={"steps": 7})
    export_upscaler(network, card, path)
    return card


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.pt", tmp_path / "b.pt"]
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        exported(CompactUpscaler(2), path)
    return paths


def test_weights_are_the_mean_and_the_card_names_the_other(two: list[Path], tmp_path: Path) -> None:
    assert main([*map(str, two), "--out", str(tmp_path / "mean.pt")]) == 0

    (a, card_a), (b, card_b), (mean, card) = (read_upscaler(path) for path in (*two, tmp_path / "mean.pt"))
    for name, value in mean.state_dict().items():
        torch.testing.assert_close(value, (a.state_dict()[name] + b.state_dict()[name]) / 2)
    assert card.training == {**card_a.training, "averaged_with": [card_b.digest]}
    assert card.name == "a"
    low_res_BCHW = torch.rand(1, 3, 16, 20)
    with torch.no_grad():
        archive = read_archive(tmp_path / "mean.pt", Task.UPSCALE)
        torch.testing.assert_close(archive.module(low_res_BCHW), mean.eval()(low_res_BCHW))


@pytest.mark.parametrize(("names", "sentence"), [(["a.pt"], "two upscalers"), (["a.pt", "paper.pt"], "is a paper x2")])
def test_what_has_no_mean_is_refused(
    two: list[Path], tmp_path: Path, names: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(PaperUpscaler(2), tmp_path / "paper.pt", "paper")

    with pytest.raises(SystemExit) as exit_info:
        main([*(str(tmp_path / name) for name in names), "--out", str(tmp_path / "mean.pt")])

    assert exit_info.value.code == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "mean.pt").exists()
