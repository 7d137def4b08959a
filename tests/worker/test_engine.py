import logging
from pathlib import Path

import numpy as np
import pytest

from models.card import ModelCard, Task
from tests.pictures import draw_photo
from worker.arrays import Norms, Pixels
from worker.catalog import LoadedTrunk, LoadedUpscaler, ZooLoader
from worker.contract import ErrorCode
from worker.engine import UPSCALE_TILE, Engine, EnlargeTask, PaintTask, enlarge_in_tiles
from worker.errors import JobError
from worker.runtimes.torchscript import TorchScriptRuntime


class Grudging:
    """A network that inverts pictures, and fails for batches with a picture whose first pixel is black."""

    def __init__(self, message: str) -> None:
        self.message = message
        self.batches: list[int] = []

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        self.batches.append(len(pixels_BHWC))
        if (pixels_BHWC[:, 0, 0] == 0).all(axis=1).any():
            raise RuntimeError(self.message)
        return 255 - pixels_BHWC

    def enlarge(self, pixels_BHWC: Pixels) -> Pixels:
        raise NotImplementedError


def paint_tasks(network: Grudging, levels: list[int]) -> list[PaintTask]:
    card = ModelCard("trunk", Task.STYLE_TRUNK, "test", 1, "ab", norm_size=2)
    trunk = LoadedTrunk(card, network)
    return [PaintTask(np.full((16, 16, 3), level, np.uint8), trunk, np.zeros(2, np.float32)) for level in levels]


@pytest.mark.parametrize(
    ("message", "code"),
    [("Out of memory!", ErrorCode.TOO_LARGE), ("a bug", ErrorCode.INTERNAL)],
)
def test_a_poisoned_picture_fails_alone(message: str, code: ErrorCode, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    network = Grudging(message)
    results = Engine(budget_px=10**6).run(paint_tasks(network, [10, 20, 0, 40, 50]))
    failed = results[2]
    assert isinstance(failed, JobError)
    assert failed.code is code
    painted = [result[0, 0, 0] for result in results if not isinstance(result, JobError)]
    assert painted == [245, 235, 215, 205]


def test_a_good_batch_is_computed_at_once() -> None:
    network = Grudging("")
    engine = Engine(budget_px=10**6)
    tasks = paint_tasks(network, [10, 20, 30])
    assert engine.plan(tasks) == [[0, 1, 2]]
    engine.run(tasks)
    assert network.batches == [3]


def test_tiles_leave_no_seam(small_zoo: Path) -> None:
    upscaler = ZooLoader(TorchScriptRuntime("cpu")).load(small_zoo).upscalers[2]
    assert isinstance(upscaler, LoadedUpscaler)
    pixels_HWC = np.asarray(draw_photo(UPSCALE_TILE + 190, 2 * UPSCALE_TILE + 45))
    tiled = enlarge_in_tiles(pixels_HWC, upscaler)
    whole = upscaler.network.enlarge(pixels_HWC[None])[0]
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert EnlargeTask(pixels_HWC, upscaler).key.height == 2 * UPSCALE_TILE + 45
