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


def test_weights_are_the_mean_and_the_card_names_all(two: list[Path], tmp_path: Path) -> None:
    assert main([*map(str, two), "--out", str(tmp_path / "mean.pt")]) == 0

    (a, card_a), (b, card_b), (mean, card) = (read_upscaler(path) for path in (*two, tmp_path / "mean.pt"))
    for name, value in mean.state_dict().items():
        torch.testing.assert_close(value, (a.state_dict()[name] + b.state_dict()[name]) / 2)
    assert card.training == {**card_a.training, "averaged_with": [card_a.digest, card_b.digest]}
    assert card.name == "mean"
    low_res_BCHW = torch.rand(1, 3, 16, 20)
    with torch.no_grad():
        archive = read_archive(tmp_path / "mean.pt", Task.UPSCALE)
        torch.testing.assert_close(archive.module(low_res_BCHW), mean.eval()(low_res_BCHW))


def test_a_mean_of_a_mean_keeps_what_that_was_made_of(two: list[Path], tmp_path: Path) -> None:
    a, b = map(str, two)
    assert main([a, b, "--out", str(tmp_path / "mean.pt")]) == 0
    assert main([str(tmp_path / "mean.pt"), b, "--out", str(tmp_path / "again.pt")]) == 0

    first, again = (read_upscaler(tmp_path / name)[1] for name in ("mean.pt", "again.pt"))
    assert again.training["averaged_with"] == [first.digest, read_upscaler(two[1])[1].digest]
    assert again.training["before"] == first.training
    assert again.training["steps"] == 7


def test_a_file_whose_name_no_card_can_have_is_refused(
    two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*map(str, two), "--out", str(tmp_path / "New Mean.pt")])

    assert "New Mean.pt cannot be the file" in capsys.readouterr().err
    assert not (tmp_path / "New Mean.pt").exists()


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
