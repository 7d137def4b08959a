from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pictures import draw_photo
from worker.archive import read_archive
from worker.arrays import Norms, Pixels
from worker.careful import CarefulNetwork
from worker.enlarging import STEP, UPSCALE_TILE, enlarge_in_tiles, tiled_size
from worker.runtimes import Network, Runtime, Values
from worker.runtimes.methods import Method
from worker.runtimes.openvino import OpenVinoRuntime
from worker.runtimes.torchscript import TorchScriptRuntime
from worker.tiles import plan_even_tiles

FACTOR = 2
TILE = 48
SIZES = [(131, 97), (48, 48), (100, 17), (131, 97), (49, 200)]
"""Of photos (H, W): odd ones, one that is a tile, one narrower, and two alike."""


class Recording:
    """A network that notes what it gets."""

    blocks = 0
    side_by_side = 1

    def __init__(self, network: Network) -> None:
        self._network = network
        self.given: list[tuple[int, ...]] = []

    def enlarge(self, pixels_BHWC: Pixels) -> Pixels:
        self.given.append(pixels_BHWC.shape)
        return self._network.enlarge(pixels_BHWC)

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        raise NotImplementedError

    def stage(self, method: Method, *inputs: Pixels | Values, block: int = 0) -> npt.NDArray[Any]:
        raise NotImplementedError

    def reach(self, method: Method) -> int | None:
        return self._network.reach(method)

    def in_float32(self) -> None:
        return None

    def end_stage(self) -> None:
        raise NotImplementedError

    def free_memory(self) -> None:
        raise NotImplementedError


def enlarge(photos: list[Pixels], network: Network, batch_px: int, tile_px: int = TILE * TILE) -> list[Pixels]:
    overlap = network.reach(Method.FORWARD)
    assert overlap is not None
    careful = CarefulNetwork(network, lambda: None)
    return enlarge_in_tiles(photos, careful, FACTOR, overlap, tile_px, batch_px)


def draw_all() -> list[Pixels]:
    return [np.asarray(draw_photo(width, height)) // (index + 1) for index, (height, width) in enumerate(SIZES)]


@pytest.mark.parametrize("runtime", [TorchScriptRuntime("cpu"), OpenVinoRuntime("float32")], ids=lambda r: r.name)
@pytest.mark.parametrize("batch_px", [1, 5 * TILE * TILE, 10**9])
def test_photos_in_tiles_are_the_photos_in_one_piece(small_zoo: Path, runtime: Runtime, batch_px: int) -> None:
    network, photos = runtime.load(read_archive(small_zoo / "x2.pt")), draw_all()
    for tiled_HWC, photo_HWC in zip(enlarge(photos, network, batch_px), photos, strict=True):
        whole_HWC = network.enlarge(photo_HWC[None])[0]
        assert tiled_HWC.shape == whole_HWC.shape
        assert np.abs(tiled_HWC.astype(int) - whole_HWC).max() <= 1


def test_tiles_of_several_photos_go_to_the_device_together(small_zoo: Path) -> None:
    network = Recording(TorchScriptRuntime("cpu").load(read_archive(small_zoo / "x2.pt")))
    enlarge(draw_all(), network, 10**9)
    # Of four photos at once those of one size, of the lower one others, and of the narrow one its own.
    assert sorted({shape[1:3] for shape in network.given}) == [(32, TILE), (TILE, 17), (TILE, TILE)]
    assert len(network.given) == 3


def test_no_more_goes_to_the_device_than_a_batch(small_zoo: Path) -> None:
    network = Recording(TorchScriptRuntime("cpu").load(read_archive(small_zoo / "x2.pt")))
    batch_px = 5 * TILE * TILE
    enlarge(draw_all(), network, batch_px)
    assert max(count * height * width for count, height, width, _ in network.given) <= batch_px
    network.given.clear()
    enlarge(draw_all(), network, 1)
    assert {count for count, *_ in network.given} == {1}


LENGTHS = st.integers(UPSCALE_TILE - 1, 2 * UPSCALE_TILE)


@given(LENGTHS, LENGTHS, st.integers(0, 20))
def test_the_tiled_size_counts_what_is_computed(height: int, width: int, overlap: int) -> None:
    tiles = {tile.shape for tile in plan_even_tiles(height, width, UPSCALE_TILE, overlap, STEP)}
    assert len(tiles) == 1
    tiled = tiled_size(height, width, UPSCALE_TILE, overlap)
    count = len(plan_even_tiles(height, width, UPSCALE_TILE, overlap, STEP))
    assert count * prod(*tiles) == prod(tiled)


def test_little_is_computed_twice() -> None:
    overlap = 11
    for height, width in ((300, 300), (300, 400), (1080, 1920), (1667, 2400)):
        assert prod(tiled_size(height, width, UPSCALE_TILE, overlap)) <= 1.25 * height * width
