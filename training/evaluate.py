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
from training.config import StyleWeights
from training.data import list_photos
from training.errors import CheckpointError, ConfigError, TrainingError
from training.heap import keep_freed_memory
from training.losses import STYLE_IMAGE_SIZE, load_loss_network
from training.lpips import load_lpips
from training.options import DEFAULT_TRUNK, DEFAULT_ZOO, duration
from training.pictures import save_image
from training.report import upscale_report
from training.rivals import Rivals
from training.sheets import previews_sheet, styles_contact_sheet, upscale_contact_sheet, upscale_examples
from training.style_quality import Gallery, StyleExam, read_galleries
from training.style_report import styles_report
from training.upscale_quality import JPEG_QUALITY, UpscaleExam, read_upscalers

BENCHMARKS = ("Set5", "Set14", "BSD100")
SHEET_PHOTOS = 4
SHOWN_FACTOR = 4
"""Of the few examples that stand in for all enlargements."""

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
    styles.add_argument(
        "--trunk", nargs="+", default=[DEFAULT_TRUNK], metavar="NAME", help=f"of the zoos (default: {DEFAULT_TRUNK})"
    )
    styles.add_argument("--styles", nargs="+", default=[], metavar="NAME", help="default: all of the trunk")
    styles.add_argument("--style-images", type=Path, help="folder of the style images, named as the styles")
    styles.add_argument("--loss-weights", type=Path, help="VGG-16 weights; without it they are downloaded, once")
    styles.add_argument(
        "--style-weight", type=float, default=StyleWeights.style, help="of the objective (default: %(default)g)"
    )
    styles.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="px (default: 256 512)")
    styles.add_argument(
        "--rival-photos", type=int, nargs="+", metavar="N", help="photos to optimise directly, one number or one a size"
    )
    styles.add_argument(
        "--rivals", type=Path, default=Path("runs/rivals"), help="folder that keeps them (default: %(default)s)"
    )
    styles.add_argument("--iterations", type=int, default=300, help="of direct optimisation (default: %(default)s)")
    styles.add_argument(
        "--budget", type=duration, default=math.inf, metavar="DURATION", help="start no rival after, as in 30m"
    )


def check_options(options: argparse.Namespace) -> None:
    """Raises `ConfigError` for what is missing: styles take hours, after which upscalers should not fail for a name."""
    if evaluate_styles in EXAMS[options.task] and options.style_images is None:
        raise ConfigError("Style images are needed to measure styles: give their folder with --style-images.")
    if evaluate_upscalers in EXAMS[options.task] and options.lpips_weights is None:
        raise ConfigError("LPIPS needs its weights: give their file with --lpips-weights.")


def evaluate_styles(options: argparse.Namespace) -> None:
    """Writes `styles.md`, `styles.jpg` and `gallery.jpg`. Raises a `TrainingError` for what a person can mend."""
    galleries = read_galleries(options.zoo, options.trunk, options.styles)
    photos = spread(list_photos(options.benchmarks / "BSD100"), options.photos_count or 10)
    device = torch.device(options.device)
    exam = StyleExam(
        load_loss_network(options.loss_weights).to(device),
        options.style_images,
        photos,
        rival_counts(options.sizes, options.rival_photos, len(photos)),
        Rivals(options.rivals, options.iterations, time.monotonic() + options.budget),
        device,
        options.style_weight,
    )
    measures = exam.measure(galleries)
    write_text(options.out / "styles.md", styles_report(measures, styles_heading(galleries, exam)))
    sheet = styles_contact_sheet(galleries, photos[:SHEET_PHOTOS], options.style_images)
    save_image(sheet, options.out / "styles.jpg")
    previews = [options.zoo[0] / f"{style.card.name}.jpg" for style in galleries[0].styles]
    if all(path.exists() for path in previews):
        save_image(previews_sheet(previews), options.out / "gallery.jpg")


def styles_heading(galleries: Sequence[Gallery], exam: StyleExam) -> str:
    """What was measured, in a paragraph."""
    trunks = ", ".join(
        f"`{gallery.label}` (width {gallery.trunk.card.width}, digest `{gallery.trunk.card.digest[:12]}`)"
        for gallery in galleries
    )
    return (
        f"{trunks}; {len(exam.photos)} photos of BSD100. Objective: content loss at relu2_2 (weight 1) and style loss "
        f"(mean squared Gram difference, weight {exam.style_weight:g}, style image at {STYLE_IMAGE_SIZE} px)."
    )


def rival_counts(sizes: Sequence[int], counts: Sequence[int] | None, photos: int) -> dict[int, int]:
    """By size: on how many photos direct optimisation is run. Raises `ConfigError`."""
    given = list(counts or [photos])
    if len(given) not in (1, len(sizes)):
        raise ConfigError("--rival-photos takes one number, or one for each of --sizes.")
    return dict(zip(sizes, given if len(given) == len(sizes) else given * len(sizes), strict=True))


def evaluate_upscalers(options: argparse.Namespace) -> None:
    """Writes `upscale.md`, `upscale.jpg` and `enlarged.jpg`. Raises a `TrainingError` for what a person can mend."""
    upscalers = read_upscalers(options.zoo)
    if not upscalers:
        raise CheckpointError(f"No upscaler in {', '.join(map(str, options.zoo))}: check --zoo.")
    folders = [options.benchmarks / name for name in BENCHMARKS]
    exam = UpscaleExam(folders, load_lpips(options.lpips_weights), torch.device(options.device), options.photos_count)
    heading = (
        "Reduced by Pillow's bicubic. PSNR (dB) and SSIM on BT.601 luma, `factor` px of border left out; LPIPS v0.1 "
        "(AlexNet), lower is better. LPIPS of JPEG, on the same benchmarks: the input had been one of quality "
        f"{JPEG_QUALITY}. Colour: each channel's mean minus the input's, where it is off most. Grid: how many dB more "
        "power than the truth has at the frequencies of a grid of `factor` px, on the same benchmarks."
    )
    write_text(options.out / "upscale.md", upscale_report(exam.run(upscalers), heading))
    photos = spread(list_photos(folders[-1]), SHEET_PHOTOS)
    save_image(upscale_contact_sheet(list(upscalers.values()), photos), options.out / "upscale.jpg")
    shown = next((it for it in upscalers.values() if it.card.factor == SHOWN_FACTOR), next(iter(upscalers.values())))
    save_image(upscale_examples(shown, photos), options.out / "enlarged.jpg")


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
    keep_freed_memory()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        check_options(options)
        for exam in EXAMS[options.task]:
            exam(options)
    except TrainingError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
