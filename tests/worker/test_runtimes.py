from pathlib import Path

import numpy as np
import pytest

from tests.pictures import draw_photo
from worker.archive import read_archive, read_style
from worker.runtimes.openvino import OpenVinoRuntime
from worker.runtimes.torchscript import TorchScriptRuntime
from worker.settings import SHIPPED_ZOO

SIZES = [(16, 16), (37, 51), (64, 48), (127, 130), (256, 320)]
HALF_PRECISION = (1.5, 16)
"""Mean and 99.9th percentile of the difference to float32, in 255ths."""
FULL_PRECISION = (0.2, 1)


def assert_near(actual: np.ndarray, expected: np.ndarray, tolerance: tuple[float, float]) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == np.uint8
    difference = np.abs(actual.astype(int) - expected)
    assert difference.mean() <= tolerance[0]
    assert np.quantile(difference, 0.999) <= tolerance[1]


@pytest.mark.parametrize("precision", ["float32", "auto"])
@pytest.mark.parametrize("width", [4, 16])
def test_openvino_paints_what_pytorch_paints(small_zoo: Path, precision: str, width: int) -> None:
    zoo = small_zoo if width == 4 else SHIPPED_ZOO
    archive = read_archive(zoo / f"trunk-w{width}.pt")
    norm_P = read_style(next(iter(sorted(zoo.glob("*.safetensors")))))[1]
    reference, tested = TorchScriptRuntime("cpu").load(archive), OpenVinoRuntime(precision).load(archive)
    for height, breadth in SIZES:
        pixels_BHWC = np.stack([np.asarray(draw_photo(breadth, height))] * 2)
        norm_BP = np.stack([norm_P, norm_P[::-1].copy() if width == 4 else norm_P])
        tolerance = FULL_PRECISION if precision == "float32" else HALF_PRECISION
        assert_near(tested.paint(pixels_BHWC, norm_BP), reference.paint(pixels_BHWC, norm_BP), tolerance)


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_openvino_enlarges_what_pytorch_enlarges(precision: str) -> None:
    archive = read_archive(SHIPPED_ZOO / "x4.pt")
    reference, tested = TorchScriptRuntime("cpu").load(archive), OpenVinoRuntime(precision).load(archive)
    for height, width in SIZES:
        pixels_BHWC = np.asarray(draw_photo(width, height))[None]
        enlarged = tested.enlarge(pixels_BHWC)
        assert enlarged.shape == (1, 4 * height, 4 * width, 3)
        assert_near(
            enlarged, reference.enlarge(pixels_BHWC), FULL_PRECISION if precision == "float32" else HALF_PRECISION
        )


def test_precisions_that_a_device_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="float16"):
        TorchScriptRuntime("cpu", "float16")
    with pytest.raises(ValueError, match="float16"):
        OpenVinoRuntime("float16")
