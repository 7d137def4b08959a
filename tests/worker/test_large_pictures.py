"""Paintings made in tiles beside the same made in one piece, by untrained trunks: their statistics are the hardest."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from models.style_net import StyleTrunk
from tests.pictures import draw_photo
from tests.worker.stages import px_of_photo
from training.export import export_archive, export_trunk, trunk_card
from worker.archive import Archive, read_archive
from worker.arrays import Norms, Pixels
from worker.careful import CarefulNetwork
from worker.large_pictures import REDUCTION, LargePainting, can_paint_in_tiles
from worker.runtimes import Network, Runtime, Values
from worker.runtimes.methods import Method
from worker.runtimes.openvino import OpenVinoRuntime
from worker.runtimes.torchscript import TorchScriptRuntime
from worker.tiles import plan_even_tiles

SIZES = [(201, 327), (130, 259), (255, 126), (17, 301), (160, 160)]
"""Of photos (H, W): odd ones, one that is hardly larger than what a layer sees, and one without remainders."""
TILE_PX = 80 * 80
WIDTH = 4
ROUNDING = 0.025
"""Levels of 255, in the mean, that rounding features to float16 costs: one value in forty is another by one."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    torch.manual_seed(3)
    trunk = StyleTrunk(width=WIDTH, residual_blocks=2)
    path = tmp_path_factory.mktemp("trunk") / "trunk.pt"
    export_trunk(trunk, trunk_card(trunk, "trunk", {}), path)
    return read_archive(path)


@pytest.fixture(scope="module")
def norms(archive: Archive) -> Norms:
    random = np.random.default_rng(5)
    mixes = (4 * WIDTH) ** 2 + (2 * WIDTH) ** 2
    scales_and_shifts = random.uniform(0.3, 1.5, (archive.card.norm_size or 0) - mixes)
    # As large as training makes them.
    return np.concatenate([scales_and_shifts, random.uniform(-0.6, 0.6, mixes)]).astype(np.float32)


class Recording:
    """A network that notes how many pixels go to the device at once, as pixels of the photo."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.blocks = network.blocks
        self.side_by_side = network.side_by_side
        self.sizes_px: list[int] = []
        self.calls: Counter[Method] = Counter()
        self.freed = 0

    def stage(self, method: Method, *inputs: Pixels | Values, block: int = 0) -> npt.NDArray[Any]:
        self.sizes_px.append(px_of_photo(method, inputs[0]))
        self.calls[method] += 1
        return self._network.stage(method, *inputs, block=block)

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        raise NotImplementedError

    def enlarge(self, pixels_BHWC: Pixels) -> Pixels:
        raise NotImplementedError

    def reach(self, method: Method) -> int | None:
        return self._network.reach(method)

    def in_float32(self) -> None:
        return None

    def end_stage(self) -> None:
        self.freed += 1

    def free_memory(self) -> None:
        raise NotImplementedError


def careful(network: Network) -> CarefulNetwork:
    def fail() -> None:
        raise AssertionError("nothing here is to be computed again")

    return CarefulNetwork(network, fail)


def draw(height: int, width: int) -> Pixels:
    return np.asarray(draw_photo(width, height))


def differences(network: Network, photo_HWC: Pixels, norm_P: Norms, tile_px: int) -> npt.NDArray[np.int64]:
    tiled_HWC = LargePainting(photo_HWC, careful(network), norm_P, tile_px).paint()
    whole_HWC = network.paint(photo_HWC[None], norm_P[None])[0]
    assert tiled_HWC.shape == whole_HWC.shape
    assert tiled_HWC.dtype == np.uint8
    # A flat painting would hide whatever is wrong.
    assert whole_HWC.std() > 10
    difference_HWC: npt.NDArray[np.int64] = np.abs(tiled_HWC.astype(np.int64) - whole_HWC)
    return difference_HWC


@pytest.mark.parametrize("runtime", [TorchScriptRuntime("cpu"), OpenVinoRuntime("float32")], ids=lambda r: r.name)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_painting_in_tiles_is_the_painting_in_one_piece(
    archive: Archive, norms: Norms, runtime: Runtime, size: tuple[int, int]
) -> None:
    difference_HWC = differences(runtime.load(archive), draw(*size), norms, TILE_PX)
    # Features are held in float16 between the stages, which now and then rounds a level up instead of down.
    assert difference_HWC.mean() <= (ROUNDING if runtime.name == "torchscript" else 0.1)
    assert np.quantile(difference_HWC, 0.99) <= 1
    assert difference_HWC.max() <= 1


def test_pictures_painted_beside_a_large_painting_do_not_change_it(archive: Archive, norms: Norms) -> None:
    network = OpenVinoRuntime("float32", 2).load(archive)
    photo_HWC, small_BHWC = draw(200, 328), np.stack([draw(48, 64)] * 3)
    large_HWC = LargePainting(photo_HWC, careful(network), norms, TILE_PX).paint()
    norm_BP = np.stack([norms] * 3)
    painted_BHWC = network.paint(small_BHWC, norm_BP)
    with ThreadPoolExecutor(2) as threads:
        painting = threads.submit(lambda: LargePainting(photo_HWC, careful(network), norms, TILE_PX).paint())
        beside = 0
        while not painting.done():
            assert np.abs(network.paint(small_BHWC, norm_BP).astype(int) - painted_BHWC).max() <= 1
            beside += 1
    assert beside
    assert np.array_equal(painting.result(), large_HWC)


def test_the_size_of_the_tiles_does_not_show(archive: Archive, norms: Norms) -> None:
    network, photo_HWC = TorchScriptRuntime("cpu").load(archive), draw(151, 222)
    for side in (48, 64, 100, 160, 1000):
        assert differences(network, photo_HWC, norms, side * side).max() <= 1


def test_tiles_leave_no_seam(archive: Archive, norms: Norms) -> None:
    network, photo_HWC = TorchScriptRuntime("cpu").load(archive), draw(200, 328)
    side, overlap = isqrt(TILE_PX) // REDUCTION, network.reach(Method.UP_END)
    assert overlap is not None
    difference_HWC = differences(network, photo_HWC, norms, TILE_PX)
    seams = 0
    for tile in plan_even_tiles(200 // REDUCTION, 328 // REDUCTION, side, overlap):
        row, column = tile.rows.keep_start * REDUCTION, tile.columns.keep_start * REDUCTION
        seams += (row > 0) + (column > 0)
        beside_rows, beside_columns = slice(max(row - 2, 0), row + 2), slice(max(column - 2, 0), column + 2)
        assert difference_HWC[beside_rows].mean() <= ROUNDING
        assert difference_HWC[:, beside_columns].mean() <= ROUNDING
    assert seams


def test_styles_differ_in_tiles_too(archive: Archive, norms: Norms) -> None:
    network, photo_HWC = TorchScriptRuntime("cpu").load(archive), draw(120, 130)
    other_P = norms[::-1].copy()
    one_HWC, other_HWC = (
        LargePainting(photo_HWC, careful(network), norm_P, TILE_PX).paint() for norm_P in (norms, other_P)
    )
    assert np.abs(one_HWC.astype(int) - other_HWC).mean() > 5
    assert differences(network, photo_HWC, other_P, TILE_PX).max() <= 1


def test_no_more_goes_to_the_device_than_a_tile(archive: Archive, norms: Norms) -> None:
    network = Recording(TorchScriptRuntime("cpu").load(archive))
    for height, width in ((120, 130), (240, 260)):
        LargePainting(draw(height, width), careful(network), norms, TILE_PX).paint()
    assert max(network.sizes_px) <= TILE_PX


def test_each_stage_runs_once(archive: Archive, norms: Norms) -> None:
    network = Recording(TorchScriptRuntime("cpu").load(archive))
    LargePainting(draw(64, 64), careful(network), norms, TILE_PX).paint()
    assert network.calls == {
        Method.DOWN_SURVEY: 1,
        Method.DOWN_SECOND: 1,
        Method.DOWN_THIRD: 1,
        Method.DOWN_END: 1,
        Method.BLOCK_FIRST: 2,
        Method.BLOCK_SECOND: 2,
        Method.BLOCK_SUM: 2,
        Method.UP_BEGIN: 1,
        Method.UP_SURVEY: 1,
        Method.UP_END: 1,
    }


def test_memory_is_given_back_when_a_stage_is_over(archive: Archive, norms: Norms) -> None:
    network = Recording(TorchScriptRuntime("cpu").load(archive))
    LargePainting(draw(64, 64), careful(network), norms, TILE_PX).paint()
    # A block has three stages.
    assert network.freed == 4 + 2 * 3 + 3


def test_an_archive_without_stages_is_told(archive: Archive, tmp_path: Path) -> None:
    trunk = StyleTrunk(width=WIDTH, residual_blocks=1)
    example = (torch.rand(1, 3, 48, 64), trunk.neutral_norm()[None])
    export_archive(trunk, trunk_card(trunk, "old", {}), {"forward": example}, tmp_path / "old.pt")
    runtime = TorchScriptRuntime("cpu")
    assert not can_paint_in_tiles(careful(runtime.load(read_archive(tmp_path / "old.pt"))))
    assert can_paint_in_tiles(careful(runtime.load(archive)))


def test_features_that_half_precision_cannot_hold_do_not_take_the_others_with_them(
    archive: Archive, norms: Norms
) -> None:
    huge_P = norms.copy()
    huge_P[:WIDTH] *= 1e5  # the first layer's scales
    difference_HWC = differences(TorchScriptRuntime("cpu").load(archive), draw(201, 327), huge_P, TILE_PX)
    assert difference_HWC.mean() < 5
