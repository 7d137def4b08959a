"""Calls from several threads on one GPU."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tests.pictures import draw_photo
from worker.archive import read_archive, read_style
from worker.arrays import Pixels
from worker.runtimes.torchscript import TorchScriptRuntime
from worker.settings import SHIPPED_ZOO

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_gpu
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_threads_do_not_see_each_others_pictures(cuda_graphs: bool, caplog: pytest.LogCaptureFixture) -> None:
    network = TorchScriptRuntime("cuda", cuda_graphs=cuda_graphs).load(read_archive(SHIPPED_ZOO / "trunk-w16.pt"))
    _, norm_P = read_style(SHIPPED_ZOO / "candy.safetensors")
    photo_HWC = np.asarray(draw_photo(256, 192))
    batches = [np.stack([np.roll(photo_HWC, 16 * (batch + index), 1) for index in range(4)]) for batch in range(8)]

    def paint(pixels_BHWC: Pixels) -> Pixels:
        return network.paint(pixels_BHWC, np.stack([norm_P] * len(pixels_BHWC)))

    alone = [paint(pixels_BHWC) for pixels_BHWC in batches]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(paint, batches * 20))
    for index, result_BHWC in enumerate(together):
        difference_BHWC = result_BHWC.astype(int) - alone[index % len(batches)]
        assert np.abs(difference_BHWC).max() <= 2  # of 255: kernels are chosen anew in the first calls
    assert "No CUDA graph" not in caplog.text
