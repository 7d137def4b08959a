import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.tiles import Span, even_side, plan_even_tiles, plan_spans

LENGTHS, TILES, OVERLAPS = st.integers(1, 4000), st.integers(40, 300), st.integers(0, 19)
SIDES, MULTIPLES = st.integers(1, 400), st.sampled_from([1, 8, 16])


@given(LENGTHS, TILES, OVERLAPS)
def test_tiles_cover_each_pixel_once_and_have_context(length: int, tile: int, overlap: int) -> None:
    spans = plan_spans(length, tile, overlap)
    kept = [px for span in spans for px in range(span.keep_start, span.keep_stop)]
    assert kept == list(range(length))
    for span in spans:
        assert span.stop - span.start == min(tile, length)
        assert 0 <= span.start <= span.keep_start
        assert span.keep_stop <= span.stop <= length
        assert span.start == 0 or span.keep_start - span.start >= overlap
        assert span.stop == length or span.stop - span.keep_stop >= overlap


def test_an_overlap_that_eats_the_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot overlap"):
        plan_spans(100, 32, 16)


@given(LENGTHS, TILES, OVERLAPS, MULTIPLES)
def test_even_tiles_are_smaller_but_no_more(length: int, tile: int, overlap: int, multiple: int) -> None:
    side = even_side(length, tile, overlap, multiple)
    assert side <= tile
    assert side % multiple == 0 or side in (tile, length)
    assert len(plan_spans(length, side, overlap)) == len(plan_spans(length, tile, overlap))


@given(SIDES, SIDES, TILES, OVERLAPS, MULTIPLES)
def test_a_picture_is_put_together_of_its_tiles(
    height: int, width: int, tile: int, overlap: int, multiple: int
) -> None:
    picture_HW = np.arange(height * width).reshape(height, width)
    together_HW, kept_px = np.full_like(picture_HW, -1), 0
    for each in plan_even_tiles(height, width, tile, overlap, multiple):
        assert max(each.shape) <= tile
        together_HW[each.kept] = picture_HW[each.read][each.inner]
        assert picture_HW[each.kept].shape == each.kept_shape
        kept_px += each.kept_px
    assert np.array_equal(together_HW, picture_HW)
    assert kept_px == picture_HW.size


def test_a_stretch_of_the_reduced_picture_ends_where_the_picture_does() -> None:
    assert Span(6, 10, 8, 10).enlarged(4, 38) == Span(24, 38, 32, 38)
    assert Span(6, 10, 7, 9).enlarged(4, 1000) == Span(24, 40, 28, 36)
