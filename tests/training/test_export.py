"""Archives: small ones as they are, large ones in half the bytes, and both paint the same for every reader."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.card import ModelCard, Task
from models.sr_net import build_upscaler
from models.style_net import StyleTrunk
from training import export
from training.export import export_style, export_trunk, export_upscaler, module_digest, stored_dtype, trunk_card
from training.zoo import read_archive as read_for_training
from training.zoo import read_styles, read_trunk
from worker.archive import read_archive
from worker.runtimes import Runtime
from worker.runtimes.openvino import OpenVinoRuntime
from worker.runtimes.torchscript import TorchScriptRuntime

LEVELS = 1.5
"""Greatest difference allowed between stored precisions, of 255; two roundings to whole levels are in it."""


def write_trunk(trunk: StyleTrunk, path: Path) -> ModelCard:
    card = trunk_card(trunk, path.stem, {})
    export_trunk(trunk, card, path)
    return card


def stored_types(path: Path) -> set[torch.dtype]:
    module = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return {value.dtype for value in module.state_dict().values()}


@pytest.fixture(scope="module")
def wide_trunk() -> StyleTrunk:
    """The paper's width, random weights."""
    torch.manual_seed(0)
    return StyleTrunk(32)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_wide_trunk_is_stored_in_half_precision(tmp_path: Path, wide_trunk: StyleTrunk) -> None:
    write_trunk(wide_trunk, tmp_path / "wide.pt")
    write_trunk(StyleTrunk(16), tmp_path / "narrow.pt")

    assert stored_types(tmp_path / "wide.pt") == {torch.float16}
    assert stored_types(tmp_path / "narrow.pt") == {torch.float32}
    assert (tmp_path / "wide.pt").stat().st_size < 4_000_000
    assert {value.dtype for value in wide_trunk.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("runtime", [TorchScriptRuntime("cpu"), OpenVinoRuntime("float32")], ids=lambda it: it.name)
def test_the_worker_paints_the_same_from_half_precision(
    tmp_path: Path, wide_trunk: StyleTrunk, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_trunk(wide_trunk, tmp_path / "half.pt")
    monkeypatch.setattr(export, "LARGEST_FLOAT32", 100_000_000)
    write_trunk(wide_trunk, tmp_path / "whole.pt")
    pixels_BHWC = np.random.default_rng(0).integers(0, 256, (2, 70, 90, 3), dtype=np.uint8)
    norm_BP = (wide_trunk.neutral_norm() + 0.2 * torch.randn(2, wide_trunk.norm_size)).numpy()

    half, whole = (
        runtime.load(read_archive(tmp_path / name)).paint(pixels_BHWC, norm_BP).astype(int)
        for name in ("half.pt", "whole.pt")
    )

    assert (tmp_path / "half.pt").stat().st_size < 0.6 * (tmp_path / "whole.pt").stat().st_size
    assert np.abs(half - whole).max() <= LEVELS
    assert whole.std() > 5


@pytest.mark.parametrize("architecture", ["compact", "paper"])
def test_a_large_upscaler_is_stored_in_half_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    torch.manual_seed(0)
    network = build_upscaler(architecture, 2)
    pixels_BHWC = np.random.default_rng(0).integers(0, 256, (1, 30, 40, 3), dtype=np.uint8)
    pictures = []
    for limit in (0, 100_000_000):
        monkeypatch.setattr(export, "LARGEST_FLOAT32", limit)
        card = ModelCard("x2", Task.UPSCALE, architecture, 8, module_digest(network), factor=2)
        export_upscaler(network, card, tmp_path / "x2.pt")
        pictures.append(TorchScriptRuntime("cpu").load(read_archive(tmp_path / "x2.pt")).enlarge(pixels_BHWC))

    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= LEVELS


def test_training_goes_on_in_float32_with_the_digest_it_was_stored_under(
    tmp_path: Path, wide_trunk: StyleTrunk
) -> None:
    card = write_trunk(wide_trunk, tmp_path / "wide.pt")

    trunk, read_card = read_trunk(tmp_path / "wide.pt")

    assert {value.dtype for value in trunk.state_dict().values()} == {torch.float32}
    module = read_for_training(tmp_path / "wide.pt", Task.STYLE_TRUNK).module
    assert {value.dtype for value in module.state_dict().values()} == {torch.float32}
    assert read_card.digest == card.digest == trunk_card(trunk, "wide", {}).digest == module_digest(wide_trunk)


def test_its_styles_are_found(tmp_path: Path, wide_trunk: StyleTrunk) -> None:
    trunk = write_trunk(wide_trunk, tmp_path / "wide.pt")
    style = ModelCard(
        "plain", Task.STYLE, trunk.architecture, 32, "", norm_size=trunk.norm_size, trunk_digest=trunk.digest
    )
    export_style(wide_trunk.neutral_norm(), style, tmp_path / "plain.safetensors")

    assert [found.card.name for found in read_styles(tmp_path, read_archive(tmp_path / "wide.pt").card.digest)] == [
        "plain"
    ]


def test_only_what_is_too_large_is_halved() -> None:
    assert stored_dtype(torch.nn.Linear(900, 1000)) is torch.float32
    assert stored_dtype(torch.nn.Linear(1000, 1000)) is torch.float16
