"""Which files of a zoo are served where several could be. Pure: no torch, no disk."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.card import ModelCard
from worker.errors import ZooError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """Files to serve, and those that another keeps from being served."""

    paths: list[Path] = field(default_factory=list)
    refused: list[ZooError] = field(default_factory=list)


def choose_styles(cards: Mapping[Path, ModelCard], trunks: Mapping[str, ModelCard], preferred: str) -> Choice:
    """One file for each style's name: the first on the preferred trunk, else the first.

    `trunks`: cards by digest. Others of the name are passed over if they are for another trunk, else refused.
    """
    choice = Choice()
    chosen: dict[str, ModelCard] = {}
    for path in sorted(cards, key=lambda path: trunks[cards[path].trunk_digest or ""].name != preferred):
        card = cards[path]
        before = chosen.setdefault(card.name, card)
        if before is card:
            choice.paths.append(path)
        elif before.trunk_digest == card.trunk_digest:
            choice.refused.append(ZooError(f"{path.name} is refused: another file holds a style {card.name!r}."))
        else:
            log.debug("%s is passed over: %s is served on another trunk.", path, card.name)
    return choice


def choose_upscalers(cards: Mapping[Path, ModelCard]) -> Choice:
    """One file for each factor: the first."""
    choice = Choice()
    chosen: dict[int | None, ModelCard] = {}
    for path, card in cards.items():
        before = chosen.setdefault(card.factor, card)
        if before is card:
            choice.paths.append(path)
        else:
            choice.refused.append(ZooError(f"{path.name} is refused: {before.name} has its factor {card.factor}."))
    return choice
