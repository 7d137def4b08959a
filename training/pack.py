"""Packs photos and the loss network light enough to travel: `python -m training.pack`."""

import argparse
import logging
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from safetensors.torch import save_file

from training.checkpoint import write_whole
from training.data import list_photos
from training.errors import TrainingError
from training.losses import load_loss_network
from training.pictures import read_rgb, save_image

WEIGHTS = "vgg16_relu4_3_fp16.safetensors"

log = logging.getLogger("training")


def pack_photos(source: Path, target: Path, short_side: int, most_bytes: float = math.inf) -> int:
    """Writes readable photos as JPEGs whose shorter side is at most `short_side` px. Returns how many.

    Where all of them would be more than `most_bytes`, some of all the folder are written. Raises `PhotosError` or
    `CheckpointError`.
    """
    packed = 0
    paths = list(enumerate(list_photos(source)))
    # Folders are sorted by what photos are of, more often than not.
    random.Random(0).shuffle(paths)  # noqa: S311
    for number, path in paths:
        try:
            photo = read_rgb(path)
        except OSError:
            log.warning("%s cannot be read: left out.", path)
            continue
        file = target / f"{number:06d}.jpg"
        save_image(_shrink(photo, short_side), file)
        most_bytes -= file.stat().st_size
        if most_bytes < 0:
            file.unlink()
            break
        packed += 1
    return packed


def _shrink(photo: Image.Image, short_side: int) -> Image.Image:
    scale = short_side / min(photo.size)
    if scale >= 1:
        return photo
    return photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)


def pack_loss_network(weights: Path | None, target: Path) -> None:
    """Writes VGG-16 up to relu4_3 in half precision, 15 MB. Raises `LossWeightsError` or `CheckpointError`."""
    state = load_loss_network(weights).features.state_dict()
    half = {f"features.{name}": value.half().contiguous() for name, value in state.items()}
    write_whole(target / WEIGHTS, lambda temporary: save_file(half, temporary))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns the exit status: 0 done, 1 a sentence says why not."""
    parser = argparse.ArgumentParser(prog="python -m training.pack", description=__doc__)
    parser.add_argument("target", type=Path, help="folder to write: photos/ and the loss network's weights")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--loss-weights", type=Path, help="VGG-16 weights; without it they are downloaded, once")
    parser.add_argument("--short-side", type=int, default=288, help="px (default: %(default)s)")
    parser.add_argument(
        "--most-mb", type=float, default=60.0, help="of all files; some photos are left out then (default: %(default)g)"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        pack_loss_network(options.loss_weights, options.target)
        room = options.most_mb * 1e6 - (options.target / WEIGHTS).stat().st_size
        count = pack_photos(options.photos, options.target / "photos", options.short_side, room)
    except TrainingError as error:
        log.error("%s", error)
        return 1
    log.info("Packed %d photos and the loss network into %s.", count, options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
