import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.training.conftest import draw_photo
from training.errors import LossWeightsError
from training.lpips import Lpips, load_lpips
from training.metrics import crop_border, grid_power, luma, mean_colour_difference, psnr, ssim
from training.pictures import read_rgb, to_tensor
from training.upscale_quality import farthest


def as_picture(image: Image.Image) -> torch.Tensor:
    return to_tensor(image)[None].float() / 255


def random_lpips() -> Lpips:
    torch.manual_seed(0)
    channels = (64, 192, 384, 256, 256)
    convolutions = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    weights = {f"lin{index}.weight": torch.rand(1, c, 1, 1) for index, c in enumerate(channels)}
    for index, (c_out, c_in, kernel) in convolutions.items():
        weights[f"features.{index}.weight"] = 0.05 * torch.randn(c_out, c_in, kernel, kernel)
        weights[f"features.{index}.bias"] = torch.zeros(c_out)
    return Lpips(weights)


def test_luma_of_black_white_and_the_primaries() -> None:
    colours_BC11 = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])[:, :, None, None]

    assert (luma(colours_BC11) * 255).flatten().tolist() == pytest.approx([16, 235, 81.481, 144.553, 40.966], abs=1e-3)


def test_equal_pictures_are_perfect() -> None:
    picture_BCHW = as_picture(draw_photo(0, 48, 40))

    assert psnr(picture_BCHW, picture_BCHW, 4) == math.inf
    assert ssim(picture_BCHW, picture_BCHW, 4) == pytest.approx(1)
    assert mean_colour_difference(picture_BCHW, picture_BCHW).tolist() == [[0, 0, 0]]
    assert random_lpips()(picture_BCHW, picture_BCHW).item() == 0


def test_psnr_of_a_known_error() -> None:
    truth_BCHW = torch.full((1, 3, 32, 32), 0.5)

    # Grey off by 0.1 is luma off by 0.1 * 219 / 255.
    assert psnr(truth_BCHW + 0.1, truth_BCHW, 0) == pytest.approx(-20 * math.log10(0.1 * 219 / 255), abs=1e-4)


def test_a_tint_has_a_sign() -> None:
    truth_BCHW = torch.full((1, 3, 8, 8), 0.5)
    tint_3 = torch.tensor([0.1, 0.0, -0.02])

    difference_BC = mean_colour_difference(truth_BCHW + tint_3.view(1, 3, 1, 1), truth_BCHW)

    assert difference_BC[0].tolist() == pytest.approx([25.5, 0, -5.1], abs=1e-3)
    assert farthest([[0.1, -0.2, 0.0], [-0.3, 0.1, 0.0]]) == (-0.3, -0.2, 0.0)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_the_border_is_left_out(metric: Callable[[torch.Tensor, torch.Tensor, int], float]) -> None:
    truth_BCHW = as_picture(draw_photo(0, 48, 40))
    spoiled_BCHW = truth_BCHW.clone()
    spoiled_BCHW[:, :, :4] = 0
    spoiled_BCHW[:, :, :, -4:] = 1

    assert metric(spoiled_BCHW, truth_BCHW, 4) == pytest.approx(metric(truth_BCHW, truth_BCHW, 4))
    assert metric(spoiled_BCHW, truth_BCHW, 3) < metric(truth_BCHW, truth_BCHW, 3)
    assert crop_border(truth_BCHW, 4).shape == (1, 3, 32, 40)


def test_every_metric_tells_more_noise_from_less() -> None:
    truth_BCHW = as_picture(draw_photo(2, 64, 64))
    noise_BCHW = torch.randn(truth_BCHW.shape, generator=torch.Generator().manual_seed(0))
    lpips = random_lpips()
    little, much = (truth_BCHW + 0.02 * noise_BCHW).clamp(0, 1), (truth_BCHW + 0.1 * noise_BCHW).clamp(0, 1)

    assert psnr(little, truth_BCHW, 4) > psnr(much, truth_BCHW, 4)
    assert ssim(little, truth_BCHW, 4) > ssim(much, truth_BCHW, 4)
    assert lpips(little, truth_BCHW).item() < lpips(much, truth_BCHW).item()


def test_lpips_measures_each_picture_of_a_batch_alone() -> None:
    a_BCHW, b_BCHW = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    lpips = random_lpips()

    alone = torch.cat([lpips(a_BCHW[index : index + 1], b_BCHW[index : index + 1]) for index in range(2)])

    torch.testing.assert_close(lpips(a_BCHW, b_BCHW), alone)


def test_unreadable_lpips_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "lpips.safetensors").write_text("no weights")

    with pytest.raises(LossWeightsError, match=r"lpips\.safetensors"):
        load_lpips(tmp_path / "lpips.safetensors")


def test_bicubic_on_set5_gives_the_published_numbers(assets: Path) -> None:
    lpips = load_lpips(assets / "weights" / "lpips_alex.safetensors")
    measured = []
    for path in sorted((assets / "benchmarks" / "Set5").iterdir()):
        truth = read_rgb(path)
        truth = truth.crop((0, 0, truth.width // 4 * 4, truth.height // 4 * 4))
        small = truth.resize((truth.width // 4, truth.height // 4), Image.Resampling.BICUBIC)
        enlarged_BCHW = as_picture(small.resize(truth.size, Image.Resampling.BICUBIC))
        truth_BCHW = as_picture(truth)
        pair = (enlarged_BCHW, truth_BCHW)
        measured.append([psnr(*pair, 4), ssim(*pair, 4), lpips(*pair).item()])

    mean_psnr, mean_ssim, mean_lpips = torch.tensor(measured).mean(dim=0).tolist()

    assert mean_psnr == pytest.approx(28.43, abs=0.01)
    # Published with MATLAB's bicubic: 0.8104.
    assert mean_ssim == pytest.approx(0.8104, abs=0.003)
    assert mean_lpips == pytest.approx(0.3397, abs=0.0005)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_grid_is_seen_and_nothing_else_is(factor: int) -> None:
    photo_BCHW = as_picture(draw_photo(3, 200, 136))
    grid_11HW = torch.zeros(1, 1, 136, 200)
    grid_11HW[:, :, ::factor, ::factor] = 0.02 * factor

    plain = grid_power(photo_BCHW, factor)
    assert abs(plain) < 3
    assert grid_power(photo_BCHW + grid_11HW, factor) > plain + 6
    assert abs(grid_power(photo_BCHW + torch.roll(grid_11HW, 1, 3) - grid_11HW.mean(), factor) - plain) > 6
    assert grid_power(photo_BCHW[..., :40], factor) == 0
