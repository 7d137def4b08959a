"""Reads zoo files back: archives and style vectors, each checked against its card."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from models.card import CARD_FILE, CardError, ModelCard, Task
from models.sr_net import build_upscaler
from models.style_net import StyleTrunk
from training.errors import CheckpointError
from training.export import STYLE_VECTOR, to_bytes


def label_folders(zoos: Sequence[Path]) -> dict[Path, str]:
    """What to call folders: by their names, or by their paths where several have one name."""
    names = [zoo.name for zoo in set(zoos)]
    return {zoo: zoo.name if names.count(zoo.name) == 1 else str(zoo) for zoo in zoos}


@dataclass(frozen=True)
class Archive:
    """A network of the zoo as it is served, in float32, and its card."""

    module: torch.jit.ScriptModule
    card: ModelCard


def read_archive(path: Path, task: Task | None = None) -> Archive:
    """A trunk or upscaler. Raises `CheckpointError` if it is unreadable, damaged, or for another task than that."""
    extra = {CARD_FILE: ""}
    try:
        with warnings.catch_warnings():
            # torch 2.13 calls torch.jit deprecated; the archive is still what every runtime here reads.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
        card = ModelCard.from_json(extra[CARD_FILE])
        if task not in (None, card.task):
            raise CheckpointError(f"{path} holds no {task} but a {card.task}.")
        card.verify({name: to_bytes(value) for name, value in module.state_dict().items()})
        return Archive(module.float(), card)
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"Cannot read {path}: {error}") from error


def read_trunk(path: Path) -> tuple[StyleTrunk, ModelCard]:
    """A trunk from the zoo as a network that can be trained on. Raises `CheckpointError`."""
    trunk, card = read_trunk_of_any_version(path)
    if card.norm_size != trunk.norm_size:
        raise CheckpointError(
            f"{path} was exported by an earlier version: `python -m training.reexport {path}` brings it up to date."
        )
    return trunk, card


def read_trunk_of_any_version(path: Path) -> tuple[StyleTrunk, ModelCard]:
    """As `read_trunk`. The vectors that an old trunk's card speaks of may be shorter. Raises `CheckpointError`."""
    archive = read_archive(path, Task.STYLE_TRUNK)
    try:
        blocks = int(archive.card.architecture.rsplit("-", 1)[1])
        trunk = StyleTrunk(archive.card.width, blocks)
        trunk.load_state_dict(archive.module.state_dict())
        return trunk, archive.card
    except (RuntimeError, ValueError, IndexError) as error:
        raise CheckpointError(f"The trunk {path} has another shape than its card says: {error}") from error


def read_upscaler(path: Path) -> tuple[nn.Module, ModelCard]:
    """An upscaler from the zoo as a network that can be trained on. Raises `CheckpointError`."""
    archive = read_archive(path, Task.UPSCALE)
    try:
        network = build_upscaler(archive.card.architecture, archive.card.factor or 0)
        network.load_state_dict(archive.module.state_dict())
        return network, archive.card
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"The upscaler {path} has another shape than its card says: {error}") from error


@dataclass(frozen=True)
class Style:
    """A style's vector and card."""

    norm_P: Tensor
    card: ModelCard


def read_style(path: Path) -> Style:
    """A style. Raises `CheckpointError` if it is unreadable or damaged."""
    try:
        with safe_open(path, "pt") as file:
            card = ModelCard.from_json((file.metadata() or {}).get(CARD_FILE, ""))
            norm_P = file.get_tensor(STYLE_VECTOR)
        card.verify({STYLE_VECTOR: to_bytes(norm_P)})
        return Style(norm_P, card)
    except (OSError, SafetensorError, CardError) as error:
        raise CheckpointError(f"Cannot read the style {path}: {error}") from error


def read_card(path: Path) -> ModelCard | None:
    """The card of a zoo's file. None where there is no such file, or none that could be served."""
    try:
        return read_style(path).card if path.suffix == ".safetensors" else read_archive(path).card
    except CheckpointError:
        return None


def read_styles(zoo: Path, trunk_digest: str) -> list[Style]:
    """The styles in a folder that belong to a trunk, by name; files that cannot be read are passed over."""
    styles = []
    for path in sorted(zoo.glob("*.safetensors")):
        try:
            style = read_style(path)
        except CheckpointError:
            continue
        if style.card.trunk_digest == trunk_digest:
            styles.append(style)
    return styles
