"""What a run is going to write into a zoo, looked at before hours of training: nothing there is lost unawares."""

import logging
from collections.abc import Sequence
from pathlib import Path

from models.card import Task
from training.config import StyleSource
from training.errors import ConfigError
from training.zoo import read_card

log = logging.getLogger(__name__)


def check_task(path: Path, task: Task) -> None:
    """Raises `ConfigError` if a file that a run will write is there, and for another task."""
    card = read_card(path)
    if card is not None and card.task is not task:
        raise ConfigError(
            f"{path} is there and holds no {task} but a {card.task}: give another name, or another --zoo."
        )


def check_previews(zoo: Path, styles: Sequence[StyleSource]) -> None:
    """Raises `ConfigError` if the preview of a style would replace a style image."""
    images = {Path(source.path).resolve() for source in styles}
    for source in styles:
        preview = zoo / f"{source.name}.jpg"
        if preview.resolve() in images:
            raise ConfigError(
                f"The preview {preview} would replace a style image: give another name, or another --zoo."
            )


def check_trunk(zoo: Path, trunk: str, styles: Sequence[str]) -> None:
    """Raises `ConfigError` if a new trunk would leave styles behind that are not trained with it."""
    path = zoo / f"{trunk}.pt"
    check_task(path, Task.STYLE_TRUNK)
    replaced = read_card(path)
    if replaced is None:
        return
    left = [name for name, digest in _trunks_of_styles(zoo).items() if digest == replaced.digest and name not in styles]
    if left:
        raise ConfigError(
            f"{zoo} holds styles of {trunk} that this run does not train, {', '.join(left)}: they would not fit the "
            "new trunk and be served no more. Give another --zoo, and train them there again when this run is done."
        )


def check_gallery(zoo: Path, trunk: str, styles: Sequence[str]) -> None:
    """As `check_trunk`. Raises `ConfigError` also if the styles are there, on another trunk that is there.

    Where theirs is gone they cannot be served, as after a run that could not write all of its files.
    """
    check_trunk(zoo, trunk, styles)
    trunks = {card.digest: path.stem for path in sorted(zoo.glob("*.pt")) if (card := read_card(path)) is not None}
    replaced = read_card(zoo / f"{trunk}.pt")
    if replaced is not None:
        trunks.pop(replaced.digest, None)
    taken = {
        name: trunks[digest] for name, digest in _trunks_of_styles(zoo).items() if name in styles and digest in trunks
    }
    if taken:
        raise ConfigError(
            f"{zoo} holds {', '.join(taken)} on {', '.join(sorted(set(taken.values())))}, and styles of {trunk} would "
            "replace them: give another --zoo."
        )


def announce_upscaler(zoo: Path, name: str, factor: int) -> None:
    """Says what an upscaler of that name will replace, or share its factor with. Raises `ConfigError`."""
    target = zoo / f"{name}.pt"
    check_task(target, Task.UPSCALE)
    if target.exists():
        log.info("%s is there and will be replaced.", target)
    for path in sorted(zoo.glob("*.pt")):
        card = read_card(path)
        if path != target and card is not None and card.factor == factor:
            log.info(
                "The zoo already has an upscaler of factor %d, %s: the first by file name is served.", factor, path.stem
            )


def _trunks_of_styles(zoo: Path) -> dict[str, str]:
    """Digests of the trunks of a zoo's styles, by what their files are called."""
    cards = {path.stem: read_card(path) for path in sorted(zoo.glob("*.safetensors"))}
    return {name: card.trunk_digest for name, card in cards.items() if card is not None and card.trunk_digest}
