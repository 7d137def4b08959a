"""How a file is built, counted before a library believes it.

Whoever opens a file keeps something for each of its segments, chunks, strips or items: up to a thousand bytes for every
byte that came. And a file may name one size, and hold pictures of another. What programs and phones write stays far
below these limits.
"""

import re
import struct
from typing import Final

from service.isobmff import coded_pixels, copied_metadata, has_movie, shown_pixels
from service.problems import AnimatedPicture, BrokenPicture, TooManyPixels

MOST_SEGMENTS: Final = 1_000
"""Of a JPEG before its picture, or of chunks of a PNG beside the picture's."""
MOST_CHUNKS: Final = 65_536
"""Of a PNG, also the picture's."""
MOST_SCANS: Final = 100
"""Of a JPEG. Decoders go over the whole picture for each, however few bytes it has: 25 to 100 ms for 50 megapixels.
Encoders write about ten, and libtiff takes as many as this of a JPEG within a TIFF."""
MOST_EXIF: Final = 4_000_000
"""Bytes, of a JPEG. Pillow puts the parts together one by one."""
MOST_JUNK: Final = 65_536
"""Bytes of a JPEG that belong to no segment, which Pillow reads one by one."""
MOST_STRIPS: Final = 65_536
"""Of a TIFF, or tiles."""
MOST_RUNS: Final = 4_000_000
"""Bytes, or pixels, of a BMP that is packed in runs. Pillow unpacks it in Python: half a second for so many pixels, two
for so many bytes."""
MOST_METADATA: Final = 16_000_000
"""Bytes of profiles and of EXIF that a HEIC gives to all its pictures, each of which gets a copy."""
MOST_CODED: Final = 4
"""Times the pixels that are taken: a picture, its opacity, and tiles that reach beyond its edges."""

_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_SEGMENT = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
"""How a segment of a JPEG begins. Among a picture's own bytes, FF is followed by 0 or by the number of a restart."""
_PACKED_IN_RUNS = (1, 2)
"""BMP's numbers for it."""
_PICTURE_CHUNKS = (b"IDAT", b"fdAT", b"fcTL")
_STRIP_OFFSETS, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS = 273, 322, 323, 324
_WHOLE_NUMBERS = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 16: 8, 17: 8}
"""TIFF's types of them, and their bytes."""


def check_structure(data: bytes, found: str, max_pixels: int) -> None:
    """Raises `BrokenPicture`, `AnimatedPicture` or `TooManyPixels` for what would cost far more than it came as.

    `found`: the format, an `InputFormat`. Those that are not known here are not looked at.
    """
    try:
        if found == "jpeg":
            _check_jpeg(data)
        elif found == "png":
            _check_png(data)
        elif found == "tiff":
            _check_tiff(data, max_pixels)
        elif found == "heif":
            _check_heif(data, max_pixels)
        elif found == "avif":
            _check_avif(data, max_pixels)
        elif found == "bmp":
            _check_bmp(data)
    except (struct.error, IndexError) as error:
        raise BrokenPicture(f"The {found.upper()} file's header is damaged or incomplete; send it again.") from error


def _check_jpeg(data: bytes) -> None:
    position, segments, exif, junk = 2, 0, 0, 0
    while position + 4 <= len(data) and not data.startswith(b"\xff\xda", position):
        marker = data[position + 1]
        if data[position] != 0xFF:
            start = data.find(b"\xff", position)
            junk += (len(data) if start < 0 else start) - position
            position = len(data) if start < 0 else start
        elif marker in (0x00, 0xFF):
            junk += 1
            position += 1 if marker else 2
        else:
            segments += 1
            length = 0 if marker == 0x01 or 0xD0 <= marker <= 0xD9 else max(_number(data, position + 2, 2), 2)
            exif += length if data.startswith(b"Exif\0\0", position + 4) else 0
            position += 2 + length
        if segments > MOST_SEGMENTS or exif > MOST_EXIF or junk > MOST_JUNK:
            raise BrokenPicture("The JPEG file has too many parts before its picture; save it anew.")
    _check_scans(data, position)


def _check_scans(data: bytes, position: int) -> None:
    """Of a JPEG, from its first scan on. What comes behind the picture, as a film or further pictures, is not its."""
    scans, segments = 0, 0
    while (segment := _SEGMENT.search(data, position)) and (marker := data[segment.start() + 1]) != _END_OF_IMAGE:
        scans += marker == _SCAN
        segments += 1
        position = segment.end() + max(_number(data, segment.end(), 2), 2)
        if scans > MOST_SCANS or segments > MOST_SEGMENTS:
            raise BrokenPicture("The JPEG file has its picture in too many parts; save it anew.")


def _check_png(data: bytes) -> None:
    position, chunks, others = 8, 0, 0
    while position + 8 <= len(data) and (kind := data[position + 4 : position + 8]) != b"IEND":
        chunks += 1
        others += kind not in _PICTURE_CHUNKS
        position += 12 + _number(data, position, 4)
        if chunks > MOST_CHUNKS or others > MOST_SEGMENTS:
            raise BrokenPicture("The PNG file has too many parts; save it anew.")


def _check_tiff(data: bytes, max_pixels: int) -> None:
    order = "<" if data.startswith(b"I") else ">"
    if data[2] == 43 or data[3] == 43:
        start = struct.unpack_from(order + "Q", data, 8)[0]
        (entries,), start, entry = (
            struct.unpack_from(order + "Q", data, start),
            start + 8,
            struct.Struct(order + "HHQ8s"),
        )
    else:
        start = struct.unpack_from(order + "L", data, 4)[0]
        (entries,), start, entry = (
            struct.unpack_from(order + "H", data, start),
            start + 2,
            struct.Struct(order + "HHL4s"),
        )
    tile = {_TILE_WIDTH: 0, _TILE_HEIGHT: 0}
    for index in range(min(entries, MOST_STRIPS)):
        tag, kind, count, value = entry.unpack_from(data, start + index * entry.size)
        if tag in (_STRIP_OFFSETS, _TILE_OFFSETS) and count > MOST_STRIPS:
            raise BrokenPicture("The TIFF file is cut into too many pieces; save it anew.")
        if tag in tile and kind in _WHOLE_NUMBERS:
            size = int.from_bytes(value[: _WHOLE_NUMBERS[kind]], "little" if order == "<" else "big")
            tile[tag] = max(tile[tag], size)
    if tile[_TILE_WIDTH] * tile[_TILE_HEIGHT] > max_pixels:
        raise _too_many_pixels("TIFF", max_pixels)


def _check_bmp(data: bytes) -> None:
    header, width, height = struct.unpack_from("<Lll", data, 14)
    if header < 40 or struct.unpack_from("<L", data, 30)[0] not in _PACKED_IN_RUNS:
        return
    if max(abs(width * height), len(data)) > MOST_RUNS:
        raise BrokenPicture("The BMP file is packed in runs, and large; save it unpacked, or as PNG.")


def _check_heif(data: bytes, max_pixels: int) -> None:
    if copied_metadata(data) > MOST_METADATA:
        raise BrokenPicture("The HEIF file holds more metadata than pictures; save it anew.")
    if shown_pixels(data) > MOST_CODED * max_pixels:
        raise _too_many_pixels("HEIF", max_pixels)


def _check_avif(data: bytes, max_pixels: int) -> None:
    if has_movie(data):
        raise AnimatedPicture.of_format("avif")
    pictures = coded_pixels(data)
    if max(pictures, default=0) > max_pixels or sum(pictures) > MOST_CODED * max_pixels:
        raise _too_many_pixels("AVIF", max_pixels)


def _too_many_pixels(name: str, max_pixels: int) -> TooManyPixels:
    return TooManyPixels(
        f"The {name} file holds more pixels than its size says; at most {max_pixels / 1e6:g} megapixels are taken.",
        extensions={"max_pixels": max_pixels},
    )


def _number(data: bytes, position: int, size: int) -> int:
    return int.from_bytes(data[position : position + size], "big")
