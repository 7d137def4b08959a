"""Measures what a zoo holds: `python -m training.evaluate styles|upscale|all`."""

import argparse
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from training.checkpoint import write_whole
from training.config import parse_duration
from training.data import list_photos
from training.errors import CheckpointError, TrainingError
from training.losses import load_loss_network
from training.lpips import load_lpips
from training.options import DEFAULT_TRUNK, DEFAULT_ZOO
from training.pictures import save_image
from training.report import styles_report, upscale_report
from training.sheets import styles_contact_sheet, upscale_contact_sheet
from training.style_quality import StyleExam, read_gallery_of
from training.upscale_quality import UpscaleExam, read_upscalers

BENCHMARKS = ("Set5", "Set14", "BSD100")
SHEET_PHOTOS = 4

log = logging.getLogger("training")


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("task", choices=["styles", "upscale", "all"])
    parser.add_argument("--zoo", type=Path, nargs="+", default=[DEFAULT_ZOO], help="folders (default: %(default)s)")
    parser.add_argument("--benchmarks", type=Path, required=True, help="folder that holds Set5, Set14 and BSD100")
    parser.add_argument("--out", type=Path, default=Path("docs/quality"), help="default: %(default)s")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    parser.add_argument("--photos-count", type=int, help="photos: 10 for styles, all for upscalers")
    _add_style_options(parser.add_argument_group("styles"))
    upscale = parser.add_argument_group("upscalers")
    upscale.add_argument("--lpips-weights", type=Path, help="AlexNet's and LPIPS v0.1's, safetensors")
    return parser


def _add_style_options(styles: argparse._ArgumentGroup) -> None:
    styles.add_argument("--trunk", default=DEFAULT_TRUNK, help="default: %(default)s, of the first zoo folder")
    styles.add_argument("--styles", nargs="+", default=[], metavar="NAME", help="default: all of the trunk")
    styles.add_argument("--style-images", type=Path, help="folder of the style images, named as the styles")
    styles.add_argument("--loss-weights", type=Path, help="VGG-16 weights; without it torchvision downloads them")
    styles.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="px (default: 256 512)")
    styles.add_argument("--rival-photos", type=int, default=math.inf, help="photos to optimise directly (default: all)")
    styles.add_argument("--iterations", type=int, default=300, help="of direct optimisation (default: %(default)s)")
    styles.add_argument(
        "--budget", type=parse_duration, default=math.inf, metavar="DURATION", help="start no rival after, as in 30m"
    )


def evaluate_styles(options: argparse.Namespace) -> None:
    """Writes `styles.md` and `styles.jpg`. Raises a `TrainingError` for what a person can mend."""
    if options.style_images is None:
        raise CheckpointError("Style images are needed to measure styles: give their folder with --style-images.")
    device = torch.device(options.device)
    trunk, styles = read_gallery_of(options.zoo[0], options.trunk, options.styles)
    if not styles:
        raise CheckpointError(f"No style of {options.trunk} in {options.zoo[0]}: check --zoo, --trunk and --styles.")
    photos = spread(list_photos(options.benchmarks / "BSD100"), options.photos_count or 10)
    exam = StyleExam(
        load_loss_network(options.loss_weights).to(device),
        options.style_images,
        photos,
        options.sizes,
        device,
        options.rival_photos,
        options.iterations,
        time.monotonic() + options.budget,
    )
    results = exam.measure(trunk, styles)
    heading = (
        f"Trunk `{trunk.card.name}` (width {trunk.card.width}, digest `{trunk.card.digest[:12]}`), "
        f"{len(styles)} styles, {len(photos)} photos of BSD100, none of which was trained on. Objective: content loss "
        "at relu2_2 (weight 1) and style loss (mean squared Gram difference, weight 1e5, style image at 512 px)."
    )
    write_text(options.out / "styles.md", styles_report(results, heading))
    save_image(
        styles_contact_sheet(trunk, styles, photos[:SHEET_PHOTOS], options.style_images), options.out / "styles.jpg"
    )


def evaluate_upscalers(options: argparse.Namespace) -> None:
    """Writes `upscale.md` and `upscale.jpg`. Raises a `TrainingError` for what a person can mend."""
    if options.lpips_weights is None:
        raise CheckpointError("LPIPS needs its weights: give their file with --lpips-weights.")
    upscalers = read_upscalers(options.zoo)
    if not upscalers:
        raise CheckpointError(f"No upscaler in {', '.join(map(str, options.zoo))}: check --zoo.")
    folders = [options.benchmarks / name for name in BENCHMARKS]
    exam = UpscaleExam(folders, load_lpips(options.lpips_weights), torch.device(options.device), options.photos_count)
    heading = (
        "Reduced by Pillow's bicubic. PSNR (dB) and SSIM on BT.601 luma, `factor` px of border left out; LPIPS v0.1 "
        "(AlexNet), lower is better. Colour: greatest difference of a picture's mean from its input's."
    )
    write_text(options.out / "upscale.md", upscale_report(exam.run(upscalers), heading))
    photos = spread(list_photos(folders[-1]), SHEET_PHOTOS)
    save_image(upscale_contact_sheet(list(upscalers.values()), photos), options.out / "upscale.jpg")


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """`count` paths evenly spread over all, or all if they are fewer."""
    count = min(count, len(paths))
    return [paths[index * len(paths) // count] for index in range(count)]


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all. Raises `CheckpointError`."""

    def write(temporary: Path) -> None:
        temporary.write_text(text)

    write_whole(path, write)


EXAMS: Mapping[str, Sequence[Callable[[argparse.Namespace], None]]] = {
    "styles": (evaluate_styles,),
    "upscale": (evaluate_upscalers,),
    "all": (evaluate_styles, evaluate_upscalers),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns the exit status: 0 done, 1 a sentence says why not."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        for exam in EXAMS[options.task]:
            exam(options)
    except TrainingError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
