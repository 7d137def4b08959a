from typing import Any

import numpy as np
import numpy.typing as npt

from worker.arrays import Norms, Pixels
from worker.careful import CarefulNetwork
from worker.runtimes import Values
from worker.runtimes.methods import Method

BROKEN, BLACK, GOOD = 7, 0, 100
"""Levels of photos: one that half precision loses, one that is black, and one that is well."""
NORM_P = np.zeros(2, np.float32)
FEATURES = np.ones((1, 4, 2, 2), np.float32)
STATISTICS = np.ones((2, 1), np.float32)


class Exact:
    """Gives back what it gets, and 1 more for features."""

    blocks = 1
    side_by_side = 1

    def __init__(self) -> None:
        self.photos = 0

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        assert len(pixels_BHWC) == len(norm_BP)
        self.photos += len(pixels_BHWC)
        return pixels_BHWC.copy()

    def enlarge(self, pixels_BHWC: Pixels) -> Pixels:
        self.photos += len(pixels_BHWC)
        return pixels_BHWC.repeat(2, axis=1).repeat(2, axis=2)

    def stage(self, method: Method, *inputs: Pixels | Values, block: int = 0) -> npt.NDArray[Any]:
        self.photos += 1
        return inputs[1].copy() if method is Method.UP_END else inputs[0] + 1

    def reach(self, method: Method) -> int | None:
        return {Method.UP_END: 2}.get(method)

    def in_float32(self) -> "Exact | None":
        return None

    def end_stage(self) -> None:
        raise NotImplementedError

    def free_memory(self) -> None:
        raise NotImplementedError


class Half(Exact):
    """Loses some: photos come out black, features infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.exact = Exact()

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        return lose(super().paint(pixels_BHWC, norm_BP))

    def enlarge(self, pixels_BHWC: Pixels) -> Pixels:
        return lose(super().enlarge(pixels_BHWC))

    def stage(self, method: Method, *inputs: Pixels | Values, block: int = 0) -> npt.NDArray[Any]:
        if method is Method.UP_END:
            return lose(super().stage(method, *inputs))
        features = super().stage(method, *inputs).astype(np.float16)
        features[features == BROKEN + 1] = np.inf
        return features

    def in_float32(self) -> Exact | None:
        return self.exact


class Reports:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> None:
        self.count += 1


def lose(pixels_BHWC: Pixels) -> Pixels:
    pixels_BHWC[(pixels_BHWC == BROKEN).all(axis=(1, 2, 3))] = 0
    return pixels_BHWC


def photos(*levels: int) -> Pixels:
    return np.stack([np.full((4, 6, 3), level, np.uint8) for level in levels])


def test_only_what_half_precision_lost_is_computed_again() -> None:
    half, reports = Half(), Reports()
    pixels_BHWC = photos(GOOD, BROKEN, GOOD, BROKEN)
    painted = CarefulNetwork(half, reports.add).paint(pixels_BHWC, np.stack([NORM_P] * 4))
    assert np.array_equal(painted, pixels_BHWC)
    assert (half.photos, half.exact.photos, reports.count) == (4, 2, 2)


def test_enlarged_photos_are_looked_at_too() -> None:
    half, reports = Half(), Reports()
    enlarged = CarefulNetwork(half, reports.add).enlarge(photos(GOOD, BROKEN))
    assert [picture_HWC.shape for picture_HWC in enlarged] == [(8, 12, 3)] * 2
    assert [int(picture_HWC[0, 0, 0]) for picture_HWC in enlarged] == [GOOD, BROKEN]
    assert (half.exact.photos, reports.count) == (1, 1)


def test_a_black_photo_may_stay_black() -> None:
    half, reports = Half(), Reports()
    (painted,) = CarefulNetwork(half, reports.add).paint(photos(BLACK), NORM_P[None])
    assert not painted.any()
    assert (half.exact.photos, reports.count) == (0, 0)


def test_full_precision_is_believed() -> None:
    class Night(Exact):
        def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
            return np.zeros_like(super().paint(pixels_BHWC, norm_BP))

    night, reports = Night(), Reports()
    (painted,) = CarefulNetwork(night, reports.add).paint(photos(GOOD), NORM_P[None])
    assert not painted.any()
    assert (night.photos, reports.count) == (1, 0)


def test_the_last_stage_of_a_large_painting_is_looked_at() -> None:
    half, reports = Half(), Reports()
    network = CarefulNetwork(half, reports.add)
    for level in (GOOD, BROKEN):
        (painted,) = network.finish(FEATURES, photos(level), NORM_P[None], STATISTICS)
        assert (painted == level).all()
    assert (half.exact.photos, reports.count) == (1, 1)


def test_features_that_overflow_are_computed_again() -> None:
    half, reports = Half(), Reports()
    network = CarefulNetwork(half, reports.add)
    for level in (GOOD, BROKEN):
        features = network.stage(Method.BLOCK_FIRST, FEATURES * level)
        assert features.dtype == np.float32
        assert (features == level + 1).all()
    assert (half.exact.photos, reports.count) == (1, 1)


def test_it_tells_what_the_network_tells() -> None:
    network = CarefulNetwork(Half(), Reports().add)
    assert network.blocks == 1
    assert network.reach(Method.UP_END) == 2
    assert network.reach(Method.FORWARD) is None
