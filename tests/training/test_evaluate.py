"""`python -m training.evaluate` on small zoos that were trained on the spot."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.training.conftest import Fit, draw_photo
from training.evaluate import main, spread
from training.losses import load_loss_network
from training.optimize import Objective, iterations_to_reach, optimize_pixels
from training.report import table
from training.style_quality import Rival, mean_curve


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    """Folders named as the benchmarks, two small pictures in each."""
    for seed, name in enumerate(("Set5", "Set14", "BSD100")):
        (tmp_path / "benchmarks" / name).mkdir(parents=True)
        for index in range(2):
            draw_photo(10 * seed + index, 98, 83).save(tmp_path / "benchmarks" / name / f"{index}.png")
    return tmp_path / "benchmarks"


@pytest.fixture
def lpips_weights(tmp_path: Path) -> Path:
    """LPIPS of random weights."""
    torch.manual_seed(0)
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    weights = {f"lin{index}.weight": torch.rand(1, c, 1, 1) for index, c in enumerate((64, 192, 384, 256, 256))}
    for index, (c_out, c_in, kernel) in shapes.items():
        weights[f"features.{index}.weight"] = 0.05 * torch.randn(c_out, c_in, kernel, kernel)
        weights[f"features.{index}.bias"] = torch.zeros(c_out)
    save_file(weights, tmp_path / "lpips.safetensors")
    return tmp_path / "lpips.safetensors"


def test_upscalers_are_measured_beside_bicubic_and_the_published(
    fit: Fit, tmp_path: Path, benchmarks: Path, lpips_weights: Path
) -> None:
    assert fit("upscale", "--factor", 4, "--stages", "2x2@32") == 0
    options = ["--benchmarks", benchmarks, "--zoo", tmp_path / "zoo", "--lpips-weights", lpips_weights]

    assert main(["upscale", *map(str, options), "--out", str(tmp_path / "quality")]) == 0

    text = (tmp_path / "quality" / "upscale.md").read_text()
    assert "| bicubic |" in text
    assert "| x4 (compact, zoo) |" in text
    assert "SRGAN (published)" in text
    with Image.open(tmp_path / "quality" / "upscale.jpg") as sheet:
        assert sheet.width == 3 * 192


def test_styles_are_measured_beside_direct_optimisation(
    fit: Fit, tmp_path: Path, benchmarks: Path, style_image: Path, loss_weights: Path
) -> None:
    scratch = ("--from-scratch", "--width", 4, "--style-weight", 1e5, "--stages", "2x2@32")
    assert fit("style", style_image, "--name", "bars", *scratch) == 0
    shutil.copy(style_image, tmp_path / "bars.png")
    options = [
        "--benchmarks", benchmarks, "--zoo", tmp_path / "zoo", "--trunk", "bars-trunk", "--style-images", tmp_path,
        "--loss-weights", loss_weights, "--sizes", 32, "--rival-photos", 1, "--iterations", 10, "--device", "cpu",
    ]  # fmt: skip

    assert main(["styles", *map(str, options), "--out", str(tmp_path / "quality")]) == 0

    text = (tmp_path / "quality" / "styles.md").read_text()
    assert "## 32 x 32 px" in text
    assert "| bars | noise |" in text
    assert "| bars | photo |" in text
    assert "times as fast" in text
    assert (tmp_path / "quality" / "styles.jpg").exists()


def test_what_is_missing_is_said(tmp_path: Path, benchmarks: Path, caplog: pytest.LogCaptureFixture) -> None:
    common = ["--benchmarks", str(benchmarks), "--zoo", str(tmp_path)]

    for arguments, sentence in (
        (["styles", *common], "--style-images"),
        (["styles", *common, "--style-images", str(tmp_path)], "Cannot read"),
        (["upscale", *common], "--lpips-weights"),
        (["upscale", *common, "--lpips-weights", "nowhere"], "No upscaler in"),
    ):
        caplog.clear()
        assert main(arguments) == 1
        assert sentence in caplog.text


def test_direct_optimisation_lowers_the_objective_and_stays_in_range(loss_weights: Path) -> None:
    torch.manual_seed(0)
    content_BCHW = torch.rand(1, 3, 32, 32)
    objective = Objective.of_style(load_loss_network(loss_weights), torch.rand(3, 32, 32).round())

    steps = [(value, picture.clone()) for value, picture in optimize_pixels(objective, content_BCHW, content_BCHW, 5)]

    curve = [value for value, _ in steps]
    assert len(curve) == 6
    assert curve[-1] < curve[0]
    assert 0 <= steps[-1][1].min() <= steps[-1][1].max() <= 1


def test_the_objective_of_the_photo_itself_has_no_content_loss(loss_weights: Path) -> None:
    content_BCHW = torch.rand(1, 3, 32, 32)
    objective = Objective.of_style(load_loss_network(loss_weights), content_BCHW[0])

    content_B, style_B = objective.parts(content_BCHW, objective.content_features(content_BCHW))

    assert content_B.item() == style_B.item() == 0


def test_which_iteration_a_value_equals() -> None:
    assert iterations_to_reach([9.0, 5.0, 3.0], 4.0) == 2
    assert iterations_to_reach([9.0, 5.0, 3.0], 9.0) == 0
    assert iterations_to_reach([9.0, 5.0, 3.0], 1.0) is None
    assert mean_curve([Rival([4.0, 2.0], 1), Rival([2.0, 0.0], 1)]) == [3.0, 1.0]


def test_small_helpers() -> None:
    assert spread([Path(str(index)) for index in range(10)], 3) == [Path("0"), Path("3"), Path("6")]
    assert spread([Path("0")], 3) == [Path("0")]
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
