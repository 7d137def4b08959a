"""The engine's rivals compute the same pictures."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.rivals import EagerNetwork, OnnxNetwork
from tests.pictures import draw_photo
from worker.archive import read_archive, read_style

ZOO = Path(__file__).parents[2] / "models" / "zoo"


@pytest.mark.parametrize("size", [(60, 40), (67, 50)])
def test_onnx_runtime_paints_what_pytorch_paints(tmp_path: Path, size: tuple[int, int]) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `bench` is not installed")
    archive, (_, norm_P) = read_archive(ZOO / "trunk-w16.pt"), read_style(ZOO / "candy.safetensors")
    pixels_BHWC, norm_BP = np.stack([np.asarray(draw_photo(*size))] * 3), np.stack([norm_P] * 3)

    rivals = OnnxNetwork(archive, tmp_path), EagerNetwork(archive, "cpu")

    one, other = (rival.paint(pixels_BHWC, norm_BP).astype(int) for rival in rivals)
    assert np.abs(one - other).max() <= 1
