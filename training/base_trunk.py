"""The trunk that a new style is trained on: found before anything is computed, and brought along into a new zoo."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from models.card import ModelCard, Task
from models.style_net import StyleTrunk
from training.checkpoint import write_whole
from training.errors import CheckpointError
from training.options import DEFAULT_ZOO
from training.zoo import read_card, read_styles, read_trunk

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BaseTrunk:
    """A trunk that stays as it is."""

    trunk: StyleTrunk
    card: ModelCard
    path: Path

    def known_styles(self, zoo: Path) -> dict[str, Tensor]:
        """Vectors (P,) of this trunk, by name: those shipped, and those of a zoo."""
        styles = [style for folder in (DEFAULT_ZOO, zoo) for style in read_styles(folder, self.card.digest)]
        return {style.card.name: style.norm_P for style in styles}

    def bring_into(self, zoo: Path) -> None:
        """Copies the trunk into a zoo that is not its own, where styles on it could not be served without it.

        Raises `CheckpointError`.
        """

        def copy(temporary: Path) -> None:
            shutil.copyfile(self.path, temporary)

        if self.path.parent != zoo:
            write_whole(zoo / self.path.name, copy)


def find_base(zoo: Path, name: str) -> BaseTrunk:
    """A zoo's trunk of that name, or the shipped one where the zoo has no trunk at all. Raises `CheckpointError`.

    Beside other trunks it does not stand in: styles of different ones cannot be blended, and the name may be a slip.
    """
    path = zoo / f"{name}.pt"
    if not path.exists():
        path = _shipped_trunk(zoo, name)
        log.info("%s has no trunk: %s is trained on, and copied there with the style.", zoo, path)
    return BaseTrunk(*read_trunk(path), path)


def _shipped_trunk(zoo: Path, name: str) -> Path:
    own, shipped = _trunk_names(zoo), DEFAULT_ZOO / f"{name}.pt"
    if own:
        there = f"it has {', '.join(own)}"
    elif shipped.exists():
        return shipped
    else:
        there = f"{DEFAULT_ZOO} has {', '.join(_trunk_names(DEFAULT_ZOO)) or 'none'}"
    raise CheckpointError(
        f"There is no trunk {name!r} in {zoo}; {there}: give one of these with --trunk, copy "
        f"{shipped if shipped.exists() else shipped.name} to {zoo}, or train a network for this style alone with "
        "--from-scratch."
    )


def _trunk_names(zoo: Path) -> list[str]:
    cards = {path.stem: read_card(path) for path in sorted(zoo.glob("*.pt"))}
    return [name for name, card in cards.items() if card is not None and card.task is Task.STYLE_TRUNK]
