"""The boxes of HEIC and AVIF files (ISO/IEC 14496-12 and 23008-12), as far as they say what decoding would cost."""

import math
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from service.av1 import frame_pixels
from service.problems import BrokenPicture

MOST_BOXES: Final = 10_000
"""In a box, and of items, associations or places of data in a file."""
MOST_NESTED: Final = 4
"""Pictures that are made of pictures that are made of others, and so on: a tiled one that is turned takes two."""

_OF_A_BOX = 1
"""How an item's data is found, beside places in the file: in the box `idat`."""


@dataclass
class _Items:
    """What a file's `meta` box lists."""

    coded: set[int] = field(default_factory=set)
    """Pictures in AV1."""
    shown: set[int] = field(default_factory=set)
    """Whatever is not hidden, as tiles are."""
    places: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """From and to, in the file."""
    parts: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Pictures that are made of others, as of tiles, and those."""
    described: list[tuple[int, int]] = field(default_factory=list)
    """Metadata, and what it is of."""
    profiles: list[int] = field(default_factory=list)
    """Bytes of colour profiles, by the number of the property; 0 for other properties."""
    sizes: list[int] = field(default_factory=list)
    """Pixels that a property says its pictures have; 0 for other properties."""
    properties: list[tuple[int, int]] = field(default_factory=list)
    """Items, and the number of a property from 1."""

    def size(self, item: int) -> int:
        return sum(end - start for start, end in self.places.get(item, ()))


def copied_metadata(data: bytes) -> int:
    """Bytes of EXIF and of colour profiles, counted for each picture that has them: pictures can share both.

    Raises `BrokenPicture`, `struct.error` or `IndexError` for damaged boxes.
    """
    items = _read_items(data)
    described = sum(items.size(metadata) for metadata, item in items.described if item in items.shown)
    # Property 0 is none.
    profiles = [0, *items.profiles]
    colored = (number for item, number in items.properties if item in items.shown)
    return described + sum(profiles[number] for number in colored if number < len(profiles))


def shown_pixels(data: bytes) -> int:
    """Most pixels that showing one of a HEIC's pictures decodes: of tiles and the like, each as often as it is named.

    That what is decoded is no larger than the file says is looked at by libheif. Raises as `copied_metadata`.
    """
    items = _read_items(data)
    pixels: dict[int, int] = defaultdict(int)
    for item, number in items.properties:
        if 0 < number <= len(items.sizes):
            pixels[item] = max(pixels[item], items.sizes[number - 1])
    for _ in range(MOST_NESTED):
        made = {item: sum(pixels.get(part, 0) for part in parts) for item, parts in items.parts.items()}
        if made.items() <= pixels.items():
            return max(pixels.values(), default=0)
        pixels |= made
    raise BrokenPicture("The HEIF file's pictures are made of each other; save it anew.")


def coded_pixels(data: bytes) -> list[int]:
    """Pixels of each picture that an AVIF holds, from the pictures themselves. Raises as `copied_metadata`."""
    items = _read_items(data)
    if sum(map(items.size, items.coded)) > 2 * len(data):
        raise BrokenPicture("The AVIF file's pictures share their bytes; save it anew.")
    return [
        frame_pixels(b"".join(data[start:end] for start, end in items.places.get(item, ()))) for item in items.coded
    ]


def has_movie(data: bytes) -> bool:
    """Whether there are tracks beside, or in place of, still pictures."""
    return any(kind == b"moov" for kind, _, _ in _boxes(data, 0, len(data)))


def _read_items(data: bytes) -> _Items:
    items = _Items()
    if b"meta" not in (whole := _only_boxes(data, 0, len(data), (b"meta",))):
        return items
    start, end = whole[b"meta"]
    parts = _only_boxes(data, start + 4, end, (b"iinf", b"iloc", b"iref", b"iprp", b"idat"))
    if b"iinf" in parts:
        _read_kinds(data, *parts[b"iinf"], items)
    if b"iloc" in parts:
        _read_places(data, parts[b"iloc"][0], parts.get(b"idat", (0, 0))[0], items)
    if b"iref" in parts:
        _read_references(data, *parts[b"iref"], items)
    if b"iprp" in parts:
        _read_properties(data, *parts[b"iprp"], items)
    return items


def _only_boxes(data: bytes, start: int, end: int, kinds: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
    """From and to of the boxes of those types. There is one of each: of two, others may believe the other one."""
    found: dict[bytes, tuple[int, int]] = {}
    for kind, first, last in _boxes(data, start, end):
        if kind in kinds:
            if kind in found:
                raise BrokenPicture("The file says twice what is in it; save it anew.")
            found[kind] = first, last
    return found


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, and from and to of the content, of each box in a part of the file. What is no box ends it."""
    count = 0
    while start + 8 <= end:
        size, kind = struct.unpack_from(">L4s", data, start)
        content = start + 8
        if size == 1:
            size, content = struct.unpack_from(">Q", data, content)[0], content + 8
        size = end - start if size == 0 else size
        count += 1
        if size < content - start:
            return
        if count > MOST_BOXES:
            raise BrokenPicture("The file is in too many parts; save it anew.")
        yield kind, content, min(start + size, end)
        start += size


def _read_kinds(data: bytes, start: int, end: int, items: _Items) -> None:
    for kind, first, _ in _boxes(data, start + (6 if data[start] == 0 else 8), end):
        if kind == b"infe" and data[first] >= 2:
            item, name = struct.unpack_from(">Hxx4s" if data[first] == 2 else ">Lxx4s", data, first + 4)
            if name == b"av01":
                items.coded.add(item)
            if not data[first + 3] & 1:
                items.shown.add(item)


def _read_places(data: bytes, start: int, own: int, items: _Items) -> None:
    version = data[start]
    offset_size, length_size = data[start + 4] >> 4, data[start + 4] & 15
    base_size, index_size = data[start + 5] >> 4, data[start + 5] & 15 if version else 0
    wide = 4 if version == 2 else 2
    cursor = _Cursor(data, start + 6)
    left = MOST_BOXES
    for _ in range(cursor.take(wide)):
        item = cursor.take(wide)
        if item in items.places:
            raise BrokenPicture("The file says twice where a picture is; save it anew.")
        method = cursor.take(2) & 15 if version else 0
        cursor.take(2)
        base = cursor.take(base_size) + (own if method == _OF_A_BOX else 0)
        for _ in range(cursor.take(2)):
            left -= 1
            if left < 0:
                raise BrokenPicture("The file's pictures are scattered over too many places; save it anew.")
            cursor.take(index_size)
            first = base + cursor.take(offset_size)
            # No length is all that follows.
            length = cursor.take(length_size) or len(data)
            items.places[item].append((min(first, len(data)), min(first + length, len(data))))


def _read_references(data: bytes, start: int, end: int, items: _Items) -> None:
    wide = 4 if data[start] else 2
    for kind, first, _ in _boxes(data, start + 4, end):
        if kind in (b"cdsc", b"dimg"):
            cursor = _Cursor(data, first)
            item = cursor.take(wide)
            others = [cursor.take(wide) for _ in range(cursor.take(2))]
            if kind == b"dimg":
                items.parts[item] += others
            else:
                items.described += [(item, other) for other in others]
            if len(items.described) + sum(map(len, items.parts.values())) > MOST_BOXES:
                raise BrokenPicture("The file's pictures refer to each other too often; save it anew.")


def _read_properties(data: bytes, start: int, end: int, items: _Items) -> None:
    for kind, first, last in _boxes(data, start, end):
        if kind == b"ipco":
            for name, from_, to in _boxes(data, first, last):
                items.profiles.append(to - from_ if name == b"colr" else 0)
                items.sizes.append(math.prod(struct.unpack_from(">LL", data, from_ + 4)) if name == b"ispe" else 0)
        elif kind == b"ipma":
            _read_associations(data, first, items)


def _read_associations(data: bytes, start: int, items: _Items) -> None:
    item_size = 4 if data[start] else 2
    number_size = 2 if data[start + 3] & 1 else 1
    cursor = _Cursor(data, start + 4)
    for _ in range(cursor.take(4)):
        item = cursor.take(item_size)
        for _ in range(cursor.take(1)):
            # The first bit says whether it is essential.
            items.properties.append((item, cursor.take(number_size) & (0x7FFF if number_size == 2 else 0x7F)))
        if len(items.properties) > 10 * MOST_BOXES:
            raise BrokenPicture("The file's pictures have too many properties; save it anew.")


class _Cursor:
    """Reads numbers one after another. Raises `IndexError` at the end of the file."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position

    def take(self, size: int) -> int:
        found = self._data[self._position : self._position + size]
        if len(found) < size:
            raise IndexError("the file ends within a box")
        self._position += size
        return int.from_bytes(found, "big")
