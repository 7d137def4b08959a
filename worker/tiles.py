"""Cuts large pictures into overlapping tiles, so that a network's memory does not grow with the picture."""

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Self

import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Span:
    """A stretch of one axis: what is read, and which part of it is kept, in px of the picture that is cut."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    @property
    def length(self) -> int:
        """Px that are read."""
        return self.stop - self.start

    @property
    def read(self) -> slice:
        """Where the stretch lies in the picture."""
        return slice(self.start, self.stop)

    @property
    def kept(self) -> slice:
        """Where the kept part lies in the picture."""
        return slice(self.keep_start, self.keep_stop)

    @property
    def inner(self) -> slice:
        """Where the kept part lies in the stretch."""
        return slice(self.keep_start - self.start, self.keep_stop - self.start)

    def enlarged(self, factor: int, limit: int) -> Self:
        """The same stretch of a picture `factor` times as large, but at most `limit` px."""
        edges = (self.start, self.stop, self.keep_start, self.keep_stop)
        return type(self)(*(min(edge * factor, limit) for edge in edges))


@dataclass(frozen=True)
class Tile:
    """A rectangle of a picture. Arrays are (H, W) or have more axes behind or before: `...HW` or `HWC`."""

    rows: Span
    columns: Span

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what is read."""
        return self.rows.length, self.columns.length

    @property
    def read(self) -> tuple[slice, slice]:
        """Where the tile lies in the picture."""
        return self.rows.read, self.columns.read

    @property
    def kept(self) -> tuple[slice, slice]:
        """Where the kept part lies in the picture."""
        return self.rows.kept, self.columns.kept

    @property
    def inner(self) -> tuple[slice, slice]:
        """Where the kept part lies in the tile."""
        return self.rows.inner, self.columns.inner

    @property
    def kept_shape(self) -> tuple[int, int]:
        """Height and width of what is kept."""
        return self.rows.keep_stop - self.rows.keep_start, self.columns.keep_stop - self.columns.keep_start

    @property
    def kept_px(self) -> int:
        """Pixels that are kept."""
        return prod(self.kept_shape)

    def enlarged(self, factor: int, height: int, width: int) -> Self:
        """The same tile of a picture `factor` times as large, at most of that size."""
        return type(self)(self.rows.enlarged(factor, height), self.columns.enlarged(factor, width))


def plan_spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Covers `length` px with stretches of `tile` px (fewer if `length` is shorter) that overlap by 2 * `overlap`.

    All stretches have the same length, so that one compiled shape serves all. The kept parts cover the axis once,
    and each lies `overlap` px inside its stretch except at the ends of the axis. Raises `ValueError` for an overlap
    that leaves nothing of a tile.
    """
    if length <= tile:
        return [Span(0, length, 0, length)]
    if tile <= 2 * overlap:
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


def even_side(length: int, tile: int, overlap: int, multiple: int = 1) -> int:
    """The smallest tile that covers `length` px with no more stretches than `tile` px would.

    The last tile would often lie nearly on the one before, and cost as much. Rounded up to a `multiple`, so that
    lengths that differ little have tiles that do not.
    """
    count = len(plan_spans(length, tile, overlap))
    if count == 1:
        return length
    smallest = -(-(length + 2 * overlap * (count - 1)) // count)
    return min(-(-smallest // multiple) * multiple, tile)


def plan_even_spans(length: int, tile: int, overlap: int, multiple: int = 1) -> list[Span]:
    """As few stretches as `tile` px allow, all of one length and as short as they may be: see `even_side`."""
    return plan_spans(length, even_side(length, tile, overlap, multiple), overlap)


def plan_even_tiles(height: int, width: int, tile: int, overlap: int, multiple: int = 1) -> list[Tile]:
    """As few tiles as `tile` px a side allow, all of one size and as small as they may be."""
    rows, columns = (plan_even_spans(length, tile, overlap, multiple) for length in (height, width))
    return [Tile(*spans) for spans in product(rows, columns)]
