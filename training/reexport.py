"""`python -m training.reexport models/zoo/trunk-w16.pt`: writes trunks again as this version of the code exports them.

Weights, digest and card stay as they are, so the styles trained on a trunk still fit. Trunks exported before large
photos were painted in stages gain the methods for that.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.errors import TrainingError
from training.export import export_trunk
from training.zoo import read_trunk


def reexport_trunk(path: Path) -> None:
    """Writes a zoo's trunk anew in its place. Raises `CheckpointError`, and leaves the file as it was."""
    trunk, card = read_trunk(path)
    export_trunk(trunk, card, path)


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
