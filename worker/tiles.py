"""Cuts large pictures into overlapping tiles, so that a network's memory does not grow with the picture."""

from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class Span:
    """A stretch of one axis: what is read, and which part of it is kept, in px of the low-resolution picture."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def plan_spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Covers `length` px with stretches of `tile` px (fewer if `length` is shorter) that overlap by 2 * `overlap`.

    All stretches have the same length, so that one compiled shape serves all. The kept parts cover the axis once,
    and each lies `overlap` px inside its stretch except at the ends of the axis.
    """
    if length <= tile:
        return [Span(0, length, 0, length)]
    step = tile - 2 * overlap
    if step < 1:
        raise ValueError(f"Tiles of {tile} px cannot overlap by {overlap} px on each side.")
    spans: list[Span] = []
    kept = 0
    while kept < length:
        start = min(max(kept - overlap, 0), length - tile)
        stop = start + tile
        keep_stop = length if stop == length else stop - overlap
        spans.append(Span(start, stop, kept, keep_stop))
        kept = keep_stop
    return spans


def plan_tiles(height: int, width: int, tile: int, overlap: int) -> list[tuple[Span, Span]]:
    """Rows and columns of all tiles of a picture."""
    return list(product(plan_spans(height, tile, overlap), plan_spans(width, tile, overlap)))
