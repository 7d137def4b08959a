"""The command line's grammar: `python -m training.fit style|gallery|upscale`."""

import argparse
import math
from pathlib import Path

import torch

from models.sr_net import FACTORS, UPSCALERS
from training.balance import STRENGTHS
from training.config import UpscaleWeights, parse_duration
from training.precision import PRECISIONS

DEFAULT_ZOO = Path(__file__).parents[1] / "models" / "zoo"
DEFAULT_TRUNK = "trunk-w16"
GALLERY_FILE = Path(__file__).with_name("gallery.toml")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands; `task` in what it returns says which one was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m training.fit", description="Trains styles and upscalers with the perceptual loss."
    )
    commands = parser.add_subparsers(dest="task", required=True)
    _add_style_options(commands.add_parser("style", help="train one style, by default as a vector on a trunk"))
    _add_gallery_options(commands.add_parser("gallery", help="train a trunk and all styles of a settings file"))
    _add_upscale_options(commands.add_parser("upscale", help="train an upscaler"))
    for command in commands.choices.values():
        _add_run_options(command)
        _add_machine_options(command)
    return parser


def _add_style_options(style: argparse.ArgumentParser) -> None:
    style.add_argument("image", type=Path, help="the style image")
    style.add_argument("--name", help="what requests call the style; by default the image's file name")
    style.add_argument("--trunk", default=DEFAULT_TRUNK, help="trunk of the zoo to train on (default: %(default)s)")
    style.add_argument("--from-scratch", action="store_true", help="train the paper's network for this style alone")
    style.add_argument("--width", type=int, default=16, help="width of that network (default: %(default)s)")
    weights = style.add_argument_group("how much style")
    weights.add_argument(
        "--strength", choices=STRENGTHS, default="normal", help="the one dial most people need (default: %(default)s)"
    )
    weights.add_argument("--style-weight", type=float, help="replaces what --strength works out; the gallery has 1e5")
    weights.add_argument("--content-weight", type=float, default=1.0, help="default: %(default)s")
    weights.add_argument("--tv-weight", type=float, default=1.0, help="smoothness; default: %(default)s")
    card = style.add_argument_group("for the style's card")
    card.add_argument("--title", default="", help="what the style image is called")
    card.add_argument("--artist", default="", help="who made it")
    card.add_argument("--year", default="", help="when")
    card.add_argument("--terms", default="", help="the terms it may be used under")


def _add_gallery_options(gallery: argparse.ArgumentParser) -> None:
    gallery.add_argument("--settings", type=Path, default=GALLERY_FILE, help="default: %(default)s")
    gallery.add_argument("--styles", type=Path, required=True, help="folder of the style images")
    gallery.add_argument("--width", type=int, help="replaces the width in the settings")
    start = gallery.add_mutually_exclusive_group()
    start.add_argument("--start-from", type=Path, metavar="ZOO", help="go on with the trunk and styles of a zoo")
    start.add_argument(
        "--widen-from", type=Path, metavar="ZOO", help="start a trunk of --width from a zoo's narrower one"
    )


def _add_upscale_options(upscale: argparse.ArgumentParser) -> None:
    upscale.add_argument("--factor", type=int, default=4, choices=FACTORS, help="default: %(default)s")
    upscale.add_argument("--architecture", default="compact", choices=sorted(UPSCALERS), help="default: %(default)s")
    upscale.add_argument("--name", help="default: x and the factor")
    upscale.add_argument("--pixel-weight", type=float, default=UpscaleWeights.pixel, help="default: %(default)s")
    upscale.add_argument("--feature-weight", type=float, default=UpscaleWeights.feature, help="default: %(default)s")
    upscale.add_argument(
        "--texture-weight",
        type=float,
        default=UpscaleWeights.texture,
        help="default: %(default)s; 0, as the feature weight: the per-pixel loss alone",
    )
    upscale.add_argument(
        "--color-weight", type=float, default=UpscaleWeights.color, help="of local mean colours; default: %(default)s"
    )
    upscale.add_argument(
        "--adversarial-weight",
        type=float,
        default=UpscaleWeights.adversarial,
        help="of a discriminator's verdict, 0 for none; default: %(default)s",
    )
    upscale.add_argument(
        "--repetition-weight",
        type=float,
        default=UpscaleWeights.repetition,
        help="of strokes that repeat from input to input; default: %(default)s",
    )
    upscale.add_argument(
        "--start-from",
        type=Path,
        help="archive of an upscaler whose weights to start from; for a progressive one also one of half the factor",
    )
    upscale.add_argument(
        "--warm-up", type=int, metavar="STEPS", help="of the per-pixel loss alone (default: half the first stage)"
    )
    upscale.add_argument(
        "--blur-sigma", type=float, default=0.0, help="px; blur before the reduction, 1.0 in the paper"
    )
    upscale.add_argument(
        "--jpeg-share",
        type=_share,
        default=0.5,
        help="of the pictures saved as JPEG after it, so that blocks are not enlarged; default: %(default)s",
    )


def duration(text: str) -> float:
    """Seconds in `90s`, `30m` or `2h`. Raises `ArgumentTypeError`: argparse shows no other error's sentence."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: give 0 to 1")
    return share


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    run = parser.add_argument_group("the run")
    run.add_argument("--photos", type=Path, required=True, help="folder of photos to train on")
    run.add_argument("--loss-weights", type=Path, help="VGG-16 weights; without it they are downloaded, once")
    run.add_argument(
        "--zoo",
        type=Path,
        default=DEFAULT_ZOO,
        help="where the result goes, and where a style looks for its trunk (default: %(default)s)",
    )
    # torchrun takes --run for an abbreviation of its own, hence the second name.
    run.add_argument("--run", "--run-dir", type=Path, help="folder for checkpoints and previews (default: runs/NAME)")
    run.add_argument("--resume", action="store_true", help="go on from the run's checkpoint")
    run.add_argument("--finish", action="store_true", help="export what the checkpoint holds without training more")
    run.add_argument("--stages", nargs="+", metavar="STEPSxBATCH@SIZE", help="replaces the planned stages")
    run.add_argument("--learning-rate", type=float, help="until half of the run is done, then it falls")
    run.add_argument("--seed", type=int, help="of the first weights and of the crops (default: 0)")


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, cuda:1")
    machine.add_argument(
        "--precision", choices=PRECISIONS, default="auto", help="auto: bfloat16 where the device has it; default: auto"
    )
    machine.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    machine.add_argument("--data-processes", type=int, default=1, help="processes that read photos (default: 1)")
    machine.add_argument(
        "--save-every", type=duration, default=180.0, metavar="DURATION", help="between checkpoints; default: 3m"
    )
    machine.add_argument(
        "--time-limit", type=duration, default=math.inf, metavar="DURATION", help="stop after, as in 30m"
    )
    machine.add_argument("--tensorboard", action="store_true", help="log the losses into the run's folder")
