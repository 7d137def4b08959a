"""`python -m training.average a.pt b.pt --out models/zoo/x8.pt`: the mean of upscalers that grew from one another.

Stretches of training with other patches or weights err in different ways, and the mean of their weights often has less
of both errors (Wortsman et al., "Model soups", 2022). It is one network, as fast as each.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from models.card import CardError, ModelCard
from training.checkpoint import BEFORE
from training.errors import ConfigError, TrainingError
from training.export import export_upscaler, module_digest
from training.zoo import read_upscaler

AVERAGED = "averaged_with"
"""What a card's training calls the digests of all upscalers that it is the mean of, the first one's among them."""


def average(paths: Sequence[Path], out: Path) -> None:
    """Writes the mean of upscalers. It has the first one's card, with the name of the file.

    Raises `ConfigError` for fewer than two or unlike ones, `CheckpointError` for what cannot be read or written.
    """
    (network, card), *others = [read_upscaler(path) for path in paths]
    if not others:
        raise ConfigError("A mean takes two upscalers or more.")
    for path, (_, other) in zip(paths[1:], others, strict=True):
        if (other.architecture, other.factor) != (card.architecture, card.factor):
            raise ConfigError(f"{path} is a {other.architecture} x{other.factor}, {paths[0]} is not: no mean.")
    with torch.no_grad():
        states = [network.state_dict(), *(other.state_dict() for other, _ in others)]
        network.load_state_dict({
            name: torch.stack([state[name].float() for state in states]).mean(dim=0).to(value.dtype)
            for name, value in states[0].items()
        })  # fmt: skip
    digests = [card.digest, *(other.digest for _, other in others)]
    export_upscaler(network, _mean_card(card, out.stem, digests, module_digest(network)), out)


def _mean_card(first: ModelCard, name: str, digests: Sequence[str], digest: str) -> ModelCard:
    training = {**first.training, AVERAGED: digests}
    if AVERAGED in first.training:
        training[BEFORE] = first.training
    try:
        return replace(first, name=name, training=training, digest=digest)
    except CardError as error:
        raise ConfigError(f"{name}.pt cannot be the file: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns the exit status."""
    parser = argparse.ArgumentParser("python -m training.average", description=average.__doc__)
    parser.add_argument("upscalers", nargs="+", type=Path, help="archives of one architecture and factor")
    parser.add_argument("--out", type=Path, required=True, help="archive to write")
    options = parser.parse_args(arguments)
    try:
        average(options.upscalers, options.out)
    except TrainingError as error:
        parser.exit(1, f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
