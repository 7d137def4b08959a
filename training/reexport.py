"""`python -m training.reexport models/zoo/*.pt`: writes archives again as this version of the code exports them.

Weights and digest stay as they are, so the styles trained on a trunk still fit. Trunks exported before large photos
were painted in stages gain the methods for that. Vectors from before styles mixed channels gain mixes that change
nothing: they, too, are written again, in the trunk's folder. Upscalers from before colours were kept keep them.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from models.card import Task
from training.errors import TrainingError
from training.export import export_style, export_trunk, export_upscaler
from training.zoo import read_archive, read_styles, read_trunk_of_any_version, read_upscaler


def reexport(path: Path) -> None:
    """Writes a zoo's trunk or upscaler anew in its place, and a trunk's styles where they are of an earlier version.

    Raises `CheckpointError`, and leaves the file as it was.
    """
    if read_archive(path).card.task is Task.UPSCALE:
        export_upscaler(*read_upscaler(path), path)
    else:
        _reexport_trunk(path)


def _reexport_trunk(path: Path) -> None:
    trunk, card = read_trunk_of_any_version(path)
    export_trunk(trunk, replace(card, norm_size=trunk.norm_size), path)
    for style in read_styles(path.parent, card.digest):
        added_P = trunk.neutral_norm()[style.norm_P.numel() :]
        if added_P.numel():
            style_card = replace(style.card, norm_size=trunk.norm_size)
            export_style(torch.cat([style.norm_P, added_P]), style_card, path.parent / f"{style.card.name}.safetensors")


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the archives named on the command line anew. Returns the exit status."""
    parser = argparse.ArgumentParser("python -m training.reexport", description=reexport.__doc__)
    parser.add_argument("archives", nargs="+", type=Path, help="trunks and upscalers")
    for path in parser.parse_args(arguments).archives:
        try:
            reexport(path)
        except TrainingError as error:
            parser.exit(1, f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
