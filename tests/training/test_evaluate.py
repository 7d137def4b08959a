"""`python -m training.evaluate` on small zoos that were trained on the spot."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from models.vgg import LossNetwork
from tests.training.conftest import Fit, draw_photo
from tests.zoo import build_zoo
from training.errors import ConfigError
from training.evaluate import main, rival_counts, spread
from training.losses import load_loss_network
from training.optimize import Objective, iterations_to_reach, optimize_pixels
from training.report import table
from training.rivals import mean_curve, seconds_per_iteration
from training.zoo import label_folders


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
    assert fit("upscale", "--factor", 4, "--stages", "2x2@48") == 0
    options = ["--benchmarks", benchmarks, "--zoo", tmp_path / "zoo", "--lpips-weights", lpips_weights]

    assert main(["upscale", *map(str, options), "--out", str(tmp_path / "quality")]) == 0

    text = (tmp_path / "quality" / "upscale.md").read_text()
    assert "| PSNR / SSIM / LPIPS | Set5 | Set14 | BSD100 | LPIPS of JPEG |" in text
    assert "| bicubic |" in text
    assert "| x4 (compact, zoo) |" in text
    assert "SRGAN (published)" in text
    assert "| mean R / G / B off by, of 255 |" in text
    row = next(line for line in text.splitlines() if line.startswith("| x4 ")).strip("| ").split(" | ")
    of_jpeg, colour, grid, repetition = (cell.split(" / ") for cell in row[-4:])
    of_files = [cell.split(" / ")[2] for cell in row[1:4]]
    assert all(0 < float(part) < 1 for part in of_jpeg)
    assert of_jpeg != of_files
    assert [part[0] in "+-" for part in (*colour, *grid)] == [True] * 6
    assert all(0 < float(part) < 1 for part in repetition)
    with Image.open(tmp_path / "quality" / "upscale.jpg") as sheet:
        assert sheet.width == 3 * 192
    with Image.open(tmp_path / "quality" / "enlarged.jpg") as examples:
        assert examples.size == (6 * 192 + 8, 192)


def test_some_photos_do_not_stand_for_a_benchmark(tmp_path: Path, benchmarks: Path, lpips_weights: Path) -> None:
    (benchmarks / "Set5" / "1.png").unlink()
    build_zoo(tmp_path / "zoo", factors=(4,))
    options = ["--benchmarks", benchmarks, "--zoo", tmp_path / "zoo", "--lpips-weights", lpips_weights]

    assert main(["upscale", *map(str, options), "--photos-count", "1", "--out", str(tmp_path / "quality")]) == 0

    text = (tmp_path / "quality" / "upscale.md").read_text()
    assert "| PSNR / SSIM / LPIPS | Set5 | Set14, first 1 | BSD100, first 1 |" in text
    assert "| SRGAN (published) | - / - / 0.0882 | - / - / - | - / - / - |" in text


def test_upscalers_of_several_folders_stand_side_by_side(
    fit: Fit, tmp_path: Path, benchmarks: Path, lpips_weights: Path
) -> None:
    upscale = ("upscale", "--stages", "2x2@32", "--feature-weight", 0, "--texture-weight", 0, "--factor")
    assert [fit(*upscale, 2), fit(*upscale, 4), fit(*upscale, 4, "--zoo", tmp_path / "per-pixel")] == [0] * 3
    options = ["--benchmarks", benchmarks, "--lpips-weights", lpips_weights, "--out", tmp_path / "quality", "--zoo"]

    assert main(["upscale", *map(str, options), str(tmp_path / "zoo"), str(tmp_path / "per-pixel")]) == 0

    text = (tmp_path / "quality" / "upscale.md").read_text()
    names = ("| x2 (compact, zoo) |", "| x4 (compact, zoo) |", "| x4 (compact, per-pixel) |")
    assert all(name in text for name in names)
    # Bicubic, the upscalers of a factor and the truth; two photos a factor.
    with Image.open(tmp_path / "quality" / "upscale.jpg") as sheet:
        assert sheet.size == (4 * 192, 4 * 192)
        assert sheet.convert("L").getpixel((4 * 192 - 20, 96)) == 255


Measure = Callable[..., str]


@pytest.fixture
def measure_styles(fit: Fit, tmp_path: Path, benchmarks: Path, style_image: Path, loss_weights: Path) -> Measure:
    """Trains a trunk with the style `bars`; each call evaluates it at 32 px and gives the table."""
    scratch = ("--from-scratch", "--width", 4, "--style-weight", 1e5, "--stages", "2x2@32")
    assert fit("style", style_image, "--name", "bars", *scratch) == 0
    shutil.copy(style_image, tmp_path / "bars.png")

    def measure(*more: object) -> str:
        options = [
            "--benchmarks", benchmarks, "--zoo", tmp_path / "zoo", "--trunk", "bars-trunk", "--style-images", tmp_path,
            "--loss-weights", loss_weights, "--sizes", 32, "--rival-photos", 1, "--iterations", 10, "--device", "cpu",
            "--rivals", tmp_path / "rivals", "--out", tmp_path / "quality", *more,
        ]  # fmt: skip
        assert main(["styles", *map(str, options)]) == 0
        return (tmp_path / "quality" / "styles.md").read_text()

    return measure


def test_styles_are_measured_beside_direct_optimisation(measure_styles: Measure, tmp_path: Path) -> None:
    text = measure_styles()

    assert "## 32 x 32 px" in text
    assert "| bars | noise |" in text
    assert "| bars | photo |" in text
    assert "times as fast" in text
    assert "2 photos of BSD100. Objective" in text  # which nobody knows not to have been trained on
    assert "from noise on 1 photo(s), 1 pairs" in text
    assert (tmp_path / "quality" / "styles.jpg").exists()
    with Image.open(tmp_path / "quality" / "gallery.jpg") as gallery:
        assert gallery.size == (5 * 256, 256)


def test_a_style_is_judged_at_the_weight_that_is_asked_for(measure_styles: Measure) -> None:
    def losses(text: str) -> list[float]:
        row = next(line for line in text.splitlines() if line.startswith("| bars |"))
        return [float(cell) for cell in row.split("|")[2:5]]

    gallery, stronger = measure_styles("--rival-photos", 0), measure_styles("--rival-photos", 0, "--style-weight", 2e6)

    assert losses(stronger)[0] == losses(gallery)[0]
    assert losses(stronger)[1] == pytest.approx(20 * losses(gallery)[1], abs=0.11)
    assert losses(stronger)[2] == pytest.approx(losses(stronger)[0] + losses(stronger)[1], abs=0.011)


def test_direct_optimisation_is_kept_for_the_next_trunk(measure_styles: Measure, tmp_path: Path) -> None:
    measure_styles()
    kept = sorted((tmp_path / "rivals").iterdir())
    for path in kept:
        path.write_text(json.dumps([1234.5] * 11))

    text = measure_styles()

    assert len(kept) == 2  # one photo and style, from noise and from the photo
    assert sorted((tmp_path / "rivals").iterdir()) == kept
    assert text.count("1234.50") == 4  # after 10 iterations: the style and the mean, twice


def test_a_kept_optimisation_that_is_too_short_or_damaged_is_run_again(measure_styles: Measure, tmp_path: Path) -> None:
    measure_styles()
    first, second = sorted((tmp_path / "rivals").iterdir())
    first.write_text("{")
    second.write_text("[1234.5, 1234.5]")

    assert "1234.50" not in measure_styles()
    assert [len(json.loads(path.read_text())) for path in (first, second)] == [11, 11]


def test_without_time_only_what_is_kept_is_compared(measure_styles: Measure, tmp_path: Path) -> None:
    measure_styles()
    for path in (tmp_path / "rivals").iterdir():
        path.write_text(json.dumps([1234.5] * 21))

    text = measure_styles("--budget", "0s", "--iterations", 300, "--rival-photos", 2)

    assert "from noise on 1 photo(s)" in text
    assert "| after 10 | after 20 |" in text
    assert "after 30" not in text
    for path in (tmp_path / "rivals").iterdir():
        path.unlink()
    assert "Beside direct optimisation" not in measure_styles("--budget", "0s")


def test_several_trunks_stand_in_one_table(measure_styles: Measure, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "zoo", tmp_path / "other")

    text = measure_styles("--zoo", tmp_path / "zoo", tmp_path / "other")

    assert "| style | bars-trunk (zoo): content |" in text
    assert "bars-trunk (other): objective |" in text
    row = next(line for line in text.splitlines() if line.startswith("| bars |"))
    cells = row.strip("| ").split(" | ")
    assert cells[1:4] == cells[4:7]
    with Image.open(tmp_path / "quality" / "styles.jpg") as sheet:
        assert sheet.size == (3 * 192, 3 * 192)


def test_folders_of_one_name_are_told_apart() -> None:
    shipped, trained, other = Path("models/zoo"), Path("state/zoo"), Path("state/other")
    assert label_folders([shipped, other]) == {shipped: "zoo", other: "other"}
    assert label_folders([shipped, trained, other]) == {shipped: "models/zoo", trained: "state/zoo", other: "other"}


def test_an_iteration_is_timed_with_its_gradients(loss_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever takes no gradients takes no time on this clock."""
    network = load_loss_network(loss_weights)
    seconds = 0.0

    def forward_and_tick(*arguments: object) -> dict[str, torch.Tensor]:
        nonlocal seconds
        seconds += torch.is_grad_enabled()
        features: dict[str, torch.Tensor] = LossNetwork.forward(network, *arguments)  # type: ignore[arg-type]
        return features

    monkeypatch.setattr(network, "forward", forward_and_tick)
    monkeypatch.setattr(time, "perf_counter", lambda: seconds)
    objective = Objective.of_style(network, torch.rand(3, 32, 32))

    assert seconds_per_iteration(objective, torch.rand(1, 3, 32, 32)) == 1.0


def test_rival_photos_are_one_number_or_one_a_size() -> None:
    assert rival_counts([256, 512], None, 10) == {256: 10, 512: 10}
    assert rival_counts([256, 512], [2], 10) == {256: 2, 512: 2}
    assert rival_counts([256, 512], [3, 1], 10) == {256: 3, 512: 1}
    with pytest.raises(ConfigError, match="one for each of --sizes"):
        rival_counts([256], [3, 1], 10)


def test_what_is_missing_is_said(tmp_path: Path, benchmarks: Path, caplog: pytest.LogCaptureFixture) -> None:
    common = ["--benchmarks", str(benchmarks), "--zoo", str(tmp_path)]

    for arguments, sentence in (
        (["styles", *common], "--style-images"),
        (["styles", *common, "--style-images", str(tmp_path), "--trunk", "lost"], "No lost.pt in"),
        (["upscale", *common], "--lpips-weights"),
        (["all", *common, "--style-images", str(tmp_path)], "--lpips-weights"),
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
    assert iterations_to_reach([9.0, 5.0, 3.0], 4.0) == 1.5
    assert iterations_to_reach([9.0, 5.0, 3.0], 5.0) == 1
    assert iterations_to_reach([9.0, 5.0, 3.0], 9.5) == 0
    assert iterations_to_reach([9.0, 9.5, 3.5], 6.5) == 1.5
    assert iterations_to_reach([9.0, 5.0, 3.0], 1.0) is None
    assert iterations_to_reach([], 1.0) is None
    assert mean_curve([[4.0, 2.0, 1.0], [2.0, 0.0]]) == [3.0, 1.0]


def test_small_helpers() -> None:
    assert spread([Path(str(index)) for index in range(10)], 3) == [Path("0"), Path("3"), Path("6")]
    assert spread([Path("0")], 3) == [Path("0")]
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
