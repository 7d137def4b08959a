"""The size of a picture in AV1, from the picture itself (AV1 Bitstream & Decoding Process Specification, 5.5)."""

from typing import Final

_SEQUENCE_HEADER: Final = 1
_MOST_PARTS: Final = 10_000
"""Of a picture; an encoder makes a handful."""
_HEADER_BYTES: Final = 256
"""More than a sequence header has before the size."""


def frame_pixels(data: bytes) -> int:
    """The most pixels that a frame may have by any of its sequence headers; 0 without one.

    Raises `IndexError` where it is cut off, or in too many parts.
    """
    most, position, parts = 0, 0, 0
    while position < len(data):
        header = data[position]
        position += 2 if header & 4 else 1
        size = len(data) - position
        if header & 2:
            size, position = _read_leb128(data, position)
        if header >> 3 & 15 == _SEQUENCE_HEADER:
            most = max(most, _sequence_pixels(data[position : position + min(size, _HEADER_BYTES)]))
        position += size
        parts += 1
        if parts > _MOST_PARTS:
            raise IndexError("a picture in too many parts")
    return most


def _read_leb128(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = data[position + index]
        value |= (byte & 127) << 7 * index
        if not byte & 128:
            return value, position + index + 1
    raise IndexError("a number without an end")


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise IndexError("the sequence header is cut off")
        return self._value >> self._left & (1 << count) - 1

    def take_uvlc(self) -> None:
        zeros = 0
        while not self.take(1):
            zeros += 1
        if zeros < 32:
            self.take(zeros)


def _sequence_pixels(data: bytes) -> int:
    bits = _Bits(data)
    bits.take(4)  # profile, still picture
    if bits.take(1):  # reduced header of a still picture
        bits.take(5)
    else:
        _pass_over_timing(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return (bits.take(width_bits) + 1) * (bits.take(height_bits) + 1)


def _pass_over_timing(bits: _Bits) -> None:
    delay_bits = 0
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):  # pictures at equal intervals
            bits.take_uvlc()
        if bits.take(1):  # a model of the decoder
            delay_bits = bits.take(5) + 1
            bits.take(42)
    delayed = bits.take(1)
    for _ in range(bits.take(5) + 1):  # operating points
        bits.take(12)
        if bits.take(5) > 7:  # the level; from there on there are tiers
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if delayed and bits.take(1):
            bits.take(4)
