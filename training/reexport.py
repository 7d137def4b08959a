"""`python -m training.reexport models/zoo/trunk-w16.pt`: writes trunks again as this version of the code exports them.

Weights and digest stay as they are, so the styles trained on a trunk still fit. Trunks exported before large photos
were painted in stages gain the methods for that. Vectors from before styles mixed channels gain mixes that change
nothing: they, too, are written again, in the trunk's folder.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from training.errors import TrainingError
from training.export import export_style, export_trunk
from training.zoo import read_styles, read_trunk_of_any_version


def reexport_trunk(path: Path) -> None:
    """Writes a zoo's trunk anew in its place, and its styles where they are of an earlier version.

    Raises `CheckpointError`, and leaves the file as it was.
    """
    trunk, card = read_trunk_of_any_version(path)
    export_trunk(trunk, replace(card, norm_size=trunk.norm_size), path)
    for style in read_styles(path.parent, card.digest):
        added_P = trunk.neutral_norm()[style.norm_P.numel() :]
        if added_P.numel():
            style_card = replace(style.card, norm_size=trunk.norm_size)
            export_style(torch.cat([style.norm_P, added_P]), style_card, path.parent / f"{style.card.name}.safetensors")


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the trunks named on the command line anew. Returns the exit status."""
    parser = argparse.ArgumentParser("python -m training.reexport", description=reexport_trunk.__doc__)
    parser.add_argument("trunks", nargs="+", type=Path, help="archives of trunks")
    for path in parser.parse_args(arguments).trunks:
        try:
            reexport_trunk(path)
        except TrainingError as error:
            parser.exit(1, f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
