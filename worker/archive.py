"""Reads the zoo's files and proves that they are whole."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from models.card import CARD_FILE, CardError, ModelCard, Task
from worker.arrays import Norms
from worker.errors import ZooError

STYLE_VECTOR = "norm_P"
"""Name of the one tensor in a style's file."""


@dataclass(frozen=True)
class Archive:
    """A network as the training exported it."""

    card: ModelCard
    module: nn.Module


def read_archive(path: Path) -> Archive:
    """A TorchScript archive with its card, digest checked. Raises `ZooError`."""
    extra = {CARD_FILE: ""}
    try:
        with warnings.catch_warnings():
            # torch 2.13 calls torch.jit deprecated; the archive is still what every runtime here reads.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
        card = ModelCard.from_json(extra[CARD_FILE])
        if card.task is Task.STYLE:
            raise ZooError(f"{path.name} is refused: a style belongs into a .safetensors file.")
        card.verify({name: value.numpy().tobytes() for name, value in module.state_dict().items()})
    except (OSError, RuntimeError, ValueError) as error:
        raise ZooError(f"{path.name} is refused: {_first_line(error)}") from error
    return Archive(card, module.eval())


def read_style(path: Path) -> tuple[ModelCard, Norms]:
    """A style's card and vector (P,), digest checked. Raises `ZooError`."""
    try:
        with safe_open(path, framework="numpy") as file:
            card = ModelCard.from_json((file.metadata() or {}).get(CARD_FILE, ""))
            norm_P: Norms = np.ascontiguousarray(file.get_tensor(STYLE_VECTOR))
        card.verify({STYLE_VECTOR: norm_P.tobytes()})
        if card.task is not Task.STYLE or norm_P.shape != (card.norm_size,) or norm_P.dtype != np.float32:
            raise CardError(f"it holds no style's vector but {card.task}, {norm_P.dtype} {norm_P.shape}.")
    except (OSError, SafetensorError, ValueError) as error:
        raise ZooError(f"{path.name} is refused: {_first_line(error)}") from error
    return card, norm_P


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
