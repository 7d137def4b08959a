"""Small photos, a small style image and a loss network of random weights: enough to run the whole training."""

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from models.vgg import LossNetwork
from training import style_runs, upscale_runs
from training.fit import main
from training.preview import example_photos

REPOSITORY = Path(__file__).parents[2]
PREVIEW_SIZE = 64


def draw_photo(seed: int, width: int, height: int) -> Image.Image:
    """A smooth picture with some detail, different for each seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = smooth + rng.integers(-12, 13, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of seven photos of several shapes and formats."""
    folder = tmp_path_factory.mktemp("photos")
    for index, suffix in enumerate(["jpg", "jpg", "png", "webp", "jpg", "png", "jpg"]):
        draw_photo(index, 72 + 8 * index, 64 + 5 * index).save(folder / f"photo-{index}.{suffix}")
    return folder


@pytest.fixture(scope="session")
def style_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A striped picture called `Stripes 1.png`."""
    path = tmp_path_factory.mktemp("styles") / "Stripes 1.png"
    stripes = np.zeros((80, 96, 3), dtype=np.uint8)
    stripes[:, ::8] = (230, 180, 20)
    stripes[::16] = (20, 60, 200)
    Image.fromarray(stripes).save(path)
    return path


@pytest.fixture(scope="session")
def loss_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the shape of torchvision's VGG-16, up to relu4_3, with random weights in half precision."""
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("weights") / "vgg16.safetensors"
    state = LossNetwork().features.state_dict()
    save_file({f"features.{key}": value.half().contiguous() for key, value in state.items()}, path)
    return path


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real weights and benchmarks; the test is skipped where it is missing."""
    folder = Path(os.environ.get("ASSETS_DIR", REPOSITORY.parent / "shared" / "assets"))
    if not folder.is_dir():
        pytest.skip(f"no assets in {folder} (ASSETS_DIR)")
    return folder


@pytest.fixture(autouse=True)
def _small_and_quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(style_runs, "STYLE_IMAGE_SIZE", 64)
    monkeypatch.setattr(style_runs, "BALANCE_PHOTOS", 2)
    monkeypatch.setattr(style_runs, "PREVIEW_SIZE", PREVIEW_SIZE)
    for runs in (style_runs, upscale_runs):
        monkeypatch.setattr(runs, "example_photos", partial(example_photos, size=PREVIEW_SIZE))
    # Random weights give gradients so small that ordinary processors take ten times as long over them.
    torch.set_flush_denormal(True)
    level = logging.getLogger().level
    threads = torch.get_num_threads()
    yield
    logging.getLogger().setLevel(level)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


Fit = Callable[..., int]


@pytest.fixture
def fit(photos: Path, loss_weights: Path, tmp_path: Path) -> Fit:
    """Runs `python -m training.fit` in this process on the small files; results go to `tmp_path / "zoo"`.

    Options given twice count as last given, so a test may replace any of them.
    """

    def run(*arguments: object) -> int:
        defaults = {
            "--photos": photos,
            "--loss-weights": loss_weights,
            "--zoo": tmp_path / "zoo",
            "--run": tmp_path / "run",
            "--device": "cpu",
            "--threads": 1,
            "--data-processes": 0,
        }
        given = [str(argument) for argument in arguments]
        first = [str(part) for pair in defaults.items() for part in pair]
        return main([given[0], *first, *given[1:]])

    return run
