"""JPEG files decoded by a GPU (nvJPEG, through torchvision), from the size on at which it is quicker than Pillow."""

import io
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from PIL import Image

from worker.arrays import Pixels

log = logging.getLogger(__name__)

DecodeJpeg = Callable[[bytes], Pixels]
"""From a JPEG file to its pixels (H, W, 3), uint8, as they lie in it. Any thread may call it. Raises `RuntimeError`."""

TRIED_SIDES: Final = (4096, 2048, 1024, 512)
"""Px of the square files with which decoders are compared: 17 to 0.3 megapixels."""
ROUNDS: Final = 2
"""Files for each thread in a comparison."""
PAYS: Final = 0.9
"""Part of Pillow's time that a GPU may take at the most: what it decodes, it does not compute."""

_END_OF_IMAGE = b"\xff\xd9"
_YCBCR_IDS: Final = {(1, 2, 3), (0, 1, 2)}


class GpuJpegDecoder:
    """nvJPEG on one GPU."""

    def __init__(self, device: str) -> None:
        """Raises `ImportError` or `RuntimeError` where torchvision or the GPU cannot."""
        # Imported here alone: builds of torchvision and PyTorch that do not fit each other fail at the import.
        from torchvision.io import ImageReadMode, decode_jpeg

        self._decode = decode_jpeg
        self._mode = ImageReadMode.RGB
        self._device = torch.device(device)
        # torchvision writes on a stream of its own, and did not wait for those who still read the memory that it is
        # given (github.com/pytorch/vision/pull/9606). What was freed on this stream has always been read.
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def __call__(self, content: bytes) -> Pixels:
        """See `DecodeJpeg`."""
        # Whichever thread this is: else setting the stream back would open the first GPU too.
        torch.cuda.set_device(self._device.index or 0)
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            file = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            pixels_CHW = self._decode(file, self._mode, self._device)
            pixels_HWC: Pixels = pixels_CHW.permute(1, 2, 0).contiguous().cpu().numpy()
        return pixels_HWC


@dataclass(frozen=True)
class QuickJpeg:
    """A decoder for large JPEG files, and what is large."""

    decode: DecodeJpeg
    least_px: int

    def read(self, image: Image.Image, content: bytes) -> Image.Image:
        """The pixels of a file of which `image` has read the head; `image` itself where Pillow has to read them.

        That is for files that are small, cut off, or not in the usual three channels, and for those that the decoder
        refuses: Pillow says what is wrong with them.
        """
        if image.width * image.height < self.least_px or not _is_plain(image) or not _is_whole(content):
            return image
        try:
            pixels_HWC = self.decode(content)
        except RuntimeError as error:
            log.warning("Pillow decodes a JPEG that the GPU refuses: %s", str(error).partition("\n")[0])
            return image
        if pixels_HWC.shape != (image.height, image.width, 3):
            return image
        decoded = Image.fromarray(pixels_HWC)
        decoded.info = image.info  # with the orientation and the colour profile
        return decoded


def find_quick_jpeg(device: str, codec: ThreadPoolExecutor, threads: int) -> QuickJpeg | None:
    """The decoder of a GPU, if it pays for any size; see `measure_quick_jpeg`."""
    try:
        decode = GpuJpegDecoder(device)
        found = measure_quick_jpeg(decode, codec, threads)
    except (ImportError, RuntimeError) as error:
        log.warning("JPEGs cannot be decoded on %s: %s", device, str(error).partition("\n")[0])
        return None
    if found is None:
        log.info("JPEGs are decoded by Pillow, which is no slower than %s.", device)
    else:
        log.info("JPEGs of %.1f megapixels and more are decoded on %s.", found.least_px / 1e6, device)
    return found


def measure_quick_jpeg(
    decode: DecodeJpeg, codec: ThreadPoolExecutor, threads: int, sides: Sequence[int] = TRIED_SIDES
) -> QuickJpeg | None:
    """Compares a decoder with Pillow, all `threads` of `codec` decoding at once, as they do at work.

    `sides`: px of the square files, the largest first. None if Pillow is no slower even for those. Raises what the
    decoder raises.
    """
    least_px = None
    for side in sides:
        content = _trial_file(side)
        decode(content)  # the first of a size makes room for it
        files = [content] * (ROUNDS * threads)
        if _seconds(codec, decode, files) > PAYS * _seconds(codec, _decode_by_pillow, files):
            break
        least_px = side * side
    return None if least_px is None else QuickJpeg(decode, least_px)


def _seconds(codec: ThreadPoolExecutor, decode: DecodeJpeg, files: list[bytes]) -> float:
    started = time.perf_counter()
    for _ in codec.map(decode, files):
        pass
    return time.perf_counter() - started


def _decode_by_pillow(content: bytes) -> Pixels:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def _trial_file(side: int) -> bytes:
    """A square JPEG with about as many bytes a pixel as a photo has."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (side // 16, side // 16, 3), np.uint8))
    soft_HWC = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)
    grain_HW1 = random.integers(-12, 13, (side, side, 1), np.int16)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(soft_HWC + grain_HW1, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _is_plain(image: Image.Image) -> bool:
    """Whether it is a JPEG of luma and two colour differences."""
    if image.format != "JPEG" or image.mode != "RGB" or image.info.get("adobe_transform") == 0:
        return False
    components: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    return tuple(component[0] for component in components) in _YCBCR_IDS


def _is_whole(content: bytes) -> bool:
    """Whether the file ends as it should. A GPU would paint what is missing grey, without a word."""
    return content.rstrip(b"\0").endswith(_END_OF_IMAGE)
