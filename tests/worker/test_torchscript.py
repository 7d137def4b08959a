"""TorchScript on a GPU. Nothing here needs OpenVINO, which such a machine may lack."""

import numpy as np
import pytest
import torch

from tests.pictures import draw_photo
from tests.worker.nearness import HALF_PRECISION, assert_near
from worker.archive import read_archive, read_style
from worker.runtimes.methods import Method
from worker.runtimes.torchscript import TorchScriptRuntime
from worker.settings import SHIPPED_ZOO


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["trunk-w16", "x2", "x4", "x8"])
def test_half_precision_on_a_gpu_is_near_full_precision(name: str) -> None:
    archive = read_archive(SHIPPED_ZOO / f"{name}.pt")
    half, full = (TorchScriptRuntime("cuda", precision).load(archive) for precision in ("float16", "float32"))
    style = [read_style(SHIPPED_ZOO / "candy.safetensors")[1][None]] if name == "trunk-w16" else []
    inputs = [np.asarray(draw_photo(131, 97))[None], *style]
    assert_near(half.stage(Method.FORWARD, *inputs), full.stage(Method.FORWARD, *inputs), HALF_PRECISION)
