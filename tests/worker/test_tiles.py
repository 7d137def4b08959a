import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.tiles import plan_spans


@given(st.integers(1, 4000), st.integers(40, 300), st.integers(0, 19))
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
