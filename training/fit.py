"""Command line of the training: `python -m training.fit style|gallery|upscale`."""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence

import torch

from training.distributed import ProcessGroup, join_processes
from training.errors import TrainingError
from training.heap import keep_freed_memory
from training.options import build_parser
from training.style_runs import fit_gallery, fit_style
from training.upscale_runs import fit_upscale

COMMANDS: Mapping[str, Callable[[argparse.Namespace, ProcessGroup], int]] = {
    "style": fit_style,
    "gallery": fit_gallery,
    "upscale": fit_upscale,
}

log = logging.getLogger("training")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns the exit status: 0 done, 1 a sentence says why not, 130 stopped before the end."""
    options = build_parser().parse_args(arguments)
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        with join_processes() as group:
            # One voice is enough: the others speak up only about what goes wrong.
            logging.basicConfig(level=logging.INFO if group.leads else logging.WARNING, format="%(message)s")
            return COMMANDS[options.task](options, group)
    except TrainingError as error:
        log.error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
