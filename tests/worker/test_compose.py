import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from worker.arrays import Pixels
from worker.codec import Picture
from worker.compose import keep_color, mix, with_alpha_of

PHOTO = np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)
PAINTED = np.random.default_rng(1).integers(0, 256, (16, 20, 3), np.uint8)
LUMA = np.array([0.299, 0.587, 0.114])


def test_strength_goes_from_photo_to_painting() -> None:
    assert np.array_equal(mix(PHOTO, PAINTED, 1.0), PAINTED)
    assert np.array_equal(mix(PHOTO, PAINTED, 0.0), PHOTO)
    half = (PHOTO.astype(int) + PAINTED) / 2
    assert np.abs(mix(PHOTO, PAINTED, 0.5) - half).max() <= 0.5


def test_kept_colours_have_the_paintings_brightness() -> None:
    photo, painted = 96 + PHOTO // 4, 96 + PAINTED // 4
    kept = keep_color(photo, painted)
    assert np.abs(kept @ LUMA - painted @ LUMA).max() < 1
    assert np.abs((kept[..., 0] - kept @ LUMA) - (photo[..., 0] - photo @ LUMA)).max() < 1


@pytest.mark.parametrize("combine", [keep_color, lambda photo, painted: mix(photo, painted, 0.5)])
def test_large_pictures_take_little_memory_besides_and_come_out_the_same(combine: Callable[..., Pixels]) -> None:
    photo, painted = np.tile(PHOTO, (100, 40, 1)), np.tile(PAINTED, (100, 40, 1))
    tracemalloc.start()
    result = combine(photo, painted)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(result, np.tile(combine(PHOTO, PAINTED), (100, 40, 1)))
    assert peak < 2 * photo.nbytes


def test_opacity_grows_with_the_picture() -> None:
    alpha = np.linspace(0, 255, 16 * 20).reshape(16, 20).astype(np.uint8)
    result = with_alpha_of(Picture(PHOTO, alpha), np.zeros((32, 40, 3), np.uint8))
    assert result.alpha_HW is not None
    assert result.alpha_HW.shape == (32, 40)
    assert with_alpha_of(Picture(PHOTO), PAINTED).alpha_HW is None
